/* The integer of a value: $how and clipped, as in training. */
static inline $type ${name}_quantize_$tensor(float value)
{
    const float scaled = value * ${scale}f;
    if (!(scaled > (float)$low)) /* not a number goes here too */
        return ($type)$low;
    if (scaled >= (float)$high)
        return ($type)$high;
    int32_t integer = (int32_t)scaled;
    const float rest = scaled - (float)integer;
    if ($goes_up)
        ++integer;
    if ($goes_down)
        --integer;
    return ($type)integer;
}
