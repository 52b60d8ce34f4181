/* The output channels first to last - 1 of one pixel: a patch times the weights of each channel. */
INLINE void $function(const $patch *restrict patch, $y *restrict y, const $w *restrict weights, const $channels *r,
                      int32_t inputs, int32_t width, int32_t first, int32_t last)
{
#if defined(VECTOR_KERNELS)
    const $channels own = *r; /* which no store to y changes */
    for (int32_t start = first; start < last; start += TILE, weights += TILE * width) {
        const int32_t rest = last - start, channels = rest < TILE ? rest : TILE;
        $acc totals[TILE];
        for (int32_t c = 0; c < channels; c += 4) { /* of the last four, those that are missing repeat the first */
            const $w *const row0 = weights + c * width;
            const $w *const row1 = c + 1 < channels ? row0 + width : row0;
            const $w *const row2 = c + 2 < channels ? row0 + 2 * width : row0;
            const $w *const row3 = c + 3 < channels ? row0 + 3 * width : row0;
            $row_sums(patch, row0, row1, row2, row3, inputs, totals + c);
        }
        for (int32_t c = 0; c < channels; ++c)
            y[start + c] = $finish(totals[c] + $begin(&own, start + c), &own, start + c);
    }
#else
    for (int32_t c = first; c < last; c += 2, weights += 2 * width) {
        const $w *const row0 = weights, *const row1 = c + 1 < last ? weights + width : weights;
        $acc sum0 = 0, sum1 = 0;
        for (int32_t k = 0; k < inputs; ++k) {
            const $acc value = ($acc)patch[k];
            sum0 += value * ($acc)row0[k];
            sum1 += value * ($acc)row1[k];
        }
        y[c] = $finish(sum0 + $begin(r, c), r, c);
        if (c + 1 < last)
            y[c + 1] = $finish(sum1 + $begin(r, c + 1), r, c + 1);
    }
#endif
}
