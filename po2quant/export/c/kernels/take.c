/* One pixel more, whose patch is there; returns how many pixels wait for another. */
INLINE int32_t $function(const $patch *patch, int32_t held, u32 *pairs, $y *y, int32_t step, const $w *weights,
                         const $channels *r, int32_t inputs, int32_t width, int32_t first, int32_t last)
{
    (void)held, (void)pairs, (void)step;
    $dots(patch, y, weights, r, inputs, width, first, last);
    return 0;
}

INLINE void rest_$function(u32 *pairs, $y *y, const $w *weights, const $channels *r, int32_t width, int32_t first,
                           int32_t last)
{
    (void)pairs, (void)y, (void)weights, (void)r, (void)width, (void)first, (void)last;
}
