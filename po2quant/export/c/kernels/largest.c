INLINE $x begin_$function($x value)
{
    return value;
}

INLINE $x join_$function($x total, $x value)
{
    return value > total ? value : total;
}

INLINE $wide finish_$function($x total, int32_t shift, int32_t count)
{
    (void)count;
    return round_shift${mode}_$wide(($wide)total, shift);
}
