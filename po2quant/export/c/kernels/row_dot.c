#if defined(DSP_KERNELS)
/* One pixel times four rows of weights that lie step integers apart, four inputs a step. */
INLINE void $function(const u32 *x, const $w *p, int32_t step, int32_t quads, i32 *sums)
{
    i32 s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    const $w *q = p + 3 * step;
    u32 a, b, t, u;
    register int32_t n __asm__("lr") = quads; /* else the compiler may keep it for a loop around this one */
    __asm__ volatile("1:\n\t"
                     "ldrd %[a], %[b], [%[x]], #8\n\t" ROW_QUAD_$w "subs %[n], #1\n\t"
                     "bne 1b"
                     : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [x] "+r"(x), [p] "+r"(p),
                       [q] "+r"(q), [n] "+r"(n), [a] "=&r"(a), [b] "=&r"(b), [t] "=&r"(t), [u] "=&r"(u)
                     : [step] "r"(step * (int32_t)sizeof($w))
                     : "cc", "memory");
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif
