/* value << -places, for places of 0 or less. */
INLINE $wide left_$wide($wide value, int32_t places)
{
    return ($wide)(($unsigned)value << -places);
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
