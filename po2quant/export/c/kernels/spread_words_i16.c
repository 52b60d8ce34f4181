#if defined(DSP_KERNELS)
INLINE void $function(const $patch *patch, u32 *pairs, int32_t quads, int32_t step, int32_t second)
{
    for (; quads > 0; --quads, patch += 4, pairs += step) {
        pairs[0] = word_at(patch);
        pairs[second] = word_at(patch + 2);
    }
}
#endif
