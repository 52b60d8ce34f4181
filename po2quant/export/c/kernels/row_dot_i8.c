#if defined(DSP_KERNELS)
#define ROW_QUAD(sum, row)                          \
    "ldr %[u], " row "\n\t"                         \
    "sxtb16 %[t], %[u]\n\t"                         \
    "sxtb16 %[u], %[u], ror #8\n\t"                 \
    "smlad %[" sum "], %[a], %[t], %[" sum "]\n\t"  \
    "smlad %[" sum "], %[b], %[u], %[" sum "]\n\t"

/* One pixel times four rows of weights that lie step bytes apart, four inputs a step. */
INLINE void $function(const u32 *x, const i8 *p, int32_t step, int32_t quads, i32 *sums)
{
    i32 s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    const i8 *q = p + 3 * step;
    u32 a, b, t, u;
    register int32_t n __asm__("lr") = quads; /* else the compiler may keep it for a loop around this one */
    __asm__ volatile("1:\n\t"
                     "ldrd %[a], %[b], [%[x]], #8\n\t"
                     ROW_QUAD("s1", "[%[p], %[step]]")
                     ROW_QUAD("s2", "[%[p], %[step], lsl #1]")
                     ROW_QUAD("s0", "[%[p]], #4")
                     ROW_QUAD("s3", "[%[q]], #4")
                     "subs %[n], #1\n\t"
                     "bne 1b"
                     : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [x] "+r"(x), [p] "+r"(p),
                       [q] "+r"(q), [n] "+r"(n), [a] "=&r"(a), [b] "=&r"(b), [t] "=&r"(t), [u] "=&r"(u)
                     : [step] "r"(step)
                     : "cc", "memory");
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif
