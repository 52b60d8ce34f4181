/* No sum of these channels is half way between two outputs. */
INLINE $y $function($acc sum, const $channels *r, int32_t c)
{
    const $acc rounded = sum >> r->shift[c * $shift_step];
    return ($y)(rounded < $low ? $low : rounded > $high ? $high : rounded);
}
