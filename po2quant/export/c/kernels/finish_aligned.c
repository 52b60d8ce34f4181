INLINE $y $function($acc sum, const $channels *r, int32_t c)
{
    const $wide aligned = ${align}_$wide(($wide)sum, r->align[c * $align_step]);
    return ($y)clamp_$wide(${shift}${mode}_$wide(aligned + r->bias[c], r->shift[c * $shift_step]), $low, $high);
}
