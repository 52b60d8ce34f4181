#if defined(DSP_KERNELS)
/* Four bytes become two words: inputs 0 and 1, 2 and 3. */
INLINE void $function(const $patch *patch, u32 *pairs, int32_t quads, int32_t step, int32_t second)
{
    for (; quads > 0; --quads, patch += 4, pairs += step) {
        const u32 word = word_at(patch), even = even_$byte(word), odd = odd_$byte(word);
        pairs[0] = lower_halves(even, odd);
        pairs[second] = upper_halves(even, odd);
    }
}
#endif
