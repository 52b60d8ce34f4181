#if defined(VNNI_KERNELS)
/* One pixel of 16 channels: rows times columns of widened taps from first on. */
INLINE __m512i sum_$function(__m512i sum, const $x *corner, const __m512i *tap, __mmask16 lanes, int32_t rows,
                             int32_t columns, const window *v, const taps *t)
{
    for (int32_t i = 0; i < rows; ++i)
        for (int32_t j = 0; j < columns; ++j) {
            const void *const pixel = corner + i * t->row_step + j * t->column_step;
            const __m512i x = _mm512_cvtep${kind}_epi32(_mm_maskz_loadu_epi8(lanes, pixel));
            sum = _mm512_dpwssd_epi32(sum, x, tap[i * v->columns + j]);
        }
    return sum;
}
#endif

/* All pixels, 16 channels at a time; returns whether the processor has instructions for it. */
INLINE int32_t $function(const $x *restrict x, $y *restrict y, const $w *restrict weights, const $channels *r,
                         const window *v)
{
#if defined(VNNI_KERNELS)
    for (int32_t first = 0; first < v->channels; first += 16) {
        const int32_t rest = v->channels - first;
        const __mmask16 lanes = (__mmask16)(rest < 16 ? (1 << rest) - 1 : 0xFFFF);
        const __m512i start = _mm512_maskz_loadu_epi32(lanes, r->start + first);
        __m512i taps_of_channels[$tap_count]; /* their upper halves are zeros: the lower ones of inputs are multiplied alone */
        for (int32_t k = 0; k < $tap_count; ++k) {
            const __m128i bytes = _mm_maskz_loadu_epi8(lanes, weights + k * v->channels + first);
            taps_of_channels[k] = _mm512_and_si512(_mm512_cvtepi8_epi32(bytes), _mm512_set1_epi32(0xFFFF));
        }
        for (int32_t row = 0; row < v->output_height; ++row) {
            const taps of_row = taps_of_row(v, row);
            for (int32_t column = 0; column < v->output_width; ++column) {
                const taps t = taps_of_column(v, of_row, column);
                const $x *const corner = x + t.start + first;
                __m512i sum;
                if (t.rows == v->rows && t.columns == v->columns)
                    sum = sum_$function(start, corner, taps_of_channels, lanes, v->rows, v->columns, v, &t);
                else
                    sum = sum_$function(start, corner, taps_of_channels + t.first, lanes, t.rows, t.columns, v, &t);
                $finish_sixteen(sum, y + (row * v->output_width + column) * v->channels, r, first, v->channels);
            }
        }
    }
    return 1;
#else
    (void)x, (void)y, (void)weights, (void)r, (void)v;
    return 0;
#endif
}
