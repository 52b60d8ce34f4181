/* round(value / 2**shift), half to even, for a shift of 1 or more. */
INLINE $wide round_right_$wide($wide value, int32_t shift)
{
    return (value + ($wide)((($unsigned)1 << (shift - 1)) - 1) + ((value >> shift) & 1)) >> shift;
}

/* value << -places, for places of 0 or less. */
INLINE $wide left_$wide($wide value, int32_t places)
{
    return ($wide)(($unsigned)value << -places);
}

/* The one or the other. */
INLINE $wide round_shift_$wide($wide value, int32_t shift)
{
    return shift > 0 ? round_right_$wide(value, shift) : left_$wide(value, shift);
}

/* round(value / 2**shift / count), half to even. */
INLINE $wide round_ratio_$wide($wide value, int32_t shift, int32_t count)
{
    const $wide numerator = left_$wide(value, shift < 0 ? shift : 0);
    const $wide denominator = ($wide)count * ($wide)(($unsigned)1 << (shift > 0 ? shift : 0));
    $wide quotient = numerator / denominator;
    $wide remainder = numerator % denominator;
    if (remainder < 0) {
        quotient -= 1;
        remainder += denominator;
    }
    return quotient + (2 * remainder + (quotient & 1) > denominator);
}

/* value >> places, with the last bit set where a 1 was lost; negative places go left. */
INLINE $wide jam_$wide($wide value, int32_t places)
{
    if (places <= 0)
        return left_$wide(value, places);
    return (value >> places) | ((value & ($wide)((($unsigned)1 << places) - 1)) != 0);
}

INLINE $wide clamp_$wide($wide value, $wide low, $wide high)
{
    return value < low ? low : value > high ? high : value;
}
