#if defined(MVE_KERNELS)
/* Four output channels from c on, whose starts are not in the sums yet. */
INLINE void $function(const i32 *sums, $y *y, const $channels *r, int32_t c)
{
    int32x4_t four = vdupq_n_s32(sums[0]);
    four = vsetq_lane_s32(sums[1], four, 1);
    four = vsetq_lane_s32(sums[2], four, 2);
    four = vsetq_lane_s32(sums[3], four, 3);
    $four(four, y, r, c);
}
#endif
