#if defined(MVE_KERNELS)
INLINE int32x4_t tap_$function(int32x4_t sums, const $x *pixel, const $w *tap)
{
    return vaddq_s32(sums, vmulq_s32($widened, $widened_tap));
}

/* Four output channels of one pixel, or eight, whose taps share their addresses. */
INLINE void group_$function(const $x *row, $y *y, const $w *row_of_taps, const $channels *r, const window *v,
                            const taps *t, int32_t c, int32_t is_eight)
{
    int32x4_t low = vdupq_n_s32(0), high = low;
    const int32_t channels = v->output_channels, column_step = t->column_step;
    for (int32_t i = t->rows; i > 0; --i, row += t->row_step, row_of_taps += v->columns * channels) {
        const $x *pixel = row;
        const $w *tap = row_of_taps;
        for (int32_t j = t->columns; j > 0; --j, pixel += column_step, tap += channels) {
            low = tap_$function(low, pixel, tap);
            if (is_eight)
                high = tap_$function(high, pixel + 4, tap + 4);
        }
    }
    $four(low, y, r, c);
    if (is_eight)
        $four(high, y, r, c + 4);
}

/* The output channels of one pixel by fours; returns how many there were. */
FUNCTION int32_t $function(const $x *corner, $y *y, const $w *weights, const $channels *r, const window *v,
                           const taps *t)
{
    int32_t c = 0;
    for (; c + 8 <= v->output_channels; c += 8)
        group_$function(corner + c, y, weights + c, r, v, t, c, 1);
    for (; c + 4 <= v->output_channels; c += 4)
        group_$function(corner + c, y, weights + c, r, v, t, c, 0);
    return c;
}
#else
INLINE int32_t $function(const $x *corner, $y *y, const $w *weights, const $channels *r, const window *v,
                         const taps *t)
{
    return $quads_otherwise(corner, y, weights, r, v, t);
}
#endif
