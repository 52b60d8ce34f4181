/* An even number of integers of 4 bits each, the low half of a byte first, from an even integer on. */
FUNCTION void $function(const u8 *restrict packed, uint32_t first, $w *restrict integers, int32_t count)
{
    packed += first / 2;
    for (int32_t i = 0; i < count; i += 2, ++packed) {
        integers[i] = ($w)((int8_t)(*packed << 4) >> 4);
        integers[i + 1] = ($w)((int8_t)*packed >> 4);
    }
}
