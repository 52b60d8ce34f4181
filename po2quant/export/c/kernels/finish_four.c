#if defined(MVE_KERNELS)
/* The output channels c to c + 3, whose starts are not in the sums yet. */
INLINE void $function(int32x4_t sums, $y *y, const $channels *r, int32_t c)
{
    sums = vaddq_s32(sums, vldrwq_s32((const int32_t *)(r->start + c)));
    const int32x4_t shift = $shift_step ? vldrbq_s32(r->shift + c) : vdupq_n_s32(r->shift[0]);
    int32x4_t rounded = vshlq_s32(sums, vnegq_s32(shift));
    if ($ties) {
        const int32x4_t masked = vandq_s32(sums, vldrwq_s32((const int32_t *)(r->tie + c)));
        const uint32x4_t is_no_tie = vminq_u32(vreinterpretq_u32_s32(masked), vdupq_n_u32(1));
        rounded = vandq_s32(rounded, vreinterpretq_s32_u32(vorrq_u32(is_no_tie, vdupq_n_u32(0xFFFFFFFE))));
    }
    rounded = vminq_s32(vmaxq_s32(rounded, vdupq_n_s32($low)), vdupq_n_s32($high));
    $store((void *)(y + c), ${vector_cast}(rounded));
}
#endif
