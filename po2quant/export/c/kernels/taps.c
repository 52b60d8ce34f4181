/* The part of a window that lies inside the image. */
typedef struct {
    int32_t start;       /* place of its first pixel */
    int32_t first;       /* its first tap */
    int32_t rows, columns;
    int32_t row_step, column_step;
} taps;

INLINE taps taps_inside(const window *v, int32_t row, int32_t column)
{
    int32_t top = row * v->row_stride - v->top, left = column * v->column_stride - v->left;
    taps t = {0, 0, v->rows, v->columns, v->row_dilation * v->width * v->channels, v->column_dilation * v->channels};
    for (; top < 0 && t.rows > 0; top += v->row_dilation, --t.rows)
        t.first += v->columns;
    for (; left < 0 && t.columns > 0; left += v->column_dilation, --t.columns)
        ++t.first;
    while (t.rows > 0 && top + (t.rows - 1) * v->row_dilation >= v->height)
        --t.rows;
    while (t.columns > 0 && left + (t.columns - 1) * v->column_dilation >= v->width)
        --t.columns;
    if (t.rows > 0 && t.columns > 0)
        t.start = (top * v->width + left) * v->channels;
    else
        t.rows = 0;
    return t;
}
