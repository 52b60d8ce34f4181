"""Fake quantization whose power-of-two scale has a gradient: trained thresholds."""

from __future__ import annotations

import math

import tensorflow as tf

from po2quant.quantizers.functional import Grid
from po2quant.scale import exact_reciprocal

LN2 = math.log(2.0)


def learned_quantize(
    x: tf.Tensor,
    log2_threshold: tf.Tensor,
    grid: Grid,
    clipped_gradient: bool = True,
    damping: tf.Tensor | float = 0.0,
    shared_axes: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Quantize ``x`` to powers of two that follow from trained thresholds t.

    Equation:
        y = s * clip(round(x / s), low, high), ties to even, s = 2**ceil(log2 t) * 2**-m, with m the magnitude bits:
        those of the integer without its sign.

    Gradient:
        The ceiling passes gradients on as the identity, so that ds/dlog2(t) = s * ln 2, and

        - dy/dlog2(t) = s * ln 2 * (round(x / s) - x / s) where x is not clipped, else s * ln 2 times the limit,
          ``low`` or ``high``; that is ln 2 * (y - x) and ln 2 * y. Summed over the values that share t.
        - dy/dx = 1 where x is not clipped, else 0 (``clipped_gradient=True``), or 1 everywhere.

        Values inside ask for a smaller threshold and so for more precision, clipped ones for a larger range. Damping
        adds 2 * damping * (x - y) to the gradient of unclipped x: that of damping * sum((x - y)**2), which draws values
        to the middle between two ties, where they no longer oscillate.

    Args:
        x: values, any shape, float32 or float64.
        log2_threshold: log2 t, of the rank of ``x`` with 1 where values share it, e.g. ``(1, 1, 1, C)``; only its
            gradient is used here.
        grid: integers, and scales s of the same shape.
        clipped_gradient: whether clipped values get no gradient.
        damping: weight of the squared rounding error, 0 for none.
        shared_axes: axes that share a threshold; None: those where ``log2_threshold`` has size 1.

    Returns:
        Tensor of the shape of ``x``.

    Reference:
        Jain et al., "Trained Quantization Thresholds for Accurate and Efficient Fixed-Point Inference of Deep Neural
        Networks", arXiv 1903.08066, section 3; damping: Nagel et al., "Overcoming Oscillations in Quantization-Aware
        Training", arXiv 2203.11086, section 4.1.
    """
    if shared_axes is None:
        shared_axes = tuple(axis for axis, size in enumerate(log2_threshold.shape) if size == 1)

    @tf.custom_gradient
    def quantize(values: tf.Tensor, threshold: tf.Tensor):
        in_lsbs, scale = grid.of_integers, tf.convert_to_tensor(grid.scale)
        multiples = values * exact_reciprocal(scale)
        integers = in_lsbs.quantize(multiples)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            slope = upstream * (integers - in_lsbs.where_unclipped(multiples, multiples))
            of_threshold = LN2 * (scale * tf.reduce_sum(slope, axis=shared_axes, keepdims=True))
            error = multiples - integers
            if not clipped_gradient:
                error = in_lsbs.where_unclipped(error, multiples)
            damped = upstream + 2.0 * damping * scale * error
            return in_lsbs.where_unclipped(damped, multiples) if clipped_gradient else damped, of_threshold

        return integers * scale, gradient

    return quantize(x, log2_threshold)


def learned_quantize_per_tensor(
    x: tf.Tensor, log2_threshold: tf.Tensor, grid: Grid, clipped_gradient: bool = True, rectified: bool = False
) -> tf.Tensor:
    """Return what :func:`learned_quantize` returns for one threshold, in fewer passes over memory.

    Args:
        x: values, any shape, float32 or float64.
        log2_threshold: log2 t, a scalar; only its gradient is used here.
        grid: integers, and one scale.
        clipped_gradient: whether clipped values get no gradient.
        rectified: whether values up to 0 get none either, as through a ReLU.

    Returns:
        Tensor of the shape of ``x``. Inputs below the smallest normal number count as zero.
    """

    @tf.custom_gradient
    def quantize(values: tf.Tensor, threshold: tf.Tensor):
        quantized = grid.quantize(values)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            slope = upstream * (quantized - grid.where_unclipped(values, values, rectified))
            of_threshold = LN2 * tf.reduce_sum(slope)
            return grid.where_unclipped(upstream, values, rectified) if clipped_gradient else upstream, of_threshold

        return quantized, gradient

    return quantize(x, log2_threshold)
