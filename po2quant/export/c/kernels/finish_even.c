/* A sum that has no bit of its mask is half way between two outputs: the even one. */
INLINE $y $function($acc sum, const $channels *r, int32_t c)
{
    const $acc is_tie = (sum & r->tie[c]) == 0;
    const $acc rounded = (sum >> r->shift[c * $shift_step]) & ~is_tie;
    return ($y)(rounded < $low ? $low : rounded > $high ? $high : rounded);
}
