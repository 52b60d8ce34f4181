#if defined(VECTOR_KERNELS)
/* One patch times four rows of weights. */
INLINE void $function(const $patch *restrict patch, const $w *restrict row0, const $w *restrict row1,
                      const $w *restrict row2, const $w *restrict row3, int32_t inputs, $acc *restrict totals)
{
    $acc sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    for (int32_t k = 0; k < inputs; ++k) {
        sum0 += ($acc)patch[k] * ($acc)row0[k];
        sum1 += ($acc)patch[k] * ($acc)row1[k];
        sum2 += ($acc)patch[k] * ($acc)row2[k];
        sum3 += ($acc)patch[k] * ($acc)row3[k];
    }
    totals[0] = sum0, totals[1] = sum1, totals[2] = sum2, totals[3] = sum3;
}
#endif
