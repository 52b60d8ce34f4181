/* What becomes of the sums of each output channel: where they start, and how they are aligned and shifted. */
typedef struct {
    const $acc *start, *tie;
    const int8_t *align, *shift;
    const $wide *bias;
} $function;
