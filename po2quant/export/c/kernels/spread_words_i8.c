#if defined(DSP_KERNELS)
/* Four inputs of 16 bits become two words: 0 and 2, 1 and 3, as the kernels widen weights of 8 bits. */
INLINE void $function(const $patch *patch, u32 *pairs, int32_t quads, int32_t step, int32_t second)
{
    for (; quads > 0; --quads, patch += 4, pairs += step) {
        const u32 low = word_at(patch), high = word_at(patch + 2);
        pairs[0] = lower_halves(low, high);
        pairs[second] = upper_halves(low, high);
    }
}
#endif
