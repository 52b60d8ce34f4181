#if defined(DSP_KERNELS)
/* The output channels first to last - 1 of two pixels; of one pixel, if y1 is y0, whose outputs are written last. */
FUNCTION void pairs_$function(const u32 *pairs, $y *y0, $y *y1, const $w *weights, const $channels *r, int32_t width,
                              int32_t first, int32_t last)
{
    for (int32_t c = first; c < last; c += 2, weights += 2 * width) {
        const int32_t next = c + 1 < last ? c + 1 : c;
        i32 sums[4] = {$begin(r, c), $begin(r, c), $begin(r, next), $begin(r, next)};
        $pair_dot(pairs, weights, weights + (next - c) * width, width / 4, sums);
        y1[next] = $finish(sums[3], r, next);
        y1[c] = $finish(sums[1], r, c);
        y0[next] = $finish(sums[2], r, next);
        y0[c] = $finish(sums[0], r, c);
    }
}
#endif

/* One pixel more, whose patch is there; returns how many pixels wait for another. */
INLINE int32_t $function(const $patch *patch, int32_t held, u32 *pairs, $y *y, int32_t step, const $w *weights,
                         const $channels *r, int32_t inputs, int32_t width, int32_t first, int32_t last)
{
#if defined(DSP_KERNELS)
    (void)inputs;
    $spread(patch, pairs + held, width / 4, 4, 2);
    if (held)
        pairs_$function(pairs, y - step, y, weights, r, width, first, last);
    return !held;
#else
    (void)held, (void)pairs, (void)step;
    $dots(patch, y, weights, r, inputs, width, first, last);
    return 0;
#endif
}

INLINE void rest_$function(u32 *pairs, $y *y, const $w *weights, const $channels *r, int32_t width, int32_t first,
                           int32_t last)
{
#if defined(DSP_KERNELS)
    pairs_$function(pairs, y, y, weights, r, width, first, last);
#else
    (void)pairs, (void)y, (void)weights, (void)r, (void)width, (void)first, (void)last;
#endif
}
