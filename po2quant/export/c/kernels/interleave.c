#if defined(VNNI_KERNELS)
#include <immintrin.h>

/* Four bytes, wherever they start. */
typedef struct {
    int32_t word;
} __attribute__((packed, may_alias)) loose_i32;

/* For each 16 output channels: where their sums start, less offset inputs, then four weights of each, step by step. */
INLINE void interleave(const i8 *weights, const i32 *start, int32_t offset, int32_t channels, int32_t width, i32 *to)
{
    for (int32_t first = 0; first < channels; first += 16, to += 16 + 4 * width)
        for (int32_t lane = 0; lane < 16 && first + lane < channels; ++lane) {
            const i8 *const row = weights + (first + lane) * width;
            i32 sum = 0;
            for (int32_t k = 0; k < width; ++k) {
                ((i8 *)(to + 16 + k / 4 * 16 + lane))[k % 4] = row[k];
                sum += row[k];
            }
            to[lane] = start[first + lane] - offset * sum;
        }
}

/* Before main, since sources have rows of weights, as other processors read them. */
#define INTERLEAVED(name, offset, channels, width)                                                                \
    static i32 name##_interleaved[((channels) + 15) / 16 * (16 + 4 * (width))] __attribute__((aligned(64)));      \
    __attribute__((constructor)) static void name##_interleave(void)                                              \
    {                                                                                                             \
        interleave(name##_weights, name##_start, offset, channels, width, name##_interleaved);                    \
    }
#define WEIGHTS_OF(name) name##_interleaved
#else
#define INTERLEAVED(name, offset, channels, width)
#define WEIGHTS_OF(name) name##_weights
#endif
