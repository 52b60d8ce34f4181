#if defined(VNNI_KERNELS)
/* Four pixels, each of them rows of words wherever they lie, and their outputs. */
typedef struct {
    const $x *first[4];
    int32_t pitch[4]; /* of rows */
    $y *y[4];
    int32_t rows, words;
} four_$function;

/* The output channels c to c + 16 * blocks - 1 of four pixels. */
INLINE __attribute__((always_inline)) void blocks_$function(const four_$function *f, const i32 *weights,
                                                            const $channels *r, int32_t c, int32_t channels,
                                                            const int32_t blocks)
{
    const int32_t block = 16 + 16 * f->rows * f->words;
    const __m512i flip = _mm512_set1_epi8($flip_bytes);
    __m512i sums[2][4];
    for (int32_t p = 0; p < 4; ++p) {
        sums[0][p] = _mm512_load_si512(weights);
        sums[1][p] = blocks == 2 ? _mm512_load_si512(weights + block) : _mm512_setzero_si512();
    }
    const i32 *w = weights + 16;
    for (int32_t row = 0; row < f->rows; ++row) {
        const i32 *x[4];
        for (int32_t p = 0; p < 4; ++p)
            x[p] = (const i32 *)(const void *)(f->first[p] + row * f->pitch[p]);
        for (int32_t k = 0; k < f->words; ++k, w += 16) {
            const __m512i w0 = _mm512_load_si512(w), w1 = blocks == 2 ? _mm512_load_si512(w + block) : w0;
            for (int32_t p = 0; p < 4; ++p) {
                const __m512i word = _mm512_xor_si512(_mm512_set1_epi32(((const loose_i32 *)x[p])[k].word), flip);
                sums[0][p] = _mm512_dpbusd_epi32(sums[0][p], word, w0);
                if (blocks == 2)
                    sums[1][p] = _mm512_dpbusd_epi32(sums[1][p], word, w1);
            }
        }
    }
    for (int32_t p = 0; p < 4; ++p) {
        $finish_sixteen(sums[0][p], f->y[p], r, c, channels);
        if (blocks == 2)
            $finish_sixteen(sums[1][p], f->y[p], r, c + 16, channels);
    }
}

static __attribute__((noinline, unused)) void pixels_$function(const four_$function *f, const i32 *weights,
                                                               const $channels *r, int32_t channels)
{
    const int32_t block = 16 + 16 * f->rows * f->words;
    int32_t c = 0;
    for (; c + 16 < channels; c += 32, weights += 2 * block)
        blocks_$function(f, weights, r, c, channels, 2);
    if (c < channels)
        blocks_$function(f, weights, r, c, channels, 1);
}
#endif

/* All output channels of all pixels; where vectors of four products sum at once, weights lie as they take them. */
FUNCTION void $function(const $x *restrict x, $y *y, void *scratch, const void *weights, const $channels *r,
                        const window *v)
{
#if defined(VNNI_KERNELS)
    const int32_t reach = v->columns * v->channels, pixels = v->output_height * v->output_width;
    const int32_t in_place = v->column_dilation == 1 && reach % 4 == 0;
    four_$function f;
    f.rows = in_place ? v->rows : 1;
    f.words = (in_place ? reach : v->row_width) / 4;
    for (int32_t pixel = 0; pixel < pixels; pixel += 4) {
        for (int32_t p = 0; p < 4; ++p) { /* the last one again where there are no more */
            const int32_t place = pixel + p < pixels ? pixel + p : pixels - 1;
            const int32_t top = place / v->output_width * v->row_stride - v->top;
            const int32_t left = place % v->output_width * v->column_stride - v->left;
            $x *const patch = ($x *)scratch + p * v->row_width;
            f.y[p] = y + place * v->output_channels;
            f.first[p] = patch;
            f.pitch[p] = reach;
            if (in_place && top >= 0 && top + (v->rows - 1) * v->row_dilation < v->height && left >= 0
                && left + v->columns <= v->width) {
                f.first[p] = x + (top * v->width + left) * v->channels;
                f.pitch[p] = v->row_dilation * v->width * v->channels;
            } else
                $copied(x, patch, v, top, left, v->channels);
        }
        pixels_$function(&f, (const i32 *)weights, r, v->output_channels);
    }
#else
    $layer(x, y, scratch, (const $w *)weights, r, v);
#endif
}
