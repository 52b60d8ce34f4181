#if defined(DSP_KERNELS)
#define PLUS_PRODUCT(sum, x, x_half, w, w_half) \
    __asm__("smla" x_half w_half " %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(w))

/* One tap of four channels. */
INLINE void $function(const $x *pixel, const $w *tap, i32 *sums)
{
    const u32 x0 = first_$x(pixel), x1 = second_$x(pixel), w0 = first_$w(tap), w1 = second_$w(tap);
    PLUS_PRODUCT(sums[0], x0, "b", w0, "b");
    PLUS_PRODUCT(sums[1], $second_x, $second_w);
    PLUS_PRODUCT(sums[2], $third_x, $third_w);
    PLUS_PRODUCT(sums[3], x1, "t", w1, "t");
}
#endif
