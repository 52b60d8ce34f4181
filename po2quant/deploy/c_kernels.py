"""The C functions that an integer program calls, one text for all types of integers.

``$x``, ``$y``, ``$w``, ``$bias`` are the types of inputs, outputs, weights and biases; ``$acc`` accumulates and
``$wide`` aligns, adds the bias and rounds. Sizes are constants of the call, for the compiler to fold.
:mod:`po2quant.deploy.plan` has the formula and the proof that no signed integer overflows.
"""

from __future__ import annotations

import dataclasses
import math
from string import Template

PRELUDE = """\
typedef char right_shifts_must_keep_the_sign[(-1 >> 1) == -1 && (INT64_C(-1) >> 1) == -1 ? 1 : -1];

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

enum { TILE = 32 }; /* channels that are summed side by side */

/* One shift a channel, or one for all where its step is 0. */
typedef struct {
    const int8_t *align, *shift;
    int32_t align_step, shift_step;
    int64_t low, high;
} rescale;

typedef struct {
    int32_t height, width, channels;
    int32_t output_height, output_width, output_channels;
    int32_t rows, columns, row_stride, column_stride, row_dilation, column_dilation, top, left, groups;
} window;
"""

ARITHMETIC = Template("""\
/* round(value / 2**shift), half to even; a negative shift goes left. */
static inline $wide round_shift_$wide($wide value, int32_t shift)
{
    if (shift <= 0)
        return value * ($wide)(($unsigned)1 << -shift);
    return (value + ($wide)((($unsigned)1 << (shift - 1)) - 1) + ((value >> shift) & 1)) >> shift;
}

/* round(value / 2**shift / count), half to even. */
static inline $wide round_ratio_$wide($wide value, int32_t shift, int32_t count)
{
    const $wide numerator = value * ($wide)(($unsigned)1 << (shift < 0 ? -shift : 0));
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
        return value * ($wide)(($unsigned)1 << -places);
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


_LAYER = ("x", "w", "bias", "y", "acc", "wide")

_WEIGHT = """\
static inline $w $function(const $w *weights, int32_t index)
{
    return weights[index];
}
"""

_FINISH = """\
static inline $y $function($acc sum, int32_t channel, const $bias *bias, const rescale *r)
{
    const $wide aligned = jam_$wide(($wide)sum, r->align[channel * r->align_step]);
    const $wide rounded = round_shift_$wide(aligned + ($wide)bias[channel], r->shift[channel * r->shift_step]);
    return ($y)clamp_$wide(rounded, ($wide)r->low, ($wide)r->high);
}
"""

_DOTS = """\
/* The output channels first to last - 1 of one pixel: x times the weights of each channel. */
static inline void $function(const $x *restrict x, $y *restrict y, const $w *restrict weights,
                             const $bias *restrict bias, const rescale *r, int32_t inputs, int32_t first, int32_t last)
{
    for (int32_t channel = first; channel < last; ++channel) {
        $acc sum = 0;
        for (int32_t k = 0; k < inputs; ++k)
            sum += ($acc)x[k] * ($acc)$weight(weights, channel * inputs + k);
        y[channel] = $finish(sum, channel, bias, r);
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

_PATCH = """\
/* depth channels of the pixels under a window, zeros outside the image. */
static inline void $function(const $x *restrict x, $x *restrict patch, const window *v, int32_t top, int32_t left,
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
static inline void $function(const $x *restrict x, $y *restrict y, $x *restrict patch, const $w *restrict weights,
                             const $bias *restrict bias, const rescale *r, const window *v)
{
    const int32_t depth = v->channels / v->groups, channels = v->output_channels / v->groups;
    for (int32_t row = 0; row < v->output_height; ++row)
        for (int32_t column = 0; column < v->output_width; ++column, y += v->output_channels)
            for (int32_t group = 0; group < v->groups; ++group) {
                $patch(x + group * depth, patch, v, row * v->row_stride - v->top, column * v->column_stride - v->left,
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
                for (int32_t c = 0; c < channels; ++c)
                    y[first + c] = $result;
            }
}
""")

_DEPTHWISE = _TILES.substitute(
    arguments="const $w *restrict weights,\n" + " " * 29 + "const $bias *restrict bias, const rescale *r",
    total="$acc",
    start="0",
    combine="totals[c] += ($acc)pixel[(first + c) / (v->output_channels / v->channels)] *\n"
    + " " * 41
    + "($acc)$weight(weights, (i * v->columns + j) * v->output_channels + first + c)",
    result="$finish(totals[c], first + c, bias, r)",
)

_POOLING_ARGUMENTS = "int32_t shift, $wide low, $wide high"

_AVERAGE = _TILES.substitute(
    arguments=_POOLING_ARGUMENTS,
    total="$acc",
    start="0",
    combine="totals[c] += ($acc)pixel[first + c]",
    result="($y)clamp_$wide(round_ratio_$wide(($wide)totals[c], shift, count), low, high)",
)

_MAXIMUM = _TILES.substitute(
    arguments=f"$x lowest, {_POOLING_ARGUMENTS}",
    total="$x",
    start="lowest",
    combine="totals[c] = pixel[first + c] > totals[c] ? pixel[first + c] : totals[c]",
    result="($y)clamp_$wide(round_shift_$wide(($wide)totals[c], shift), low, high)",
)

KERNELS = {
    "weight": Kernel(("w",), (), _WEIGHT),
    "finish": Kernel(("bias", "y", "acc", "wide"), (), _FINISH),
    "dots": Kernel(_LAYER, ("weight", "finish"), _DOTS),
    "dense": Kernel(_LAYER, ("dots",), _DENSE),
    "patch": Kernel(("x",), (), _PATCH),
    "convolution": Kernel(_LAYER, ("patch", "dots"), _CONVOLUTION),
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
static inline i32 weight_packed{bits}(const packed{bits} *weights, int32_t index)
{{
    const uint32_t start = (uint32_t)index * {bits};
    const uint8_t *const bytes = weights + start / 8;
    const u{word} field = (({parts}) >> (start % 8)) & {2**bits - 1};
    return (i32)((i{word})(field ^ {2 ** (bits - 1)}) - {2 ** (bits - 1)});
}}
"""
