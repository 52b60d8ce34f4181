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
import math

import numpy as np
import tensorflow as tf

from po2quant.fixed_point import MAX_BITS

MIN_EXPONENT, MAX_EXPONENT = -126, 126
"""Exponents are kept where both ``2**e`` and ``2**-e`` are normal float32 numbers."""

MSE_CANDIDATES = 8
"""Exponents that the ``mse`` rule tries: the ``max`` rule's and the seven below it.

An exponent k below the ``max`` rule's clips the largest value to half its size or less, so it can
win only in a channel of more than ``4 * (L * (1/2 - 2**-k))**2`` values: 4032 for 8 bits at k = 2.
"""


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


def _significand(x: tf.Tensor) -> tf.Tensor:
    """Return the m of ``|x| = m * 2**floor_log2(x)``, with 1 <= m < 2."""
    layout = _layout(x.dtype)
    fraction = tf.bitwise.bitwise_and(
        tf.bitcast(x, layout.integer), tf.constant(2**layout.fraction_bits - 1, layout.integer)
    )
    one = tf.constant(layout.bias << layout.fraction_bits, layout.integer)
    return tf.bitcast(tf.bitwise.bitwise_or(fraction, one), x.dtype)


def largest_integer(magnitude_bits: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Return ``2**magnitude_bits - 1``, or the largest number below ``2**magnitude_bits`` that ``dtype`` holds.

    The bits may be a tensor. In float32 the two differ from 25 magnitude bits on, where every
    number of that size is an integer and the lower bound loses nothing.
    """
    magnitude_bits = tf.cast(magnitude_bits, tf.int32)
    step = power_of_two(tf.maximum(magnitude_bits - significand_bits(dtype), 0), dtype)
    return power_of_two(magnitude_bits, dtype) - step


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
    magnitude_bits = tf.cast(magnitude_bits, tf.int32)
    largest_significand = 2.0 - power_of_two(1 - magnitude_bits, max_abs.dtype)
    exponent = floor_log2(max_abs) + 1 - magnitude_bits
    exponent += tf.cast(_significand(max_abs) > largest_significand, tf.int32)
    return tf.clip_by_value(exponent, MIN_EXPONENT, MAX_EXPONENT)


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


def mse_exponent(
    x: tf.Tensor,
    magnitude_bits: tf.Tensor,
    axes: tuple[int, ...],
    signed: bool = True,
    candidates: int = MSE_CANDIDATES,
    one_at_a_time: bool = False,
) -> tf.Tensor:
    """Return the exponent of least squared error among the ``max`` rule's and those below it.

    Args:
        x: values, float32 or float64.
        magnitude_bits: bits of the integer without its sign, a number or a tensor.
        axes: axes that share one exponent.
        signed: whether negative values are represented (symmetrically) or clipped to 0.
        candidates: how many exponents are tried.
        one_at_a_time: try them in turn as long as one may win, for large tensors in eager mode; all at once makes
            small graphs.

    Returns:
        int32, the shape of ``x`` with 1 at ``axes``: ``(1, 1, 1, C)`` for a kernel with one exponent per output
        channel. The larger of equally good exponents.
    """
    x = tf.convert_to_tensor(x)
    if not signed:
        x = tf.nn.relu(x)
    largest_exponent = max_exponent(tf.reduce_max(tf.abs(x), axis=axes, keepdims=True), magnitude_bits)
    high = largest_integer(magnitude_bits, x.dtype)
    low = -high if signed else tf.zeros_like(high)
    # In units of the largest candidate's step, so that squares neither overflow nor vanish.
    scaled = x * power_of_two(-largest_exponent, x.dtype)
    count = _winning_candidates(magnitude_bits, tf.size(x) // tf.size(largest_exponent), candidates)
    if one_at_a_time:
        best_offset = _best_offset_in_turn(scaled, count, low, high, axes)
    else:
        errors = _squared_errors(scaled, tf.range(count), low, high, axes)
        best_offset = tf.argmin(errors, axis=0, output_type=tf.int32)
    return tf.maximum(largest_exponent - best_offset, MIN_EXPONENT)


def _winning_candidates(magnitude_bits: tf.Tensor, channel_size: tf.Tensor, candidates: int) -> tf.Tensor:
    """Return how many of the candidates can win in channels of so many values; see :data:`MSE_CANDIDATES`."""
    clipped_share = np.maximum(0.5 - np.ldexp(1.0, -np.arange(candidates)), 0.0)
    values_needed = 4.0 * tf.square(largest_integer(magnitude_bits, tf.float64) * clipped_share)
    return tf.reduce_sum(tf.cast(tf.cast(channel_size, tf.float64) > values_needed, tf.int32))


def _best_offset_in_turn(
    scaled: tf.Tensor, count: tf.Tensor, low: tf.Tensor, high: tf.Tensor, axes: tuple[int, ...]
) -> tf.Tensor:
    """Return the offset of least squared error, trying no step whose clipped values alone have a larger one.

    What clipping costs only grows from one offset to the next.
    """
    magnitude = tf.abs(scaled)
    (best_error,) = _squared_errors(scaled, tf.constant([0]), low, high, axes)
    best_offset = tf.zeros(best_error.shape, tf.int32)
    for offset in range(1, int(count)):
        limit = high * power_of_two(-offset, scaled.dtype)
        clipped_error = tf.reduce_sum(tf.square(tf.nn.relu(magnitude - limit)), axis=axes, keepdims=True)
        if tf.reduce_all(clipped_error >= best_error):
            break
        (error,) = _squared_errors(scaled, tf.constant([offset]), low, high, axes)
        best_offset = tf.where(error < best_error, offset, best_offset)
        best_error = tf.minimum(error, best_error)
    return best_offset


def _squared_errors(
    scaled: tf.Tensor, offsets: tf.Tensor, low: tf.Tensor, high: tf.Tensor, axes: tuple[int, ...]
) -> tf.Tensor:
    """Return the squared error of steps ``2**-offset``, stacked on a new first axis."""
    offsets = tf.reshape(offsets, (-1, *[1] * len(scaled.shape)))
    steps, inverses = power_of_two(-offsets, scaled.dtype), power_of_two(offsets, scaled.dtype)
    quantized = tf.clip_by_value(tf.round(scaled * inverses), low, high) * steps
    return tf.reduce_sum(tf.square(scaled - quantized), axis=[axis + 1 for axis in axes], keepdims=True)


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
