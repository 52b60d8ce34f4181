#if defined(VNNI_KERNELS)
#include <immintrin.h>

/* One patch of unsigned bytes times four rows of weights, 64 inputs a step, the last step with those that are left. */
INLINE void $function(const patch_u8 *patch, const i8 *row0, const i8 *row1, const i8 *row2, const i8 *row3,
                      int32_t inputs, i32 *totals)
{
    __m512i sum0 = _mm512_setzero_si512(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    for (int32_t k = 0; k < inputs; k += 64) {
        const int32_t rest = inputs - k;
        const __mmask64 lanes = rest < 64 ? ((__mmask64)1 << rest) - 1 : ~(__mmask64)0;
        const __m512i x = _mm512_maskz_loadu_epi8(lanes, patch + k);
        sum0 = _mm512_dpbusd_epi32(sum0, x, _mm512_maskz_loadu_epi8(lanes, row0 + k));
        sum1 = _mm512_dpbusd_epi32(sum1, x, _mm512_maskz_loadu_epi8(lanes, row1 + k));
        sum2 = _mm512_dpbusd_epi32(sum2, x, _mm512_maskz_loadu_epi8(lanes, row2 + k));
        sum3 = _mm512_dpbusd_epi32(sum3, x, _mm512_maskz_loadu_epi8(lanes, row3 + k));
    }
    const __m256i half0 = _mm256_add_epi32(_mm512_castsi512_si256(sum0), _mm512_extracti64x4_epi64(sum0, 1));
    const __m256i half1 = _mm256_add_epi32(_mm512_castsi512_si256(sum1), _mm512_extracti64x4_epi64(sum1, 1));
    const __m256i half2 = _mm256_add_epi32(_mm512_castsi512_si256(sum2), _mm512_extracti64x4_epi64(sum2, 1));
    const __m256i half3 = _mm256_add_epi32(_mm512_castsi512_si256(sum3), _mm512_extracti64x4_epi64(sum3, 1));
    const __m256i quarters = _mm256_hadd_epi32(_mm256_hadd_epi32(half0, half1), _mm256_hadd_epi32(half2, half3));
    const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(quarters), _mm256_extracti128_si256(quarters, 1));
    _mm_storeu_si128((__m128i *)(void *)totals, sums);
}
#elif defined(VECTOR_KERNELS)
INLINE void $function(const patch_u8 *patch, const i8 *row0, const i8 *row1, const i8 *row2, const i8 *row3,
                      int32_t inputs, i32 *totals)
{
    $plain_row_sums(patch, row0, row1, row2, row3, inputs, totals);
}
#endif
