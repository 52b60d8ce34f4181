#if defined(DSP_KERNELS)
/* The output channels of one pixel by fours; returns how many there were. */
FUNCTION int32_t $function(const $x *corner, $y *y, const $w *weights, const $channels *r, const window *v,
                           const taps *t)
{
    const int32_t channels = v->output_channels, column_step = t->column_step, row_step = t->row_step;
    const int32_t tap_step = v->columns * channels;
    int32_t c = 0;
    for (; c + 4 <= channels; c += 4) {
        i32 sums[4] = {$begin(r, c), $begin(r, c + 1), $begin(r, c + 2), $begin(r, c + 3)};
        const $x *row = corner + c;
        const $w *taps_of_row = weights + c;
        for (int32_t i = t->rows; i > 0; --i, row += row_step, taps_of_row += tap_step) {
            if (t->columns == 2 || t->columns == 3) {
                $tap_quad(row, taps_of_row, sums);
                $tap_quad(row + column_step, taps_of_row + channels, sums);
                if (t->columns == 3)
                    $tap_quad(row + 2 * column_step, taps_of_row + 2 * channels, sums);
            } else {
                const $x *pixel = row;
                const $w *tap = taps_of_row;
                for (int32_t j = t->columns; j > 0; --j, pixel += column_step, tap += channels)
                    $tap_quad(pixel, tap, sums);
            }
        }
        y[c] = $finish(sums[0], r, c);
        y[c + 1] = $finish(sums[1], r, c + 1);
        y[c + 2] = $finish(sums[2], r, c + 2);
        y[c + 3] = $finish(sums[3], r, c + 3);
    }
    return c;
}
#else
INLINE int32_t $function(const $x *corner, $y *y, const $w *weights, const $channels *r, const window *v,
                         const taps *t)
{
    (void)corner, (void)y, (void)weights, (void)r, (void)v, (void)t;
    return 0;
}
#endif
