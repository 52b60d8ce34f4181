/* All output channels, group by group; a block of them is unpacked, and then used for all pixels. */
FUNCTION void $function(const $x *restrict x, $y *y, void *scratch, const u8 *restrict weights, const $channels *r,
                        const window *v)
{
    const int32_t depth = v->channels / v->groups, channels = v->output_channels / v->groups;
    $w *const rows = ($w *)scratch;
    u8 *const rest = (u8 *)scratch + (uint32_t)($block * v->row_width) * sizeof($w);
    for (int32_t group = 0; group < v->groups; ++group)
        for (int32_t first = group * channels; first < (group + 1) * channels; first += $block) {
            const int32_t end = first + $block, last = end < (group + 1) * channels ? end : (group + 1) * channels;
            $unpack(weights, (uint32_t)(first * v->row_width), rows, (last - first) * v->row_width);
            $kernel(x + group * depth, y, rest, rows, r, v, first, last);
        }
}
