"""Fake quantization as pure functions, with straight-through gradients."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from po2quant.fixed_point import FLOOR, HALF_EVEN
from po2quant.scale import exact_reciprocal, integer_limits, largest_integers, round_to_multiples, rounded_as

SMALLEST_SCALE = 2.0**-126
"""The smallest normal float32; below it scales would count as zero."""


def fake_quantize(
    x: tf.Tensor,
    scale: tf.Tensor,
    low: tf.Tensor,
    high: tf.Tensor,
    zero_point: tf.Tensor | None = None,
    is_power_of_two: bool = False,
    clipped_gradient: bool = True,
    rounding: str = HALF_EVEN,
) -> tf.Tensor:
    """Round ``x`` to the grid of ``scale`` and clip it to a range of integers.

    Equation:
        q = clip(round(x / scale) + zero_point, low, high);
        y = (q - zero_point) * scale.

    Gradient:
        dy/dx = 1 where q was not clipped, 0 where it was (``clipped_gradient=True``), or 1
        everywhere. The scale gets no gradient.

    Args:
        x: values, any shape, float32 or float64.
        scale: value of one LSB; broadcasts against ``x``.
        low: smallest integer.
        high: largest integer.
        zero_point: integer that stands for 0.0; None means 0.
        is_power_of_two: whether the scale is one, so that a multiplication by its exact reciprocal will do.
        clipped_gradient: whether clipped values get no gradient.
        rounding: one of :data:`~po2quant.fixed_point.ROUNDING_MODES`.

    Returns:
        Tensor of the shape of ``x``.

    Reference:
        Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons",
        arXiv 1308.3432; Jacob et al., arXiv 1712.05877, section 3.
    """

    @tf.custom_gradient
    def straight_through(values: tf.Tensor):
        rounded = rounded_as(values * exact_reciprocal(scale) if is_power_of_two else values / scale, rounding)
        if zero_point is not None:
            rounded += zero_point
        clipped = tf.clip_by_value(rounded, low, high)
        quantized = clipped if zero_point is None else clipped - zero_point

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            if not clipped_gradient:
                return upstream
            return tf.where(tf.equal(rounded, clipped), upstream, tf.zeros_like(upstream))

        return quantized * scale, gradient

    return straight_through(x)


def fake_quantize_per_tensor(
    x: tf.Tensor, grid: Grid, clipped_gradient: bool = True, rectified: bool = False
) -> tf.Tensor:
    """Return what :func:`fake_quantize` returns for one power-of-two scale, in one pass over memory instead of five.

    Args:
        x: values, any shape, float32 or float64.
        grid: integers, and one scale.
        clipped_gradient: whether clipped values get no gradient.
        rectified: whether values up to 0 get none either, as through a ReLU.

    Returns:
        Tensor of the shape of ``x``. Inputs below the smallest normal number count as zero.
    """

    @tf.custom_gradient
    def straight_through(values: tf.Tensor):
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return grid.where_unclipped(upstream, values, rectified) if clipped_gradient else upstream

        return grid.quantize(values), gradient

    return straight_through(x)


def fake_quantize_per_channel(x: tf.Tensor, grid: Grid, clipped_gradient: bool = True) -> tf.Tensor:
    """Return what :func:`fake_quantize` returns for power-of-two scales, in fewer passes over memory.

    Args:
        x: values, any shape, float32 or float64.
        grid: integers, and scales that broadcast against ``x``.
        clipped_gradient: whether clipped values get no gradient.

    Returns:
        Tensor of the shape of ``x``.
    """

    @tf.custom_gradient
    def straight_through(values: tf.Tensor):
        multiples = values * exact_reciprocal(grid.scale)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return grid.of_integers.where_unclipped(upstream, multiples) if clipped_gradient else upstream

        return grid.of_integers.quantize(multiples) * grid.scale, gradient

    return straight_through(x)


def before_relu(x: tf.Tensor) -> tuple[tf.Tensor, bool]:
    """Return the input of the ReLU that computes ``x`` in a graph, else ``x``, and whether there is such a ReLU.

    Quantization to non-negative integers is a ReLU itself, so that it may take that input instead.
    """
    rectified = not tf.executing_eagerly() and x.op.type == "Relu"
    return (x.op.inputs[0] if rectified else x), rectified


@dataclasses.dataclass(frozen=True)
class Grid:
    """The values of a power-of-two format, and what of a tensor they clip.

    Args:
        scale: value of one LSB, None for 1; a scalar where a method is used.
        bit_width: width in bits, an int32 scalar.
        signed: whether negative values are represented.
        narrow_range: whether the most negative integer is unused.
        small: whether tensors are small; None looks at their shapes.
        rounding: one of :data:`~po2quant.fixed_point.ROUNDING_MODES`.
    """

    scale: tf.Tensor | None
    bit_width: tf.Tensor
    signed: bool
    narrow_range: bool
    small: bool | None = None
    rounding: str = HALF_EVEN

    @property
    def magnitude_bits(self) -> tf.Tensor:
        """Bits of an integer without its sign."""
        return self.bit_width - int(self.signed)

    @property
    def of_integers(self) -> Grid:
        """The integers themselves, which take no branch in a graph."""
        return dataclasses.replace(self, scale=None, small=True)

    def quantize(self, values: tf.Tensor) -> tf.Tensor:
        """Return the rounded values of the grid; large tensors take one pass over memory where ties go to even."""
        return round_to_multiples(
            values, self.scale, self.magnitude_bits, self.signed, self.narrow_range, self.small, self.rounding
        )

    def where_unclipped(self, tensor: tf.Tensor, values: tf.Tensor, rectified: bool = False) -> tf.Tensor:
        """Return ``tensor`` where the grid does not clip ``values`` (and where they exceed 0), else 0, in one pass."""
        largest = _times(tf.gather(_largest_unclipped(values.dtype, self.rounding), self.magnitude_bits), self.scale)
        if rectified:
            smallest = tf.constant(SMALLEST_SCALE, values.dtype)
        elif self.rounding != FLOOR and self.signed and self.narrow_range:
            smallest = -largest
        else:
            low, _ = integer_limits(self.magnitude_bits, self.signed, self.narrow_range, values.dtype)
            smallest = _times(low if self.rounding == FLOOR else low - 0.5, self.scale)
        return tf.raw_ops.QuantizeAndDequantizeV4Grad(
            gradients=tensor, input=values, input_min=smallest, input_max=largest
        ).input_backprop


def _times(value: tf.Tensor, scale: tf.Tensor | None) -> tf.Tensor:
    return value if scale is None else value * scale


@functools.cache
def _largest_unclipped(dtype: tf.DType, rounding: str) -> np.ndarray:
    """Return the largest number that rounds to an integer of a format, by its magnitude bits.

    Half an LSB beyond the limit, an odd integer, is clipped, and a whole one where values are rounded down. Half an LSB
    beyond the most negative integer, an even one, is not.
    """
    high = largest_integers(dtype)
    beyond = 1.0 if rounding == FLOOR else 0.5
    return np.maximum(high, np.nextafter(high + high.dtype.type(beyond), high.dtype.type(0)))


def affine_scale(
    minimum: tf.Tensor, maximum: tf.Tensor, low: tf.Tensor, high: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return scale and zero point that map ``[minimum, maximum]`` onto the integers ``[low, high]``.

    Equation:
        s = (maximum - minimum) / (high - low);
        z = round((maximum * low - minimum * high) / (maximum - minimum)),
        after extending the range to contain 0, so that 0.0 is exact.

    Args:
        minimum: smallest value.
        maximum: largest value.
        low: smallest integer.
        high: largest integer.

    Returns:
        ``(scale, zero_point)`` of the shape of ``minimum``; an empty range gets scale 1.

    Reference:
        Jacob et al., arXiv 1712.05877, equation 1.
    """
    minimum, maximum = tf.minimum(minimum, 0.0), tf.maximum(maximum, 0.0)
    span = maximum - minimum
    span = tf.where(span > 0, span, high - low)
    zero_point = tf.round((maximum * low - minimum * high) / span)
    return tf.maximum(span / (high - low), SMALLEST_SCALE), tf.clip_by_value(zero_point, low, high)


def symmetric_scale(max_abs: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Return the real scale ``max_abs / high`` that maps the largest value to the largest integer.

    Zeros get the scale of 1.0, as they do under power-of-two scales.
    """
    return tf.maximum(tf.where(max_abs > 0, max_abs, tf.ones_like(max_abs)) / high, SMALLEST_SCALE)
