#if defined(MVE_KERNELS)
/* One pixel times four rows of weights, sixteen inputs a step, the last step with the lanes that are left; unsigned
 * inputs less 128. */
INLINE void $function(const $patch *x, const i8 *row0, int32_t width, int32_t inputs, i32 *sums)
{
    i32 sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0; /* in even registers */
    const i8 *row1 = row0 + width, *row2 = row1 + width, *row3 = row2 + width;
    __asm__ volatile("vmov.i8 q5, #$flip\n\t"
                     "dlstp.8 lr, %[n]\n\t"
                     "1:\n\t"
                     "vldrb.8 q0, [%[x]], #16\n\t"
                     "vldrb.8 q1, [%[p]], #16\n\t"
                     "veor q0, q0, q5\n\t"
                     "vldrb.8 q2, [%[q]], #16\n\t"
                     "vmladava.s8 %[s0], q0, q1\n\t"
                     "vldrb.8 q3, [%[r]], #16\n\t"
                     "vmladava.s8 %[s1], q0, q2\n\t"
                     "vldrb.8 q4, [%[s]], #16\n\t"
                     "vmladava.s8 %[s2], q0, q3\n\t"
                     "vmladava.s8 %[s3], q0, q4\n\t"
                     "letp lr, 1b"
                     : [s0] "+Te"(sum0), [s1] "+Te"(sum1), [s2] "+Te"(sum2), [s3] "+Te"(sum3), [x] "+r"(x),
                       [p] "+r"(row0), [q] "+r"(row1), [r] "+r"(row2), [s] "+r"(row3)
                     : [n] "r"(inputs)
                     : "d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9", "d10", "d11", "lr", "cc", "memory");
    sums[0] = sum0, sums[1] = sum1, sums[2] = sum2, sums[3] = sum3;
}
#endif
