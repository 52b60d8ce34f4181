#if defined(DSP_KERNELS)
/* The integers 0 and 2, 1 and 3 of each four become 0 and 4, 1 and 5, 2 and 6, 3 and 7 of eight; returns their sum. */
INLINE i32 order_$function(u32 *pairs, int32_t eights)
{
    i32 sum = 0;
    for (; eights > 0; --eights, pairs += 4) {
        const u32 a = pairs[0], b = pairs[1], c = pairs[2], d = pairs[3];
        pairs[0] = lower_halves(a, c);
        pairs[1] = lower_halves(b, d);
        pairs[2] = upper_halves(a, c);
        pairs[3] = upper_halves(b, d);
        sum = plus_products(plus_products(sum, a, 0x10001), b, 0x10001);
        sum = plus_products(plus_products(sum, c, 0x10001), d, 0x10001);
    }
    return sum;
}

/* Eight weights of 4 bits, 8 added to each so that none is negative, times eight inputs. */
INLINE i32 plus_eight_$function(i32 sum, const u32 *x, u32 w)
{
    const u32 halves = 0xF000F;
    w ^= 0x88888888;
    sum = plus_products(sum, x[0], w & halves);
    sum = plus_products(sum, x[1], w >> 4 & halves);
    sum = plus_products(sum, x[2], w >> 8 & halves);
    return plus_products(sum, x[3], w >> 12 & halves);
}

/* Output channels by twos. */
FUNCTION void rows_$function(const u32 *pairs, u32 excess, $y *y, const u8 *weights, const $channels *r, int32_t width,
                             int32_t channels)
{
    for (int32_t c = 0; c < channels; c += 2, weights += width) {
        const int32_t next = c + 1 < channels ? c + 1 : c;
        const u8 *p = weights, *q = weights + (next - c) * (width / 2);
        i32 sum0 = (i32)((u32)$begin(r, c) - excess), sum1 = (i32)((u32)$begin(r, next) - excess);
        const u32 *x = pairs;
        for (int32_t k = width; k > 0; k -= 8, x += 4, p += 4, q += 4) {
            sum0 = plus_eight_$function(sum0, x, word_at(p));
            sum1 = plus_eight_$function(sum1, x, word_at(q));
        }
        y[c] = $finish(sum0, r, c);
        y[next] = $finish(sum1, r, next);
    }
}
#endif

/* All output channels of the only pixel, from weights of 4 bits as they are packed; else they are unpacked first. */
FUNCTION void $function(const $x *restrict x, $y *y, void *scratch, const u8 *restrict weights, const $channels *r,
                        const window *v)
{
#if defined(DSP_KERNELS)
    const int32_t width = v->row_width;
    u32 *const pairs = (u32 *)scratch;
    $patch *const patch = ($patch *)(void *)(pairs + width / 2);
    for (int32_t k = 0; k < width; ++k)
        patch[k] = k < v->channels ? ($patch)(x[k] - $offset) : ($patch)0;
    $spread(patch, pairs, width / 4, 2, 1);
    const u32 excess = 8 * (u32)order_$function(pairs, width / 8);
    rows_$function(pairs, excess, y, weights, r, width, v->output_channels);
#else
    $packed(x, y, scratch, weights, r, v);
#endif
}
