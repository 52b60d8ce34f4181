/* The output channels first to last - 1 of pixels that are read where they are, if their type is that of a patch. */
FUNCTION void $function(const $x *restrict x, $y *y, void *scratch, const $w *restrict weights, const $channels *r,
                        const window *v, int32_t first, int32_t last)
{
    const int32_t inputs = v->channels, pixels = v->output_height * v->output_width;
    const int32_t is_patch = sizeof($x) == sizeof($patch) && $offset == 0 && inputs == v->row_width;
    u32 *const pairs = (u32 *)scratch;
    $patch *const copy = ($patch *)(void *)((u8 *)scratch + ON_DSP($pair_bytes) * v->row_width);
    int32_t held = 0;
    for (int32_t pixel = 0; pixel < pixels; ++pixel, x += inputs, y += v->output_channels) {
        if (!is_patch)
            for (int32_t k = 0; k < inputs; ++k)
                copy[k] = ($patch)(x[k] - $offset);
        const $patch *const patch = is_patch ? (const $patch *)(const void *)x : copy;
        held = $taken(patch, held, pairs, y, v->output_channels, weights, r, inputs, v->row_width, first, last);
    }
    if (held)
        rest_$taken(pairs, y - v->output_channels, weights, r, v->row_width, first, last);
}
