#if defined(DSP_KERNELS)
/* Each four inputs become two words: of bytes, as those of weights of 16 bits lie, and the other way round. */
INLINE void $function(const $patch *patch, u32 *pairs, int32_t quads, int32_t step, int32_t second)
{
    for (; quads > 0; --quads, patch += 4, pairs += step) {
        const u32 a = first_$kind(patch), b = second_$kind(patch);
        pairs[0] = lower_halves(a, b);
        pairs[second] = upper_halves(a, b);
    }
}
#endif
