#if defined(DSP_KERNELS)
/* Four bytes become two words: inputs 0 and 2, 1 and 3, as the kernels widen weights of 8 bits. */
INLINE void $function(const $patch *patch, u32 *pairs, int32_t quads, int32_t step, int32_t second)
{
    for (; quads > 0; --quads, patch += 4, pairs += step) {
        const u32 word = word_at(patch);
        pairs[0] = even_$byte(word);
        pairs[second] = odd_$byte(word);
    }
}
#endif
