"""What quantizers compute, as pure functions of tensors: each is traced once for all sizes and called where it is used.

State comes in and goes out as tensors. Widths are tensors, everything else that tells quantizers apart is a
:class:`~po2quant.quantizers.formats.Format`.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from po2quant import scale as po2
from po2quant.bit_config import AUTO, AUTO_PO2
from po2quant.graphs import shared_graph
from po2quant.quantizers.formats import Format
from po2quant.quantizers.functional import fake_quantize_per_channel, fake_quantize_per_tensor
from po2quant.quantizers.learned import learned_quantize, learned_quantize_per_tensor


def dithered(x: tf.Tensor, scale: tf.Tensor, *noise: tf.Tensor) -> tf.Tensor:
    """Return ``x`` plus noise in LSBs, where there is any."""
    return x + tf.stop_gradient(scale * noise[0]) if noise else x


@shared_graph
def computed_scale(x: tf.Tensor, bit_width: tf.Tensor, *, values: Format) -> tf.Tensor:
    """Return the scale that the values of ``x`` call for."""
    return values.scale_of(x, bit_width)


def _stored_or_computed(
    x: tf.Tensor, bit_width: tf.Tensor, settled: tf.Tensor, stored: tf.Tensor, values: Format
) -> tf.Tensor:
    return tf.cond(settled, lambda: stored, lambda: values.scale_of(tf.stop_gradient(x), bit_width))


@shared_graph
def quantize_weights(
    x: tf.Tensor,
    bit_width: tf.Tensor,
    frozen: tf.Tensor,
    frozen_scale: tf.Tensor,
    *noise: tf.Tensor,
    values: Format,
    kept: bool,
) -> tf.Tensor:
    """Quantize under the frozen scale, which counts even where it is not frozen if ``kept``, or a computed one."""
    scale = frozen_scale if kept else _stored_or_computed(x, bit_width, frozen, frozen_scale, values)
    x = dithered(x, scale, *noise)
    if values.alpha == AUTO:
        return values.fake_quantize(x, scale, bit_width)
    return fake_quantize_per_channel(x, values.grid(scale, bit_width), values.clipped_gradient)


def _scale_of_threshold(
    bit_width: tf.Tensor, frozen: tf.Tensor, frozen_scale: tf.Tensor, threshold: tf.Tensor, values: Format
) -> tf.Tensor:
    exponent = values.within_limits(values.learned_exponent(threshold, bit_width))
    return tf.where(frozen, frozen_scale, po2.power_of_two(exponent, frozen_scale.dtype))


@shared_graph
def learned_scale(
    x: tf.Tensor,
    bit_width: tf.Tensor,
    frozen: tf.Tensor,
    frozen_scale: tf.Tensor,
    threshold: tf.Tensor,
    learning: tf.Tensor,
    *,
    values: Format,
) -> tf.Tensor:
    """Return the scale in use outside training: that of ``x`` while none is frozen or learned."""
    stored = _scale_of_threshold(bit_width, frozen, frozen_scale, threshold, values)
    return _stored_or_computed(x, bit_width, frozen | learning, stored, values)


@functools.partial(shared_graph, inlined=False)
def _started_weights(
    x: tf.Tensor,
    bit_width: tf.Tensor,
    frozen: tf.Tensor,
    frozen_scale: tf.Tensor,
    threshold: tf.Tensor,
    *,
    values: Format,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the threshold, which training starts from the scale of ``x``, and the scale in use."""

    def start() -> tf.Tensor:
        scale = values.scale_of(x, bit_width)
        return tf.broadcast_to(values.threshold_of(scale, bit_width, threshold.dtype), tf.shape(threshold))

    started = tf.cond(frozen, lambda: threshold, start)
    return started, _scale_of_threshold(bit_width, frozen, frozen_scale, started, values)


