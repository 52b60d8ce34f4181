#if defined(DSP_KERNELS)
/* One tap of four channels. */
INLINE void $function(const $x *pixel, const i8 *tap, i32 *sums)
{
    const u32 x = word_at(pixel), w = word_at(tap);
    const u32 x02 = even_$x(x), x13 = odd_$x(x), w02 = even_i8(w), w13 = odd_i8(w);
    __asm__("smlabb %0, %1, %2, %0" : "+r"(sums[0]) : "r"(x02), "r"(w02));
    __asm__("smlabb %0, %1, %2, %0" : "+r"(sums[1]) : "r"(x13), "r"(w13));
    __asm__("smlatt %0, %1, %2, %0" : "+r"(sums[2]) : "r"(x02), "r"(w02));
    __asm__("smlatt %0, %1, %2, %0" : "+r"(sums[3]) : "r"(x13), "r"(w13));
}
#endif
