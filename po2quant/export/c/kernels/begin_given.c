INLINE $acc $function(const $channels *r, int32_t c)
{
    return r->start[c];
}
