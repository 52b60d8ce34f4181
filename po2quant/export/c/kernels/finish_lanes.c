#if defined(MVE_KERNELS)
/* The output channels c to c + 3, whose starts are not in the sums yet. */
INLINE void $function(int32x4_t four, $y *y, const $channels *r, int32_t c)
{
    i32 sums[4];
    vstrwq_s32((int32_t *)sums, four);
    $apart(sums, y, r, c);
}
#endif
