"""Fake quantization as pure functions, with straight-through gradients."""

from __future__ import annotations

import tensorflow as tf


def fake_quantize(
    x: tf.Tensor,
    scale: tf.Tensor,
    inverse_scale: tf.Tensor,
    low: tf.Tensor,
    high: tf.Tensor,
    zero_point: tf.Tensor | None = None,
    clipped_gradient: bool = True,
) -> tf.Tensor:
    """Round ``x`` to the grid of ``scale`` and clip it to a range of integers.

    Equation:
        q = clip(round(x * inverse_scale) + zero_point, low, high), ties to even;
        y = (q - zero_point) * scale.

    Gradient:
        dy/dx = 1 where q was not clipped, 0 where it was (``clipped_gradient=True``), or 1
        everywhere. The scale gets no gradient.

    Args:
        x: values, any shape, float32 or float64.
        scale: value of one LSB; broadcasts against ``x``.
        inverse_scale: ``1 / scale``, exact for powers of two.
        low: smallest integer.
        high: largest integer.
        zero_point: integer that stands for 0.0; None means 0.
        clipped_gradient: whether clipped values get no gradient.

    Returns:
        Tensor of the shape of ``x``.

    Reference:
        Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons",
        arXiv 1308.3432; Jacob et al., arXiv 1712.05877, section 3.
    """

    @tf.custom_gradient
    def straight_through(values: tf.Tensor):
        rounded = tf.round(values * inverse_scale)
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
    return span / (high - low), tf.clip_by_value(zero_point, low, high)
