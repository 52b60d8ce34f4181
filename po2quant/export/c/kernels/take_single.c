#if defined(DSP_KERNELS)
/* The output channels first to last - 1 of one pixel: four at a time, the last four once more if need be. */
FUNCTION void rows_$function(const u32 *pairs, $y *y, const $w *weights, const $channels *r, int32_t width,
                             int32_t first, int32_t last)
{
    const int32_t channels = last - first, next = channels >= 4, together = next ? 4 : 1;
    for (int32_t start = 0; start < channels; start += together) {
        const int32_t row = start + together <= channels ? start : channels - together, c = first + row;
        i32 sums[4] = {$begin(r, c), $begin(r, c + next), $begin(r, c + 2 * next), $begin(r, c + 3 * next)};
        $row_dot(pairs, weights + row * width, next * width, width / 4, sums);
        y[c] = $finish(sums[0], r, c);
        y[c + next] = $finish(sums[1], r, c + next);
        y[c + 2 * next] = $finish(sums[2], r, c + 2 * next);
        y[c + 3 * next] = $finish(sums[3], r, c + 3 * next);
    }
}
#endif

/* The only pixel. */
INLINE int32_t $function(const $patch *patch, int32_t held, u32 *pairs, $y *y, int32_t step, const $w *weights,
                         const $channels *r, int32_t inputs, int32_t width, int32_t first, int32_t last)
{
    (void)held, (void)step;
#if defined(DSP_KERNELS)
    (void)inputs;
    $spread(patch, pairs, width / 4, 2, 1);
    rows_$function(pairs, y, weights, r, width, first, last);
#else
    (void)pairs;
    $dots(patch, y, weights, r, inputs, width, first, last);
#endif
    return 0;
}

INLINE void rest_$function(u32 *pairs, $y *y, const $w *weights, const $channels *r, int32_t width, int32_t first,
                           int32_t last)
{
    (void)pairs, (void)y, (void)weights, (void)r, (void)width, (void)first, (void)last;
}
