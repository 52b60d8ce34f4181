/* round(value / 2**shift) for a shift of 1 or more. */
INLINE $wide round_right${mode}_$wide($wide value, int32_t shift)
{
    return (value + $added) >> shift;
}

/* The one or the other. */
INLINE $wide round_shift${mode}_$wide($wide value, int32_t shift)
{
    return shift > 0 ? round_right${mode}_$wide(value, shift) : left_$wide(value, shift);
}

/* round(value / 2**shift / count). */
INLINE $wide round_ratio${mode}_$wide($wide value, int32_t shift, int32_t count)
{
    const $wide numerator = left_$wide(value, shift < 0 ? shift : 0);
    const $wide denominator = ($wide)count * ($wide)(($unsigned)1 << (shift > 0 ? shift : 0));
    $wide quotient = numerator / denominator;
    $wide remainder = numerator % denominator;
    if (remainder < 0) {
        quotient -= 1;
        remainder += denominator;
    }
    return quotient + ($goes_up);
}