@shared_graph
def quantize_learned_weights(
    x: tf.Tensor, bit_width: tf.Tensor, *state: tf.Tensor, values: Format, training: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return quantized values, the threshold, which training starts from the scale of ``x``, and whether it learns."""
    frozen, frozen_scale, threshold, learning, damping, *noise = state
    known = bit_width, frozen, frozen_scale, threshold
    if training:
        started, scale = tf.cond(
            learning,
            lambda: (threshold, _scale_of_threshold(*known, values)),
            lambda: _started_weights(x, *known, values=values),
        )
        learning |= ~frozen
    else:
        started, scale = threshold, learned_scale(x, *known, learning, values=values)
    trained = _trained(threshold, learning, x.dtype)
    grid = values.grid(scale, bit_width)
    quantized = learned_quantize(
        dithered(x, scale, *noise), trained, grid, values.clipped_gradient, damping, values.axes
    )
    return quantized, tf.stop_gradient(started), learning


def _trained(threshold: tf.Tensor, learning: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return the threshold, which gets its gradient while it is learning."""

    @tf.custom_gradient
    def while_learning(threshold: tf.Tensor):
        return threshold, lambda upstream: tf.where(learning, upstream, tf.zeros((), upstream.dtype))

    return tf.cast(while_learning(threshold), dtype)


@shared_graph
def largest_value(x: tf.Tensor, bit_width: tf.Tensor, *, values: Format) -> tf.Tensor:
    """Return the largest value under the power-of-two scale that the rule gives to ``x``, 0 if ``x`` is zero."""
    limit = values.limits(bit_width, x.dtype)[1] * values.scale_of(x, bit_width)
    return tf.where(tf.reduce_any(x != 0.0), tf.reshape(limit, ()), 0.0)


@shared_graph
def quantize_by_sample(x: tf.Tensor, bit_width: tf.Tensor, *, values: Format) -> tf.Tensor:
    """Quantize each sample with the scale of its own range."""
    seen, axes = tf.stop_gradient(x), tuple(range(1, len(x.shape)))
    minimum, maximum = tf.reduce_min(seen, axes, keepdims=True), tf.reduce_max(seen, axes, keepdims=True)
    scale, zero_point = values.scale_and_zero_point(minimum, maximum, bit_width)
    return values.fake_quantize(x, scale, bit_width, zero_point)


@shared_graph
def quantize_by_range(
    x: tf.Tensor,
    bit_width: tf.Tensor,
    minimum: tf.Tensor,
    maximum: tf.Tensor,
    frozen: tf.Tensor,
    *,
    values: Format,
    momentum: float | None,
    rectified: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return quantized values and the range, which moves towards that of ``x`` (of its ReLU) unless it is frozen.

    Without a momentum, outside training, it stays where it is known.
    """
    follows = ~frozen & tf.equal(minimum, maximum) if momentum is None else ~frozen
    moved = _followed_range(tf.stop_gradient(x), minimum, maximum, follows, momentum or 0.0, rectified)
    scale, zero_point = values.scale_and_zero_point(*moved, bit_width)
    if values.alpha == AUTO_PO2:
        grid = values.grid(scale, bit_width)
        return fake_quantize_per_tensor(x, grid, values.clipped_gradient, rectified), *moved
    return values.fake_quantize(x, scale, bit_width, zero_point), *moved


def _followed_range(
    x: tf.Tensor, minimum: tf.Tensor, maximum: tf.Tensor, follows: tf.Tensor, momentum: float, rectified: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    def observed() -> tuple[tf.Tensor, tf.Tensor]:
        past = tf.where(tf.equal(minimum, maximum), tf.zeros((), x.dtype), tf.constant(momentum, x.dtype))
        largest = tf.maximum(tf.reduce_max(x), 0.0)
        moved = past * maximum + (1.0 - past) * largest
        if rectified:  # the smallest value is 0, and the largest that of x
            return past * minimum, moved
        return past * minimum + (1.0 - past) * tf.minimum(tf.reduce_min(x), 0.0), moved

    return tuple(map(tf.stop_gradient, tf.cond(follows, observed, lambda: (minimum, maximum))))


@functools.partial(shared_graph, inlined=False)
def _started_activations(
    x: tf.Tensor, bit_width: tf.Tensor, *state: tf.Tensor, values: Format, training: bool, rectified: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the threshold, which training starts from the stored range, and the scale in use."""
    minimum, maximum, frozen, threshold = state
    follows = ~frozen & tf.equal(minimum, maximum)
    known = _followed_range(x, minimum, maximum, follows, momentum=0.0, rectified=rectified)
    scale, _ = values.scale_and_zero_point(*known, bit_width)
    if not training:
        return threshold, scale
    started = tf.where(frozen, threshold, values.threshold_of(scale, bit_width, threshold.dtype))
    return started, tf.where(frozen, scale, values.learned_scale(started, bit_width, x.dtype))


@shared_graph
def quantize_by_threshold(
    x: tf.Tensor, bit_width: tf.Tensor, *state: tf.Tensor, values: Format, training: bool, rectified: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return quantized values (of the ReLU of ``x``), the threshold, which the stored range starts, and its state."""
    *known, learning = state
    frozen, threshold = known[2:]
    started, scale = tf.cond(
        learning,
        lambda: (threshold, values.learned_scale(threshold, bit_width, x.dtype)),
        lambda: _started_activations(x, bit_width, *known, values=values, training=training, rectified=rectified),
    )
    if training:
        learning |= ~frozen
    trained = _trained(threshold, learning, x.dtype)
    grid = values.grid(scale, bit_width)
    quantized = learned_quantize_per_tensor(x, trained, grid, values.clipped_gradient, rectified)
    return quantized, tf.stop_gradient(started), learning
