/* Each output channel sums the taps of one input channel. */
FUNCTION void $function(const $x *restrict x, $y *restrict y, const $w *restrict weights, const $channels *r,
                        const window *v)
{
    if ($sixteens(x, y, weights, r, v))
        return;
    for (int32_t row = 0; row < v->output_height; ++row) {
        const taps of_row = taps_of_row(v, row);
        for (int32_t column = 0; column < v->output_width; ++column, y += v->output_channels) {
            const taps t = taps_of_column(v, of_row, column);
            const $x *const corner = x + t.start;
            const $w *const first_weights = weights + t.first * v->output_channels;
            int32_t first = 0;
#if defined(VECTOR_KERNELS)
            const $channels own = *r; /* which no store to y changes */
            for (; first < v->output_channels; first += TILE) {
                const int32_t rest = v->output_channels - first, channels = rest < TILE ? rest : TILE;
                $acc totals[TILE];
                for (int32_t c = 0; c < channels; ++c)
                    totals[c] = $begin(&own, first + c);
                for (int32_t i = 0; i < t.rows; ++i)
                    for (int32_t j = 0; j < t.columns; ++j) {
                        const $x *const pixel = corner + i * t.row_step + j * t.column_step;
                        const $w *const tap = first_weights + (i * v->columns + j) * v->output_channels + first;
                        for (int32_t c = 0; c < channels; ++c)
                            totals[c] += ($acc)pixel[(first + c) / $multiplier] * ($acc)tap[c];
                    }
                for (int32_t c = 0; c < channels; ++c)
                    y[first + c] = $finish(totals[c], &own, first + c);
            }
#else
            first = $quads(corner, y, first_weights, r, v, &t);
            int32_t channel = $multiplier == 1 ? first : 0, part = 0; /* of the input, and of its outputs */
            for (; first < v->output_channels; ++first) {
                $acc sum = $begin(r, first);
                const $x *pixel = corner + channel;
                const $w *tap = first_weights + first;
                for (int32_t i = 0; i < t.rows; ++i) {
                    for (int32_t j = 0; j < t.columns; ++j) {
                        sum += ($acc)*pixel * ($acc)*tap;
                        pixel += t.column_step;
                        tap += v->output_channels;
                    }
                    pixel += t.row_step - t.columns * t.column_step;
                    tap += (v->columns - t.columns) * v->output_channels;
                }
                y[first] = $finish(sum, r, first);
                if (++part == $multiplier) {
                    part = 0;
                    ++channel;
                }
            }
#endif
        }
    }
}
