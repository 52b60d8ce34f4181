/* The largest of the pixels of a window that lie inside the image. */
FUNCTION void $function(const $x *restrict x, $y *restrict y, int32_t shift, const window *v)
{
    for (int32_t row = 0; row < v->output_height; ++row) {
        const taps of_row = taps_of_row(v, row);
        for (int32_t column = 0; column < v->output_width; ++column, y += v->channels) {
            const taps t = taps_of_column(v, of_row, column);
            for (int32_t first = 0; first < v->channels; first += TILE) {
                const int32_t rest = v->channels - first, channels = rest < TILE ? rest : TILE;
                $x totals[TILE];
                for (int32_t c = 0; c < channels; ++c)
                    totals[c] = x[t.start + first + c];
                for (int32_t i = 0; i < t.rows; ++i)
                    for (int32_t j = 0; j < t.columns; ++j) {
                        const $x *const pixel = x + t.start + i * t.row_step + j * t.column_step + first;
                        for (int32_t c = 0; c < channels; ++c)
                            totals[c] = pixel[c] > totals[c] ? pixel[c] : totals[c];
                    }
                for (int32_t c = 0; c < channels; ++c)
                    y[first + c] = ($y)clamp_$wide(round_shift${mode}_$wide(($wide)totals[c], shift), $low, $high);
            }
        }
    }
}
