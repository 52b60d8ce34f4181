#if defined(DSP_KERNELS)
INLINE i64 plus_pair_$function(i64 sum, u32 x, u32 w)
{
    __asm__("smlald %Q0, %R0, %1, %2" : "+r"(sum) : "r"(x), "r"(w));
    return sum;
}
#endif

/* The output channels first to last - 1 of one pixel, in sums of 64 bits. */
INLINE int32_t $function(const $patch *patch, int32_t held, u32 *pairs, $y *y, int32_t step, const $w *weights,
                         const $channels *r, int32_t inputs, int32_t width, int32_t first, int32_t last)
{
    (void)held, (void)pairs, (void)step;
#if defined(DSP_KERNELS)
    (void)inputs;
    for (int32_t c = first; c < last; c += 2, weights += 2 * width) {
        const int32_t next = c + 1 < last ? c + 1 : c;
        const $w *const row0 = weights, *const row1 = weights + (next - c) * width;
        i64 sum0 = $begin(r, c), sum1 = $begin(r, next);
        for (int32_t k = 0; k < width; k += 4) {
            const u32 low = word_at(patch + k), high = word_at(patch + k + 2);
            sum0 = plus_pair_$function(sum0, low, word_at(row0 + k));
            sum0 = plus_pair_$function(sum0, high, word_at(row0 + k + 2));
            sum1 = plus_pair_$function(sum1, low, word_at(row1 + k));
            sum1 = plus_pair_$function(sum1, high, word_at(row1 + k + 2));
        }
        y[c] = $finish(sum0, r, c);
        y[next] = $finish(sum1, r, next);
    }
#else
    $dots(patch, y, weights, r, inputs, width, first, last);
#endif
    return 0;
}

INLINE void rest_$function(u32 *pairs, $y *y, const $w *weights, const $channels *r, int32_t width, int32_t first,
                           int32_t last)
{
    (void)pairs, (void)y, (void)weights, (void)r, (void)width, (void)first, (void)last;
}
