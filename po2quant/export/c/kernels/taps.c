/* The part of a window that lies inside the image. */
typedef struct {
    int32_t top;   /* of its first pixel, before columns are known; then start is the place of that pixel */
    int32_t start;
    int32_t first; /* its first tap */
    int32_t rows, columns;
    int32_t row_step, column_step;
} taps;

INLINE taps taps_of_row(const window *v, int32_t row)
{
    taps t = {row * v->row_stride - v->top, 0, 0, v->rows, 0, v->row_dilation * v->width * v->channels,
              v->column_dilation * v->channels};
    for (; t.top < 0 && t.rows > 0; t.top += v->row_dilation, --t.rows)
        t.first += v->columns;
    while (t.rows > 0 && t.top + (t.rows - 1) * v->row_dilation >= v->height)
        --t.rows;
    return t;
}

INLINE taps taps_of_column(const window *v, taps t, int32_t column)
{
    int32_t left = column * v->column_stride - v->left;
    t.columns = v->columns;
    for (; left < 0 && t.columns > 0; left += v->column_dilation, --t.columns)
        ++t.first;
    while (t.columns > 0 && left + (t.columns - 1) * v->column_dilation >= v->width)
        --t.columns;
    if (t.rows > 0 && t.columns > 0)
        t.start = (t.top * v->width + left) * v->channels;
    else
        t.rows = 0, t.first = 0;
    return t;
}
