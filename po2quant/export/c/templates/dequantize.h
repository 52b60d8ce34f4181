/* The value of an integer. */
static inline float ${name}_value_of_$tensor($type integer)
{
    return (float)integer * ${scale}f;
}

/* The place of the largest integer, the first of several. */
static inline int32_t ${name}_argmax_$tensor(const $type *integers)
{
    int32_t largest = 0;
    for (int32_t i = 1; i < ${prefix}_${macro}_SIZE; ++i)
        if (integers[i] > integers[largest])
            largest = i;
    return largest;
}
