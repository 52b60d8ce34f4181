INLINE $acc begin_$function($x value)
{
    (void)value;
    return 0;
}

INLINE $acc join_$function($acc total, $x value)
{
    return total + ($acc)value;
}

INLINE $wide finish_$function($acc total, int32_t shift, int32_t count)
{
    return round_ratio${mode}_$wide(($wide)total, shift, count);
}
