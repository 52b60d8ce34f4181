#if defined(DSP_KERNELS)
#define ROW_PAIR(sum, row, input)                       \
    "ldr %[t], " row "\n\t"                             \
    "smlad %[" sum "], %[" input "], %[t], %[" sum "]\n\t"

/* One pixel times four rows of weights that lie step integers apart, four inputs a step. */
INLINE void $function(const u32 *x, const i16 *p, int32_t step, int32_t quads, i32 *sums)
{
    i32 s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    const i16 *q = p + 3 * step;
    u32 a, b, t;
    register int32_t n __asm__("lr") = quads; /* else the compiler may keep it for a loop around this one */
    __asm__ volatile("1:\n\t"
                     "ldrd %[a], %[b], [%[x]], #8\n\t"
                     ROW_PAIR("s1", "[%[p], %[step]]", "a")
                     ROW_PAIR("s2", "[%[p], %[step], lsl #1]", "a")
                     ROW_PAIR("s0", "[%[p]], #4", "a")
                     ROW_PAIR("s3", "[%[q]], #4", "a")
                     ROW_PAIR("s1", "[%[p], %[step]]", "b")
                     ROW_PAIR("s2", "[%[p], %[step], lsl #1]", "b")
                     ROW_PAIR("s0", "[%[p]], #4", "b")
                     ROW_PAIR("s3", "[%[q]], #4", "b")
                     "subs %[n], #1\n\t"
                     "bne 1b"
                     : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [x] "+r"(x), [p] "+r"(p),
                       [q] "+r"(q), [n] "+r"(n), [a] "=&r"(a), [b] "=&r"(b), [t] "=&r"(t)
                     : [step] "r"(2 * step)
                     : "cc", "memory");
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif
