"""The C functions that an integer program calls, one text for all types of integers.

``$x``, ``$y``, ``$w``, ``$bias`` are the types of inputs, outputs, weights and biases; ``$acc`` accumulates and
``$wide`` aligns, adds the bias and rounds. ``$patch`` is the type of the inputs that one output pixel sees: bytes are
widened to 16 bits, since processors have instructions that sum products of these. ``$align`` and ``$shift`` are
functions that suit every channel's shift; their steps are 1 for a shift a channel and 0 for one shift. Sizes are
constants of the call, for the compiler to fold.

:mod:`po2quant.integer.plan` has the formula and the proof that no signed integer overflows.
"""

from __future__ import annotations

import dataclasses
import math
from string import Template

PRELUDE = """\
typedef char right_shifts_must_keep_the_sign[(-1 >> 1) == -1 && (INT64_C(-1) >> 1) == -1 ? 1 : -1];
typedef char unsigned_must_wrap_to_signed[(int32_t)UINT32_MAX == -1 && (int64_t)UINT64_MAX == -1 ? 1 : -1];

/* The arena's bytes hold integers of one type now and of another later. */
#if defined(__GNUC__)
#define MAY_ALIAS __attribute__((__may_alias__))
#else
#define MAY_ALIAS
#endif
typedef int8_t i8 MAY_ALIAS;
typedef uint8_t u8 MAY_ALIAS;
typedef int16_t i16 MAY_ALIAS;
typedef uint16_t u16 MAY_ALIAS;
typedef int32_t i32 MAY_ALIAS;
typedef uint32_t u32 MAY_ALIAS;
typedef int64_t i64 MAY_ALIAS;
typedef uint64_t u64 MAY_ALIAS;

/* Unsigned bytes are widened in a patch unless the processor multiplies them by signed bytes and sums at once. */
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_MATMUL_INT8)
typedef u8 patch_u8;
#else
typedef i16 patch_u8;
#endif

enum { TILE = 32 }; /* channels that are summed side by side, a multiple of 4 */

/* One shift a channel, or one for all. */
typedef struct {
    const int8_t *align, *shift;
    int64_t low, high;
} rescale;

typedef struct {
    int32_t height, width, channels;
    int32_t output_height, output_width, output_channels;
    int32_t rows, columns, row_stride, column_stride, row_dilation, column_dilation, top, left, groups;
} window;
"""

