/* The mean, or the largest, of the pixels of a window that lie inside the image. */
FUNCTION void $function(const $x *restrict x, $y *restrict y, int32_t shift, const window *v)
{
    for (int32_t row = 0; row < v->output_height; ++row) {
        const taps of_row = taps_of_row(v, row);
        for (int32_t column = 0; column < v->output_width; ++column, y += v->channels) {
            const taps t = taps_of_column(v, of_row, column);
            for (int32_t first = 0; first < v->channels; first += TILE) {
                const int32_t rest = v->channels - first, channels = rest < TILE ? rest : TILE;
                const $x *const corner = x + t.start + first;
                $acc totals[TILE];
                for (int32_t c = 0; c < channels; ++c)
                    totals[c] = begin_$reduction(corner[c]);
                for (int32_t i = 0; i < t.rows; ++i)
                    for (int32_t j = 0; j < t.columns; ++j) {
                        const $x *const pixel = corner + i * t.row_step + j * t.column_step;
                        for (int32_t c = 0; c < channels; ++c)
                            totals[c] = join_$reduction(totals[c], pixel[c]);
                    }
                for (int32_t c = 0; c < channels; ++c) {
                    const $wide result = finish_$reduction(totals[c], shift, t.rows * t.columns);
                    y[first + c] = ($y)clamp_$wide(result, $low, $high);
                }
            }
        }
    }
}
