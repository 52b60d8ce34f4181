/* count integers of $bits bits each, lowest bit first, from the integer first on. */
FUNCTION void $function(const u8 *restrict packed, uint32_t first, $w *restrict integers, int32_t count)
{
    const u8 *next = packed + first * $bits / 8;
    $word bits = ($word)*next++ >> (first * $bits % 8);
    uint32_t held = 8 - first * $bits % 8;
    for (int32_t i = 0; i < count; ++i) {
        for (; held < $bits; held += 8)
            bits |= ($word)*next++ << held;
        const $word sign = ($word)1 << ($bits - 1), field = bits & (2 * sign - 1);
        integers[i] = ($w)(($signed)(field ^ sign) - ($signed)sign);
        bits >>= $bits;
        held -= $bits;
    }
}