ARITHMETIC = Template("""\
/* round(value / 2**shift), half to even, for a shift of 1 or more. */
static inline $wide round_right_$wide($wide value, int32_t shift)
{
    return (value + ($wide)((($unsigned)1 << (shift - 1)) - 1) + ((value >> shift) & 1)) >> shift;
}

/* value << -places, for places of 0 or less. */
static inline $wide left_$wide($wide value, int32_t places)
{
    return ($wide)(($unsigned)value << -places);
}

/* The one or the other. */
static inline $wide round_shift_$wide($wide value, int32_t shift)
{
    return shift > 0 ? round_right_$wide(value, shift) : left_$wide(value, shift);
}

/* round(value / 2**shift / count), half to even. */
static inline $wide round_ratio_$wide($wide value, int32_t shift, int32_t count)
{
    const $wide numerator = left_$wide(value, shift < 0 ? shift : 0);
    const $wide denominator = ($wide)count * ($wide)(($unsigned)1 << (shift > 0 ? shift : 0));
    $wide quotient = numerator / denominator;
    $wide remainder = numerator % denominator;
    if (remainder < 0) {
        quotient -= 1;
        remainder += denominator;
    }
    return quotient + (2 * remainder + (quotient & 1) > denominator);
}

/* value >> places, with the last bit set where a 1 was lost; negative places go left. */
static inline $wide jam_$wide($wide value, int32_t places)
{
    if (places <= 0)
        return left_$wide(value, places);
    return (value >> places) | ((value & ($wide)((($unsigned)1 << places) - 1)) != 0);
}

static inline $wide clamp_$wide($wide value, $wide low, $wide high)
{
    return value < low ? low : value > high ? high : value;
}
""")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The text of a function.

    Args:
        types: the types that its text and its name depend on.
        uses: the kernels that it calls.
        text: the function, ``$function`` its name.
    """

    types: tuple[str, ...]
    uses: tuple[str, ...]
    text: str


_FINISHED = ("bias", "y", "acc", "wide", "align", "align_step", "shift", "shift_step")
_LAYER = ("x", "w", *_FINISHED)
_DOTTED = ("patch", "w", *_FINISHED)

_WEIGHT = """\
static inline $w $function(const $w *weights, uint32_t row, int32_t k)
{
    return (weights + row)[k];
}
"""

_FINISH = """\
/* The output channels first to first + count - 1 of one pixel. */
static inline void $function(const $acc *restrict totals, $y *restrict y, const $bias *restrict bias, const rescale *r,
                             int32_t first, int32_t count)
{
    const int8_t *const align = r->align, *const shift = r->shift;
    const $wide low = ($wide)r->low, high = ($wide)r->high;
    for (int32_t c = 0; c < count; ++c) {
        const $wide aligned = ${align}_$wide(($wide)totals[c], align[(first + c) * $align_step]);
        const $wide rounded = ${shift}_$wide(aligned + ($wide)bias[first + c], shift[(first + c) * $shift_step]);
        y[first + c] = ($y)clamp_$wide(rounded, low, high);
    }
}
"""

_DOTS = """\
/* The output channels first to last - 1 of one pixel: a patch times the weights of each channel. */
static inline void $function(const $patch *restrict patch, $y *restrict y, const $w *restrict weights,
                             const $bias *restrict bias, const rescale *r, int32_t inputs, int32_t first, int32_t last)
{
    const uint32_t width = (uint32_t)inputs;
    for (int32_t start = first; start < last; start += TILE) {
        const int32_t rest = last - start, channels = rest < TILE ? rest : TILE;
        $acc totals[TILE];
        for (int32_t c = 0; c < channels; c += 4) { /* of the last four, those that are missing repeat the first */
            const uint32_t row0 = (uint32_t)(start + c) * width;
            const uint32_t row1 = c + 1 < channels ? row0 + width : row0;
            const uint32_t row2 = c + 2 < channels ? row0 + 2 * width : row0;
            const uint32_t row3 = c + 3 < channels ? row0 + 3 * width : row0;
            $acc sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
            for (int32_t k = 0; k < inputs; ++k) {
                sum0 += ($acc)patch[k] * ($acc)$weight(weights, row0, k);
                sum1 += ($acc)patch[k] * ($acc)$weight(weights, row1, k);
                sum2 += ($acc)patch[k] * ($acc)$weight(weights, row2, k);
                sum3 += ($acc)patch[k] * ($acc)$weight(weights, row3, k);
            }
            totals[c] = sum0;
            totals[c + 1] = sum1;
            totals[c + 2] = sum2;
            totals[c + 3] = sum3;
        }
        $finish(totals, y, bias, r, start, channels);
    }
}
"""

_DENSE = """\
static inline void $function(const $x *restrict x, $y *restrict y, const $w *restrict weights,
                             const $bias *restrict bias, const rescale *r, int32_t pixels, int32_t inputs,
                             int32_t channels)
{
    for (int32_t pixel = 0; pixel < pixels; ++pixel)
        $dots(x + pixel * inputs, y + pixel * channels, weights, bias, r, inputs, 0, channels);
}
"""

_WIDENED_DENSE = """\
static inline void $function(const $x *restrict x, $y *restrict y, $patch *restrict patch, const $w *restrict weights,
                             const $bias *restrict bias, const rescale *r, int32_t pixels, int32_t inputs,
                             int32_t channels)
{
    for (int32_t pixel = 0; pixel < pixels; ++pixel) {
        for (int32_t k = 0; k < inputs; ++k)
            patch[k] = x[pixel * inputs + k];
        $dots(patch, y + pixel * channels, weights, bias, r, inputs, 0, channels);
    }
}
"""

_GATHER = """\
/* depth channels of the pixels under a window, zeros outside the image. */
static inline void $function(const $x *restrict x, $patch *restrict patch, const window *v, int32_t top, int32_t left,
                             int32_t depth)
{
    for (int32_t i = 0; i < v->rows; ++i) {
        const int32_t row = top + i * v->row_dilation;
        for (int32_t j = 0; j < v->columns; ++j, patch += depth) {
            const int32_t column = left + j * v->column_dilation;
            if (row >= 0 && row < v->height && column >= 0 && column < v->width) {
                const $x *const pixel = x + (row * v->width + column) * v->channels;
                for (int32_t k = 0; k < depth; ++k)
                    patch[k] = pixel[k];
            } else {
                for (int32_t k = 0; k < depth; ++k)
                    patch[k] = 0;
            }
        }
    }
}
"""

_CONVOLUTION = """\
static inline void $function(const $x *restrict x, $y *restrict y, $patch *restrict patch, const $w *restrict weights,
                             const $bias *restrict bias, const rescale *r, const window *v)
{
    const int32_t depth = v->channels / v->groups, channels = v->output_channels / v->groups;
    for (int32_t row = 0; row < v->output_height; ++row)
        for (int32_t column = 0; column < v->output_width; ++column, y += v->output_channels)
            for (int32_t group = 0; group < v->groups; ++group) {
                $gather(x + group * depth, patch, v, row * v->row_stride - v->top, column * v->column_stride - v->left,
                        depth);
                $dots(patch, y, weights, bias, r, v->rows * v->columns * depth, group * channels,
                      (group + 1) * channels);
            }
}
"""

_TILES = Template("""\
static inline void $$function(const $$x *restrict x, $$y *restrict y, $arguments, const window *v)
{
    for (int32_t row = 0; row < v->output_height; ++row)
        for (int32_t column = 0; column < v->output_width; ++column, y += v->output_channels)
            for (int32_t first = 0; first < v->output_channels; first += TILE) {
                const int32_t rest = v->output_channels - first, channels = rest < TILE ? rest : TILE;
                $total totals[TILE];
                int32_t count = 0;
                for (int32_t c = 0; c < channels; ++c)
                    totals[c] = $start;
                for (int32_t i = 0; i < v->rows; ++i) {
                    const int32_t x_row = row * v->row_stride - v->top + i * v->row_dilation;
                    if (x_row < 0 || x_row >= v->height)
                        continue;
                    for (int32_t j = 0; j < v->columns; ++j) {
                        const int32_t x_column = column * v->column_stride - v->left + j * v->column_dilation;
                        if (x_column < 0 || x_column >= v->width)
                            continue;
                        const $$x *const pixel = x + (x_row * v->width + x_column) * v->channels;
                        ++count;
                        for (int32_t c = 0; c < channels; ++c)
                            $combine;
                    }
                }
                (void)count;
                $result
            }
}
""")

_DEPTHWISE = _TILES.substitute(
    arguments="const $w *restrict weights,\n" + " " * 29 + "const $bias *restrict bias, const rescale *r",
    total="$acc",
    start="0",
    combine="totals[c] += ($acc)pixel[(first + c) / (v->output_channels / v->channels)] *\n"
    + " " * 41
    + "($acc)$weight(weights, (uint32_t)((i * v->columns + j) * v->output_channels + first), c)",
    result="$finish(totals, y, bias, r, first, channels);",
)

_EACH = """\
for (int32_t c = 0; c < channels; ++c)
                    y[first + c] = ($y)clamp_$wide({}, low, high);"""
_POOLING_ARGUMENTS = "int32_t shift, $wide low, $wide high"

_AVERAGE = _TILES.substitute(
    arguments=_POOLING_ARGUMENTS,
    total="$acc",
    start="0",
    combine="totals[c] += ($acc)pixel[first + c]",
    result=_EACH.format("round_ratio_$wide(($wide)totals[c], shift, count)"),
)

_MAXIMUM = _TILES.substitute(
    arguments=f"$x lowest, {_POOLING_ARGUMENTS}",
    total="$x",
    start="lowest",
    combine="totals[c] = pixel[first + c] > totals[c] ? pixel[first + c] : totals[c]",
    result=_EACH.format("round_shift_$wide(($wide)totals[c], shift)"),
)

KERNELS = {
    "weight": Kernel(("w",), (), _WEIGHT),
    "finish": Kernel(_FINISHED, (), _FINISH),
    "dots": Kernel(_DOTTED, ("weight", "finish"), _DOTS),
    "dense": Kernel(("x", *_DOTTED), ("dots",), _DENSE),
    "widened_dense": Kernel(("x", *_DOTTED), ("dots",), _WIDENED_DENSE),
    "gather": Kernel(("x", "patch"), (), _GATHER),
    "convolution": Kernel(("x", *_DOTTED), ("gather", "dots"), _CONVOLUTION),
    "depthwise": Kernel(_LAYER, ("weight", "finish"), _DEPTHWISE),
    "average": Kernel(("x", "y", "acc", "wide"), (), _AVERAGE),
    "maximum": Kernel(("x", "y", "wide"), (), _MAXIMUM),
}


class Functions:
    """The kernels that a program calls, each once for each combination of types, in the order of their definition."""

    def __init__(self) -> None:
        self.texts = {wide: ARITHMETIC.substitute(wide=wide, unsigned=f"u{wide[1:]}") for wide in ("i32", "i64")}

    def name(self, kernel: str, **types: str) -> str:
        """Return the name of a kernel for these types; it and the kernels that it uses are added to the texts."""
        types = {kind: types[kind] for kind in KERNELS[kernel].types}
        name = "_".join((kernel, *types.values()))
        if name not in self.texts:
            used = {use: self.name(use, **types) for use in KERNELS[kernel].uses}
            self.texts[name] = Template(KERNELS[kernel].text).substitute(types, function=name, **used)
        return name

    def packed_type(self, bits: int) -> str:
        """Return the type of weights that lie one after the other in ``bits`` bits each."""
        name = f"packed{bits}"
        if name not in self.texts:
            self.texts[name] = f"typedef uint8_t {name};\n"
            self.texts[f"weight_{name}"] = _unpack(bits)
        return name


def packed_reach_bytes(bits: int) -> int:
    """Return how many bytes hold any packed integer, wherever it starts."""
    latest_start = 8 - math.gcd(bits, 8)
    return (latest_start + bits + 7) // 8


def _unpack(bits: int) -> str:
    """Return the function that reads a packed integer: its bits, lowest first, sign last."""
    reach = packed_reach_bytes(bits)
    word = 32 if reach <= 4 else 64
    parts = " | ".join(f"(u{word})bytes[{i}] << {8 * i}" for i in range(reach))
    return f"""\
static inline i32 weight_packed{bits}(const packed{bits} *weights, uint32_t row, int32_t k)
{{
    const uint32_t start = (row + (uint32_t)k) * {bits};
    const uint8_t *const bytes = weights + start / 8;
    const u{word} field = (({parts}) >> (start % 8)) & {2**bits - 1};
    return (i32)((i{word})(field ^ {2 ** (bits - 1)}) - {2 ** (bits - 1)});
}}
"""
