"""Exact power-of-two scales.

A scale is ``2**exponent``. Its exponent is read from the bits of the floating-point number,
never from a logarithm: no epsilon, no rounding, no floor below which scales vanish.

Three rules choose the exponent of a tensor (or of each channel) for a format whose largest
integer is ``L = 2**m - 1``:

- ``max``: the smallest e with ``max|x| <= L * 2**e``; nothing is ever clipped.
- ``mse``: of that e and the candidates below it, the one with the least squared error
  ``sum((x - Q(x, e))**2)``. Grids of larger exponents are subsets, so they are never better.
- ``nearest``: ``round(log2(max|x| / L))``, which clips the largest values in half of the cases; for comparison.

Values below the smallest normal number (1.2e-38 in float32) count as zero, as they do on
most hardware.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from po2quant.fixed_point import FLOOR, HALF_AWAY, HALF_EVEN, MAX_BITS
from po2quant.graphs import shared_graph

MIN_EXPONENT, MAX_EXPONENT = -126, 126
"""Exponents are kept where both ``2**e`` and ``2**-e`` are normal float32 numbers."""

MSE_CANDIDATES = 8
"""Exponents that the ``mse`` rule tries: the ``max`` rule's and the seven below it.

An exponent k below the ``max`` rule's clips the largest value to half its size or less, so it can
win only in a channel of more than ``4 * (L * (1/2 - 2**-k))**2`` values: 4032 for 8 bits at k = 2.
"""

SMALL_SIZE = 4096
"""Values below which passes over a tensor take less time than a branch in a graph."""


@dataclasses.dataclass(frozen=True)
class _FloatLayout:
    """Where sign, exponent and fraction sit in an IEEE 754 number."""

    integer: tf.DType
    fraction_bits: int
    bias: int


_LAYOUTS = {
    tf.float32: _FloatLayout(tf.int32, 23, 127),
    tf.float64: _FloatLayout(tf.int64, 52, 1023),
}


def _layout(dtype: tf.DType) -> _FloatLayout:
    try:
        return _LAYOUTS[tf.as_dtype(dtype)]
    except KeyError:
        raise ValueError(
            f"scales are computed in float32 or float64. Received: dtype={tf.as_dtype(dtype).name}"
        ) from None


def significand_bits(dtype: tf.DType) -> int:
    """Return the bits of the integers that ``dtype`` holds without gaps: 24 for float32, 53 for float64."""
    return _layout(dtype).fraction_bits + 1


def power_of_two(exponent: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Return ``2**exponent``, exact, for integer exponents of normal numbers."""
    layout = _layout(dtype)
    biased = tf.cast(exponent, layout.integer) + layout.bias
    return tf.bitcast(tf.bitwise.left_shift(biased, tf.cast(layout.fraction_bits, layout.integer)), dtype)


def floor_log2(x: tf.Tensor) -> tf.Tensor:
    """Return ``floor(log2|x|)`` as int32, exact; for zero and subnormals one less than any normal's."""
    layout = _layout(x.dtype)
    magnitude = tf.bitcast(tf.abs(x), layout.integer)
    exponent_field = tf.bitwise.right_shift(magnitude, tf.cast(layout.fraction_bits, layout.integer))
    return tf.cast(exponent_field - layout.bias, tf.int32)


