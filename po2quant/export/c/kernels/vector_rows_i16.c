#if defined(MVE_KERNELS)
/* One pixel times two rows of weights, eight inputs of 16 bits a step, the last step with the lanes that are left. */
INLINE void two_$function(const $patch *x, const $w *row0, int32_t width, int32_t inputs, $acc *sums)
{
    $acc sum0 = 0, sum1 = 0;
    const $w *row1 = row0 + width;
    __asm__ volatile("dlstp.16 lr, %[n]\n\t"
                     "1:\n\t"
                     "$load_x q0, [%[x]], #$step_x\n\t"
                     "$load_w q1, [%[p]], #$step_w\n\t"
                     "$load_w q2, [%[q]], #$step_w\n\t"
                     "$sum_of_products.s16 $sum0, q0, q1\n\t"
                     "$sum_of_products.s16 $sum1, q0, q2\n\t"
                     "letp lr, 1b"
                     : [s0] "+$sums"(sum0), [s1] "+$sums"(sum1), [x] "+l"(x), [p] "+l"(row0), [q] "+l"(row1)
                     : [n] "r"(inputs)
                     : "d0", "d1", "d2", "d3", "d4", "d5", "lr", "cc", "memory");
    sums[0] = sum0, sums[1] = sum1;
}

/* One pixel times four rows. */
INLINE void $function(const $patch *x, const $w *row0, int32_t width, int32_t inputs, $acc *sums)
{
    two_$function(x, row0, width, inputs, sums);
    two_$function(x, row0 + 2 * width, width, inputs, sums + 2);
}
#endif
