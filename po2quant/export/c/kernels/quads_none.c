INLINE int32_t $function(const $x *corner, $y *y, const $w *weights, const $channels *r, const window *v,
                         const taps *t)
{
    (void)corner, (void)y, (void)weights, (void)r, (void)v, (void)t;
    return 0;
}
