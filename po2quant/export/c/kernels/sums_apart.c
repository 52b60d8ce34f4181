/* Four output channels from c on, whose starts are not in the sums yet. */
INLINE void $function(const $acc *sums, $y *y, const $channels *r, int32_t c)
{
    for (int32_t i = 0; i < 4; ++i)
        y[c + i] = $finish(sums[i] + $begin(r, c + i), r, c + i);
}
