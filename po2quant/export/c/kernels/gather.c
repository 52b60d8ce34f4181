/* depth channels of the pixels under a window, less $offset; zeros outside the image. */
INLINE void $function(const $x *restrict x, $patch *restrict patch, const window *v, int32_t top, int32_t left,
                      int32_t depth)
{
    const int32_t is_inside = left >= 0 && left + (v->columns - 1) * v->column_dilation < v->width;
    const int32_t lie_together = v->column_dilation == 1 && depth == v->channels;
    for (int32_t i = 0; i < v->rows; ++i) {
        const int32_t row = top + i * v->row_dilation;
        if (lie_together && is_inside && row >= 0 && row < v->height) {
            const $x *const pixels = x + (row * v->width + left) * v->channels;
            for (int32_t k = 0; k < v->columns * depth; ++k)
                *patch++ = ($patch)(pixels[k] - $offset);
            continue;
        }
        for (int32_t j = 0; j < v->columns; ++j) {
            const int32_t column = left + j * v->column_dilation;
            if (row >= 0 && row < v->height && column >= 0 && column < v->width) {
                const $x *const pixel = x + (row * v->width + column) * v->channels;
                for (int32_t k = 0; k < depth; ++k)
                    *patch++ = ($patch)(pixel[k] - $offset);
            } else {
                for (int32_t k = 0; k < depth; ++k)
                    *patch++ = ($patch)(-$offset);
            }
        }
    }
}
