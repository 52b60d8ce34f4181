/* Integers that lie together, less $offset. */
INLINE void taken_$function(const $x *from, $patch *to, int32_t count)
{
    if (sizeof($x) == sizeof($patch) && $offset == 0)
        COPY(to, from, (uint32_t)count * sizeof($x));
    else
        for (int32_t k = 0; k < count; ++k)
            to[k] = ($patch)(from[k] - $offset);
}

/* depth channels of the pixels under a window, less $offset; zeros outside the image. */
INLINE void $function(const $x *restrict x, $patch *restrict patch, const window *v, int32_t top, int32_t left,
                      int32_t depth)
{
    const int32_t is_inside = left >= 0 && left + (v->columns - 1) * v->column_dilation < v->width;
    const int32_t lie_together = v->column_dilation == 1 && depth == v->channels;
    for (int32_t i = 0; i < v->rows; ++i) {
        const int32_t row = top + i * v->row_dilation;
        if (lie_together && is_inside && row >= 0 && row < v->height) {
            taken_$function(x + (row * v->width + left) * v->channels, patch, v->columns * depth);
            patch += v->columns * depth;
            continue;
        }
        for (int32_t j = 0; j < v->columns; ++j, patch += depth) {
            const int32_t column = left + j * v->column_dilation;
            if (row >= 0 && row < v->height && column >= 0 && column < v->width)
                taken_$function(x + (row * v->width + column) * v->channels, patch, depth);
            else
                for (int32_t k = 0; k < depth; ++k)
                    patch[k] = ($patch)(-$offset);
        }
    }
}
