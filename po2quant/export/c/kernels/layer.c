/* All output channels, group by group. */
FUNCTION void $function(const $x *restrict x, $y *y, void *scratch, const $w *restrict weights, const $channels *r,
                        const window *v)
{
    const int32_t depth = v->channels / v->groups, channels = v->output_channels / v->groups;
    for (int32_t group = 0; group < v->groups; ++group, weights += channels * v->row_width)
        $kernel(x + group * depth, y, scratch, weights, r, v, group * channels, (group + 1) * channels);
}
