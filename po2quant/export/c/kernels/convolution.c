/* The output channels first to last - 1 of all pixels; scratch is the place of two patches, and of one more. */
FUNCTION void $function(const $x *restrict x, $y *y, void *scratch, const $w *restrict weights, const $channels *r,
                        const window *v, int32_t first, int32_t last)
{
    const int32_t depth = v->channels / v->groups, inputs = v->rows * v->columns * depth;
    u32 *const pairs = (u32 *)scratch;
    $patch *const patch = ($patch *)(void *)((u8 *)scratch + ON_DSP($pair_bytes) * v->row_width);
    int32_t held = 0;
    for (int32_t row = 0; row < v->output_height; ++row)
        for (int32_t column = 0; column < v->output_width; ++column, y += v->output_channels) {
            $gather(x, patch, v, row * v->row_stride - v->top, column * v->column_stride - v->left, depth);
            held = $taken(patch, held, pairs, y, v->output_channels, weights, r, inputs, v->row_width, first, last);
        }
    if (held)
        rest_$taken(pairs, y - v->output_channels, weights, r, v->row_width, first, last);
}
