#if defined(DSP_KERNELS)
/* Each four inputs become two words, whose integers lie as those of the weights do. */
INLINE void $function(const $patch *patch, u32 *pairs, int32_t quads, int32_t step, int32_t second)
{
    for (; quads > 0; --quads, patch += 4, pairs += step) {
        const u32 a = first_$kind(patch), b = second_$kind(patch);
        pairs[0] = a;
        pairs[second] = b;
    }
}
#endif
