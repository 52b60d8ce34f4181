#if defined(MVE_KERNELS)
/* The output channels first to last - 1 of one pixel, four at a time, then one by one. */
FUNCTION void vectors_$function(const $patch *patch, $y *y, const $w *weights, const $channels *r, int32_t inputs,
                                int32_t width, int32_t first, int32_t last)
{
    $acc sums[4];
    int32_t c = first;
    for (; c + 4 <= last; c += 4, weights += 4 * width) {
        $vector_rows(patch, weights, width, inputs, sums);
        $four_sums(sums, y, r, c);
    }
    for (; c < last; ++c, weights += width) {
        $vector_rows(patch, weights, 0, inputs, sums);
        y[c] = $finish(sums[0] + $begin(r, c), r, c);
    }
}
#endif

/* One pixel more, whose patch is there; returns how many pixels wait for another. */
INLINE int32_t $function(const $patch *patch, int32_t held, u32 *pairs, $y *y, int32_t step, const $w *weights,
                         const $channels *r, int32_t inputs, int32_t width, int32_t first, int32_t last)
{
#if defined(MVE_KERNELS)
    (void)held, (void)pairs, (void)step;
    vectors_$function(patch, y, weights, r, inputs, width, first, last);
    return 0;
#else
    return $otherwise(patch, held, pairs, y, step, weights, r, inputs, width, first, last);
#endif
}

INLINE void rest_$function(u32 *pairs, $y *y, const $w *weights, const $channels *r, int32_t width, int32_t first,
                           int32_t last)
{
#if defined(MVE_KERNELS)
    (void)pairs, (void)y, (void)weights, (void)r, (void)width, (void)first, (void)last;
#else
    rest_$otherwise(pairs, y, weights, r, width, first, last);
#endif
}
