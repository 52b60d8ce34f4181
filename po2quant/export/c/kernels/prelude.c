typedef char right_shifts_must_keep_the_sign[(-1 >> 1) == -1 && (INT64_C(-1) >> 1) == -1 ? 1 : -1];
typedef char unsigned_must_wrap_to_signed[(int32_t)UINT32_MAX == -1 && (int64_t)UINT64_MAX == -1 ? 1 : -1];

/* Which kernels are compiled: those for the processor's own instructions, or C99 alone. All compute the same bits. */
#if defined(PO2QUANT_PLAIN_C) || !defined(__GNUC__)
#elif defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN) && defined(__thumb2__)
#define DSP_KERNELS 1
#if defined(__ARM_FEATURE_MVE)
#define MVE_KERNELS 1
#endif
#elif defined(__SSE2__) || defined(__ARM_NEON) || defined(__riscv_vector)
#define VECTOR_KERNELS 1
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define VNNI_KERNELS 1
#endif
#endif

/* The kernels are small and their loops run long: for size, the compiler would make calls and divisions of them. */
#if defined(__OPTIMIZE_SIZE__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O2")
#endif

/* The arena's bytes hold integers of one type now and of another later. */
#if defined(__GNUC__)
#define MAY_ALIAS __attribute__((__may_alias__))
#define INLINE static inline __attribute__((unused))
#if defined(VECTOR_KERNELS)
#define FUNCTION static inline __attribute__((unused, always_inline)) /* sizes become constants of its loops */
#define SHARED
#else
#define FUNCTION static __attribute__((unused, noinline))
#if defined(__clang__)
#define SHARED __attribute__((noinline))
#else
#define SHARED __attribute__((noinline, noclone)) /* else its caller gets a second copy of all kernels */
#endif
#endif
#else
#define MAY_ALIAS
#define INLINE static inline
#define SHARED
#define FUNCTION static
#endif
typedef int8_t i8 MAY_ALIAS;
typedef uint8_t u8 MAY_ALIAS;
typedef int16_t i16 MAY_ALIAS;
typedef uint16_t u16 MAY_ALIAS;
typedef int32_t i32 MAY_ALIAS;
typedef uint32_t u32 MAY_ALIAS;
typedef int64_t i64 MAY_ALIAS;
typedef uint64_t u64 MAY_ALIAS;

/* Loops over patches of 16 bits become vector instructions that multiply and add pairs. Unsigned bytes stay bytes where
 * the processor multiplies them by signed bytes and sums at once; both stay bytes where there are no vectors. */
#if defined(VECTOR_KERNELS)
typedef i16 patch_i8;
#else
typedef i8 patch_i8;
#endif
#if defined(VECTOR_KERNELS) && !defined(__AVX512VNNI__) && !defined(__AVXVNNI__) && !defined(__ARM_FEATURE_MATMUL_INT8)
typedef i16 patch_u8;
#else
typedef u8 patch_u8;
#endif

#if defined(DSP_KERNELS)
#define ON_DSP(bytes) (bytes)
#else
#define ON_DSP(bytes) 0
#endif

/* Kernels read words of weights. */
#if defined(__GNUC__)
#define CONSTANT __attribute__((aligned(4))) WEIGHT_ATTRIBUTES
#else
#define CONSTANT WEIGHT_ATTRIBUTES
#endif

#if defined(__GNUC__)
#define COPY(to, from, bytes) __builtin_memcpy(to, from, bytes)
#else
#include <string.h>
#define COPY(to, from, bytes) memcpy(to, from, bytes)
#endif

enum { TILE = 32 }; /* channels that are summed side by side, a multiple of 4 */

typedef struct {
    int32_t height, width, channels;
    int32_t output_height, output_width, output_channels;
    int32_t rows, columns, row_stride, column_stride, row_dilation, column_dilation, top, left, groups;
    int32_t row_width; /* weights of one output channel, with the zeros behind them */
} window;
