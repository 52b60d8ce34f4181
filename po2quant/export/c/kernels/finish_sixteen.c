#if defined(VNNI_KERNELS)
/* The output channels c to c + 15, or those of them that there are. */
INLINE void $function(__m512i sums, $y *y, const $channels *r, int32_t c, int32_t channels)
{
    const __mmask16 lanes = (__mmask16)(channels - c < 16 ? (1 << (channels - c)) - 1 : 0xFFFF);
    const __m128i shifts = $shift_step ? _mm_maskz_loadu_epi8(lanes, r->shift + c) : _mm_set1_epi8(r->shift[0]);
    __m512i rounded = _mm512_srav_epi32(sums, _mm512_cvtepi8_epi32(shifts));
    if ($ties) {
        const __mmask16 is_tie = _mm512_testn_epi32_mask(sums, _mm512_maskz_loadu_epi32(lanes, r->tie + c));
        rounded = _mm512_mask_and_epi32(rounded, is_tie, rounded, _mm512_set1_epi32(~1));
    }
    rounded = _mm512_min_epi32(_mm512_max_epi32(rounded, _mm512_set1_epi32($low)), _mm512_set1_epi32($high));
    _mm512_mask_cvtepi32_storeu_epi$output_bits(y + c, lanes, rounded);
}
#endif