def largest_integer(magnitude_bits: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Return ``2**magnitude_bits - 1``, or the largest number below ``2**magnitude_bits`` that ``dtype`` holds.

    The bits may be a tensor. In float32 the two differ from 25 magnitude bits on, where every
    number of that size is an integer and the lower bound loses nothing.
    """
    return tf.gather(largest_integers(tf.as_dtype(dtype)), magnitude_bits)


@functools.cache
def largest_integers(dtype: tf.DType) -> np.ndarray:
    """Return :func:`largest_integer` for 0, 1, ... :data:`~po2quant.fixed_point.MAX_BITS` magnitude bits."""
    magnitude_bits = np.arange(MAX_BITS + 1)
    steps = np.exp2(np.maximum(magnitude_bits - significand_bits(dtype), 0))
    return (np.exp2(magnitude_bits) - steps).astype(dtype.as_numpy_dtype)


def max_exponent(max_abs: tf.Tensor, magnitude_bits: tf.Tensor) -> tf.Tensor:
    """Return the smallest e with ``max_abs <= (2**magnitude_bits - 1) * 2**e``.

    Args:
        max_abs: largest absolute values, any shape, float32 or float64.
        magnitude_bits: bits of the integer without its sign, a number or a tensor.

    Returns:
        int32, the shape of ``max_abs``, in ``[MIN_EXPONENT, MAX_EXPONENT]``. A tensor of zeros
        gets the exponent of 1.0.

    Example:
        >>> max_exponent(tf.constant([1.0, 0.99, 0.0]), 7).numpy().tolist()
        [-6, -7, -6]
    """
    max_abs = _ones_for_zeros(max_abs)
    layout, magnitude_bits = _layout(max_abs.dtype), tf.cast(magnitude_bits, tf.int32)
    magnitude = tf.bitcast(max_abs, layout.integer) + tf.gather(_carries(max_abs.dtype), magnitude_bits)
    exponent_field = tf.bitwise.right_shift(magnitude, tf.cast(layout.fraction_bits, layout.integer))
    exponent = tf.cast(exponent_field, tf.int32) - (magnitude_bits + (layout.bias - 1))
    return tf.clip_by_value(exponent, MIN_EXPONENT, MAX_EXPONENT)


@functools.cache
def _carries(dtype: tf.DType) -> np.ndarray:
    """Return what carries a fraction above that of the largest integer into the exponent field, by magnitude bits."""
    unused_bits = np.maximum(significand_bits(dtype) - np.arange(MAX_BITS + 1), 0)
    return (2**unused_bits - 1).astype(_layout(dtype).integer.as_numpy_dtype)


def _ones_for_zeros(max_abs: tf.Tensor) -> tf.Tensor:
    max_abs = tf.convert_to_tensor(max_abs)
    return tf.where(max_abs < np.finfo(np.float32).tiny, tf.ones_like(max_abs), max_abs)


def _largest_over_root_two(magnitude_bits: int) -> float:
    """Return ``(2**magnitude_bits - 1) / sqrt(2)``, rounded down to float64 by integer arithmetic."""
    fraction_bits = 53 - magnitude_bits + (magnitude_bits == 1)
    return math.isqrt((2**magnitude_bits - 1) ** 2 << (2 * fraction_bits - 1)) / 2**fraction_bits


_LARGEST_OVER_ROOT_TWO = np.array([_largest_over_root_two(bits) for bits in range(MAX_BITS + 1)])


def nearest_exponent(max_abs: tf.Tensor, magnitude_bits: tf.Tensor) -> tf.Tensor:
    """Return ``round(log2(max_abs / (2**magnitude_bits - 1)))``, exact: QKeras' first guess without its epsilon.

    There are no ties: the square root of 2 is irrational. The largest value is clipped, to 0.71 of its size at worst,
    where the exponent is below that of :func:`max_exponent`.

    Args:
        max_abs: largest absolute values, any shape, float32 or float64.
        magnitude_bits: bits of the integer without its sign, a number or a tensor.

    Returns:
        int32, the shape of ``max_abs``, in ``[MIN_EXPONENT, MAX_EXPONENT]``. A tensor of zeros
        gets the exponent of 1.0.

    Example:
        >>> nearest_exponent(tf.constant([1.0, 1.4, 1.5]), 7).numpy().tolist()
        [-7, -7, -6]
    """
    max_abs = _ones_for_zeros(max_abs)
    exponent = max_exponent(max_abs, magnitude_bits)
    largest_multiple = tf.cast(max_abs * power_of_two(-exponent, max_abs.dtype), tf.float64)
    is_nearer_below = largest_multiple <= tf.gather(_LARGEST_OVER_ROOT_TWO, tf.cast(magnitude_bits, tf.int32))
    return tf.maximum(exponent - tf.cast(is_nearer_below, tf.int32), MIN_EXPONENT)


def exact_reciprocal(scale: tf.Tensor) -> tf.Tensor:
    """Return ``1 / scale`` for powers of two, exact.

    A division will not do: TensorFlow's optimizer may turn it into a reciprocal instruction that is an approximation,
    and a value halfway between two integers is then rounded to the wrong one.
    """
    layout = _layout(scale.dtype)
    one_squared = tf.constant(2 * layout.bias << layout.fraction_bits, layout.integer)
    return tf.bitcast(one_squared - tf.bitcast(scale, layout.integer), scale.dtype)


def round_to_multiples(
    x: tf.Tensor,
    scale: tf.Tensor | None,
    magnitude_bits: tf.Tensor,
    signed: bool = True,
    narrow_range: bool = True,
    small: bool | None = None,
    rounding: str = HALF_EVEN,
) -> tf.Tensor:
    """Return the nearest multiples of a power of two that a format holds.

    Equation:
        y = scale * clip(round(x / scale), low, high).

    Large tensors take one pass over memory instead of four, where ties go to even.

    Args:
        x: values, any shape, float32 or float64.
        scale: value of one LSB, a scalar and a power of two; None for 1.
        magnitude_bits: bits of the integer without its sign, a number or an int32 scalar.
        signed: whether negative values are represented.
        narrow_range: whether the most negative integer is unused.
        small: whether ``x`` is a small tensor; None looks at its shape.
        rounding: one of :data:`~po2quant.fixed_point.ROUNDING_MODES`.

    Returns:
        Tensor of the shape of ``x``. In large ones, inputs below the smallest normal number count as zero.
    """
    low, high = integer_limits(magnitude_bits, signed, narrow_range, x.dtype)
    if scale is not None:
        high = high * scale
        low = -high if signed and narrow_range else low * scale
    bit_width = tf.convert_to_tensor(magnitude_bits) + int(signed)

    def in_one_pass() -> tf.Tensor:
        return tf.raw_ops.QuantizeAndDequantizeV3(
            input=x,
            input_min=low,
            input_max=high,
            num_bits=bit_width,
            signed_input=signed,
            range_given=True,
            narrow_range=narrow_range,
        )

    def in_four_passes() -> tf.Tensor:
        clipped = tf.raw_ops.ClipByValue(t=x, clip_value_min=low, clip_value_max=high)
        if scale is None:
            return rounded_as(clipped, rounding)
        return rounded_as(clipped * exact_reciprocal(scale), rounding) * scale

    if rounding != HALF_EVEN or (is_small(x.shape) if small is None else small):
        return in_four_passes()
    if significand_bits(x.dtype) >= MAX_BITS:
        return in_one_pass()
    return tf.cond(bit_width <= significand_bits(x.dtype), in_one_pass, in_four_passes)


def rounded_as(x: tf.Tensor, rounding: str) -> tf.Tensor:
    """Return ``round(x)``, as :func:`po2quant.fixed_point.round_to_integer` does, exact in every mode."""
    if rounding == HALF_EVEN:
        return tf.round(x)
    if rounding == HALF_AWAY:
        return tf.sign(x) * _half_up(tf.abs(x))
    return tf.floor(x) if rounding == FLOOR else _half_up(x)


def _half_up(x: tf.Tensor) -> tf.Tensor:
    floor = tf.floor(x)
    return floor + tf.cast(x - floor >= 0.5, x.dtype)  # x + 0.5 would be rounded itself, up next to a tie


def is_small(shape: Sequence[int | None]) -> bool:
    """Return whether passes over a tensor of a shape, as far as it is known, cost less than a branch in a graph."""
    return (tf.TensorShape(shape).num_elements() or SMALL_SIZE) < SMALL_SIZE


def integer_limits(
    magnitude_bits: tf.Tensor, signed: bool, narrow_range: bool, dtype: tf.DType
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the smallest and the largest integer of a format, as tensors of ``dtype``."""
    high = largest_integer(magnitude_bits, dtype)
    if not signed:
        return tf.zeros_like(high), high
    return (-high if narrow_range else -power_of_two(magnitude_bits, dtype)), high


def mse_exponent(
    x: tf.Tensor,
    magnitude_bits: tf.Tensor,
    axes: tuple[int, ...],
    signed: bool = True,
    candidates: int = MSE_CANDIDATES,
    small: bool | None = None,
) -> tf.Tensor:
    """Return the exponent of least squared error among the ``max`` rule's and those below it.

    Args:
        x: values, float32 or float64.
        magnitude_bits: bits of the integer without its sign, a number or a tensor.
        axes: axes that share one exponent.
        signed: whether negative values are represented (symmetrically) or clipped to 0.
        candidates: how many exponents are tried.
        small: whether ``x`` is a small tensor; None looks at its shape.

    Returns:
        int32, the shape of ``x`` with 1 at ``axes``: ``(1, 1, 1, C)`` for a kernel with one exponent per output
        channel. The larger of equally good exponents.
    """
    x = tf.convert_to_tensor(x)
    small = is_small(x.shape) if small is None else small
    search = _least_error_exponent if small or not tf.executing_eagerly() else _least_error_exponent.in_graph
    return search(x, magnitude_bits, axes=axes, signed=signed, candidates=candidates, small=small)


@functools.partial(shared_graph, inlined=False)
def _least_error_exponent(
    x: tf.Tensor, magnitude_bits: tf.Tensor, *, axes: tuple[int, ...], signed: bool, candidates: int, small: bool
) -> tf.Tensor:
    if not signed:
        x = tf.nn.relu(x)
    magnitude = tf.abs(x) if signed else x
    largest_exponent = max_exponent(tf.reduce_max(magnitude, axis=axes, keepdims=True), magnitude_bits)
    # In units of the largest candidate's step, so that squares neither overflow nor vanish.
    scaled = x * power_of_two(-largest_exponent, x.dtype)
    best_offset = _best_offset_at_once if small else _best_offset_in_turn
    return tf.maximum(largest_exponent - best_offset(scaled, magnitude_bits, axes, signed, candidates), MIN_EXPONENT)


def _best_offset_at_once(
    scaled: tf.Tensor, magnitude_bits: tf.Tensor, axes: tuple[int, ...], signed: bool, candidates: int
) -> tf.Tensor:
    """Return the k of the step ``2**-k`` of least squared error, the smallest of equally good ones."""
    low, high = integer_limits(magnitude_bits, signed, True, scaled.dtype)
    offsets = np.arange(candidates).reshape(-1, *[1] * len(scaled.shape))
    steps, inverses = (tf.constant(np.exp2(power), scaled.dtype) for power in (-offsets, offsets))
    quantized = tf.clip_by_value(tf.round(scaled * inverses), low, high) * steps
    squares = tf.math.squared_difference(scaled, quantized)
    errors = tf.reduce_sum(squares, axis=[axis + 1 for axis in axes], keepdims=True)
    return tf.argmin(errors, axis=0, output_type=tf.int32)


@functools.cache
def _values_needed(candidates: int) -> np.ndarray:
    """Return the channel sizes that a candidate needs to win, by magnitude bits; see :data:`MSE_CANDIDATES`."""
    clipped_share = np.maximum(0.5 - np.ldexp(1.0, -np.arange(candidates)), 0.0)
    return 4.0 * np.square(np.outer(largest_integers(tf.float64), clipped_share))


def _best_offset_in_turn(
    scaled: tf.Tensor, magnitude_bits: tf.Tensor, axes: tuple[int, ...], signed: bool, candidates: int
) -> tf.Tensor:
    """Return what :func:`_best_offset_at_once` returns, trying no step whose clipped values alone have a larger error.

    What clipping costs only grows from one k to the next.
    """

    def error_of(approximation: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.math.squared_difference(scaled, approximation), axis=axes, keepdims=True)

    def try_one(offset: tf.Tensor, best_offset: tf.Tensor, best_error: tf.Tensor) -> tuple[tf.Tensor, ...]:
        step = power_of_two(-offset, scaled.dtype)
        error = error_of(round_to_multiples(scaled, step, magnitude_bits, signed, small=False))
        return offset + 1, tf.where(error < best_error, offset, best_offset), tf.minimum(error, best_error)

    def may_win(offset: tf.Tensor, best_offset: tf.Tensor, best_error: tf.Tensor) -> tf.Tensor:
        limit = largest_integer(magnitude_bits, scaled.dtype) * power_of_two(-offset, scaled.dtype)
        clipped = tf.raw_ops.ClipByValue(t=scaled, clip_value_min=-limit, clip_value_max=limit)
        return (offset < count) & tf.reduce_any(error_of(clipped) < best_error)

    error = error_of(tf.round(scaled))
    best_offset = tf.zeros_like(error, tf.int32)
    if candidates == 1:
        return best_offset
    channel_size = tf.size(scaled) // tf.maximum(tf.size(error), 1)
    can_win = tf.cast(channel_size, tf.float64) > tf.gather(_values_needed(candidates), magnitude_bits)
    count = tf.reduce_sum(tf.cast(can_win, tf.int32))
    state = try_one(tf.ones((), tf.int32), best_offset, error)
    return tf.cond(count > 2, lambda: tf.while_loop(may_win, try_one, state)[1], lambda: state[1])


def reduced_axes(shape: tuple[int | None, ...], scale_axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the axes that share one scale.

    Args:
        shape: shape of the tensor.
        scale_axis: the axis or axes that keep a scale each. None means one scale for a vector,
            else one per output channel: the last axis, and for a depthwise kernel
            ``(h, w, C, 1)`` the last two.

    Raises:
        ValueError: for an axis that the tensor does not have.
    """
    rank = len(shape)
    if scale_axis is None:
        if rank < 2:
            return tuple(range(rank))
        kept = {rank - 2, rank - 1} if rank == 4 and shape[-1] == 1 else {rank - 1}
    else:
        axes = (scale_axis,) if isinstance(scale_axis, int) else tuple(scale_axis)
        if any(not -rank <= axis < rank for axis in axes):
            raise ValueError(
                f"scale_axis must be in [{-rank}, {rank - 1}] for shape {shape}. Received: scale_axis={scale_axis}"
            )
        kept = {axis % rank for axis in axes}
    return tuple(axis for axis in range(rank) if axis not in kept)
