#if defined(DSP_KERNELS)
/* Two pixels times two rows of weights, four inputs a step. */
INLINE void $function(const u32 *x, const $w *p, const $w *q, int32_t quads, i32 *sums)
{
    i32 s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    u32 a, b, t, u, v;
    if (quads & 1)
        __asm__ volatile(PAIR_QUAD_$w
                         : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [x] "+r"(x), [p] "+r"(p),
                           [q] "+r"(q), [a] "=&r"(a), [b] "=&r"(b), [t] "=&r"(t), [u] "=&r"(u), [v] "=&r"(v)
                         :
                         : "memory");
    register int32_t n __asm__("lr") = quads >> 1; /* else the compiler may keep it for a loop around this one */
    if (n > 0)
        __asm__ volatile("1:\n\t" PAIR_QUAD_$w PAIR_QUAD_$w "subs %[n], #1\n\t"
                         "bne 1b"
                         : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [x] "+r"(x), [p] "+r"(p),
                           [q] "+r"(q), [n] "+r"(n), [a] "=&r"(a), [b] "=&r"(b), [t] "=&r"(t), [u] "=&r"(u),
                           [v] "=&r"(v)
                         :
                         : "cc", "memory");
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif
