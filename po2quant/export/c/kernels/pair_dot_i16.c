#if defined(DSP_KERNELS)
/* Two pixels times two rows of weights, four inputs a step. */
INLINE void $function(const u32 *x, const i16 *p, const i16 *q, int32_t quads, i32 *sums)
{
    i32 s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    u32 a, b, t, u, v;
    register int32_t n __asm__("lr") = quads; /* else the compiler may keep it for a loop around this one */
    __asm__ volatile("1:\n\t"
                     "ldrd %[a], %[b], [%[x]], #8\n\t"
                     "ldrd %[t], %[u], [%[p]], #8\n\t"
                     "smlad %[s0], %[a], %[t], %[s0]\n\t"
                     "smlad %[s1], %[b], %[t], %[s1]\n\t"
                     "ldrd %[t], %[v], [%[q]], #8\n\t"
                     "smlad %[s2], %[a], %[t], %[s2]\n\t"
                     "smlad %[s3], %[b], %[t], %[s3]\n\t"
                     "ldrd %[a], %[b], [%[x]], #8\n\t"
                     "smlad %[s0], %[a], %[u], %[s0]\n\t"
                     "smlad %[s1], %[b], %[u], %[s1]\n\t"
                     "smlad %[s2], %[a], %[v], %[s2]\n\t"
                     "smlad %[s3], %[b], %[v], %[s3]\n\t"
                     "subs %[n], #1\n\t"
                     "bne 1b"
                     : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [x] "+r"(x), [p] "+r"(p),
                       [q] "+r"(q), [n] "+r"(n), [a] "=&r"(a), [b] "=&r"(b), [t] "=&r"(t), [u] "=&r"(u),
                       [v] "=&r"(v)
                     :
                     : "cc", "memory");
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif
