FUNCTION void $function(const $x *restrict x, $y *restrict y, void *scratch, const u8 *restrict weights,
                        const $channels *r, const window *v)
{
    $w *const unpacked = ($w *)scratch;
    $unpack(weights, 0, unpacked, v->rows * v->columns * v->output_channels);
    $depthwise(x, y, unpacked, r, v);
}
