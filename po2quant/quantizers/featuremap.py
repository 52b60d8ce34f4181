"""``quantized_bits_featuremap``: the activation quantizer, with a range that an integer engine can use."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant import scale as po2
from po2quant.bit_config import AUTO_PO2, POWERS_OF_TWO
from po2quant.quantizers.base import Quantizer, shown
from po2quant.quantizers.computations import (
    largest_value,
    quantize_by_range,
    quantize_by_sample,
    quantize_by_threshold,
)
from po2quant.quantizers.formats import Format
from po2quant.quantizers.functional import before_relu
from po2quant.ranges import range_by
from po2quant.rules import MSE, check_calibration

SEARCHED_FRACTIONS = tuple(2.0 ** (-step / 4) for step in range(13))
"""Fractions of the observed range that calibration tries for ``alpha='auto'``: 1 down to 1/8."""


CALIBRATION_CANDIDATES = 16
"""Exponents that calibration tries for powers of two; activations have farther outliers than weights."""


@keras.saving.register_keras_serializable(package="po2quant")
class quantized_bits_featuremap(Quantizer):  # noqa: N801  the name that the study printed
    """Quantize activations to ``bits`` bits, with one static scale per tensor or one per sample.

    Equation:
        y = s * (clip(round(x / s) + z, low, high) - z), ties to even, over a range
        [minimum, maximum] of values, where

        - ``alpha='auto_po2'``: s = 2**e, the smallest that holds the range; z = 0;
        - ``alpha='learned_po2'``: s = 2**(ceil(log2 t) - m), m = bits or, signed, bits - 1; t is trained from the first
          step on, which starts it at the scale that holds the range; until then that scale itself; z = 0;
        - ``alpha='auto'``, symmetric or unsigned: s = max(|range|) / high; z = 0;
        - ``alpha='auto'``, ``symmetric=0``: the affine map with
          s = (maximum - minimum) / (high - low) and an integer zero point z;
        - ``alpha=None`` or a number: QKeras' fixed point, as in ``quantized_bits``.

    The range:
        - ``scale_axis=None``: one static range per tensor. It is calibrated once, or it follows the
          batches of training by a moving average; frozen, it stays. Before either, the batch at
          hand gives the range.
        - ``scale_axis=0``: the range of each sample, at run time: the study's meaning. No integer
          engine can do that; use it for comparison.

    Gradient:
        1 where the value was not clipped, else 0 (``clipped_gradient=True``), or 1 everywhere. That of a threshold is
        in :func:`~po2quant.quantizers.learned.learned_quantize`.

    Args:
        bits: width in bits; 2 to 32, 1 to 32 without sign.
        integer: bits left of the binary point; only fixed point uses it.
        symmetric: drop the most negative integer; 0 with ``'auto'`` means an affine map.
        keep_negative: signed when true; use 0 after a ReLU, which doubles the levels.
        alpha: None, a number, ``'auto'``, ``'auto_po2'`` or ``'learned_po2'``.
        scale_axis: None or 0; learned scales are static.
        momentum: weight of the past in the moving average, in [0, 1).
        clipped_gradient: whether clipped values get no gradient.
        calibration: how :meth:`calibrate` chooses the range, one of :data:`~po2quant.rules.CALIBRATIONS`.

    Raises:
        ValueError: for a width, alpha, scale_axis, momentum or calibration outside the valid ones.

    Example:
        >>> q = quantized_bits_featuremap(8, 8, 1, 0, alpha="auto_po2")
        >>> q.set_range(0.0, 6.0)
        >>> q(keras.ops.array([[0.51, -1.0, 9.0]])).numpy().tolist()
        [[0.5, 0.0, 7.96875]]

    Reference:
        Jacob et al., arXiv 1712.05877, section 3.1 (moving average of ranges); TQT, arXiv 1903.08066.
    """

    def __init__(
        self,
        bits: int = 8,
        integer: int = 0,
        symmetric: bool | int = 1,
        keep_negative: bool | int = True,
        alpha: str | float | None = AUTO_PO2,
        scale_axis: int | None = None,
        momentum: float = 0.99,
        clipped_gradient: bool = True,
        calibration: str = MSE,
        **kwargs: Any,
    ) -> None:
        check_calibration(calibration)
        if scale_axis is not None and (not isinstance(scale_axis, (int, np.integer)) or scale_axis != 0):
            raise ValueError(
                "scale_axis must be None (one static scale) or 0 (one per sample). "
                f"Received: scale_axis={shown(scale_axis)}"
            )
        if not isinstance(momentum, (int, float, np.number)) or not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be in [0, 1). Received: momentum={shown(momentum)}")
        super().__init__(bits, integer, symmetric, keep_negative, alpha, clipped_gradient, **kwargs)
        if self.is_learned and scale_axis is not None:
            raise ValueError(f"scale_axis must be None with alpha='learned_po2'. Received: scale_axis={scale_axis}")
        self.scale_axis = scale_axis
        self.momentum = float(momentum)
        self.calibration = calibration
        if self.is_static:
            self._minimum = self.add_weight(shape=(), trainable=False, initializer="zeros", name="minimum")
            self._maximum = self.add_weight(shape=(), trainable=False, initializer="zeros", name="maximum")
            self._frozen = self.add_weight(shape=(), dtype="bool", trainable=False, initializer="zeros", name="frozen")
        if self.is_learned:
            self._add_threshold(())
        # There is nothing left to build: Keras need not trace a call to find out.
        self.built = True

    @property
    def is_static(self) -> bool:
        """Whether the scale comes from a stored range."""
        return isinstance(self.alpha, str) and self.scale_axis is None

    @property
    def is_affine(self) -> bool:
        """Whether a zero point other than 0 is used."""
        return self.alpha == "auto" and self.signed and not self.symmetric

    @property
    def frozen(self) -> bool:
        """Whether training leaves the range alone."""
        return self.is_static and bool(self._frozen.numpy())

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        if self.is_static:
            if frozen and self.learning:
                self.set_range(*self.range)
            self._frozen.assign(frozen)

    @property
    def range(self) -> tuple[float, float]:
        """The static range ``(minimum, maximum)``; ``(0, 0)`` means that none is known yet."""
        if self.learning:
            values, bit_width, dtype = self.format, tf.convert_to_tensor(self._bit_width), self._minimum.dtype
            exponent = values.learned_exponent(tf.convert_to_tensor(self._log2_threshold), bit_width)
            limit = float(values.limits(bit_width, dtype)[1] * po2.power_of_two(exponent, dtype))
            return -limit if self.signed else 0.0, limit
        return float(self._minimum.numpy()), float(self._maximum.numpy())

    def set_range(self, minimum: float, maximum: float) -> None:
        """Set the static range, whose two ends must be finite and in order; a learned scale starts anew from it."""
        if not (-float("inf") < minimum <= maximum < float("inf")):
            raise ValueError(f"a range must be finite and ascending. Received: [{minimum}, {maximum}]")
        self._minimum.assign(min(minimum, 0.0))
        self._maximum.assign(max(maximum, 0.0))
        self._forget_threshold()

    def _forget_scale(self) -> None:
        self._forget_threshold()

    def calibrate(self, x: tf.Tensor, rule: str | None = None) -> None:
        """Set the static range to the one that a rule chooses for ``x``: by default that of least squared error.

        For least squared error, power-of-two scales try the exponents of the ``mse`` rule, others the
        :data:`SEARCHED_FRACTIONS` of the observed range.

        Args:
            x: values.
            rule: as the argument ``calibration``, and by default that.

        Raises:
            ValueError: for an unknown rule.
        """
        rule = rule or self.calibration
        check_calibration(rule)
        if not self.is_static:
            return
        x = tf.cast(x, self.compute_dtype)
        if rule != MSE:
            levels = int(self.format.limits(tf.convert_to_tensor(self._bit_width), tf.float64)[1])
            self.set_range(*self._representable(*range_by(rule, x.numpy(), self._candidate_ranges(x), levels)))
        elif self.alpha in POWERS_OF_TWO:
            values = dataclasses.replace(
                self.format,
                axes=tuple(range(len(x.shape))),
                candidates=CALIBRATION_CANDIDATES,
                small=po2.is_small(x.shape),
            )
            search = largest_value if values.small else largest_value.in_graph
            maximum = float(search(x, tf.convert_to_tensor(self._bit_width), values=values))
            self.set_range(-maximum if self.signed else 0.0, maximum)
        else:
            minimum, maximum = tf.reduce_min(x), tf.reduce_max(x)
            best = self._best_fraction(x, minimum, maximum)
            self.set_range(float(best * minimum), float(best * maximum))

    def _representable(self, minimum: float, maximum: float) -> tuple[float, float]:
        """Return a range, or the one of the smallest power of two that holds it."""
        if self.alpha not in POWERS_OF_TWO or minimum == maximum == 0.0:
            return minimum, maximum
        bit_width = tf.convert_to_tensor(self._bit_width)
        scale, _ = self.scale_and_zero_point(*(tf.constant(end, self.compute_dtype) for end in (minimum, maximum)))
        limit = float(self.format.limits(bit_width, scale.dtype)[1] * scale)
        return -limit if self.signed else 0.0, limit

    def _candidate_ranges(self, x: tf.Tensor) -> list[tuple[float, float]]:
        """Return the ranges that the rule of least divergence tries, the widest first."""
        minimum, maximum = float(tf.reduce_min(x)), float(tf.reduce_max(x))
        if self.alpha not in POWERS_OF_TWO:
            fractions = [2.0 ** (-step / 4) for step in range(4 * CALIBRATION_CANDIDATES)]
            return [(fraction * minimum, fraction * maximum) for fraction in fractions]
        widest = self._representable(minimum, maximum)
        return [(widest[0] * 0.5**step, widest[1] * 0.5**step) for step in range(CALIBRATION_CANDIDATES)]

    def _best_fraction(self, x: tf.Tensor, minimum: tf.Tensor, maximum: tf.Tensor) -> float:
        """Return the share of the range that has the least squared error.

        None is tried whose clipped values alone cost more, since smaller ones clip more.
        """

        def error_of(approximation: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(tf.math.squared_difference(x, approximation))

        values, bit_width = self.format, tf.convert_to_tensor(self._bit_width)
        best, best_error = 1.0, np.inf
        for fraction in SEARCHED_FRACTIONS:
            scale, zero_point = self.scale_and_zero_point(fraction * minimum, fraction * maximum)
            low, high = (scale * (limit - (zero_point or 0.0)) for limit in values.limits(bit_width, x.dtype))
            clipped = tf.raw_ops.ClipByValue(t=x, clip_value_min=low, clip_value_max=high)
            if error_of(clipped) >= best_error:
                break
            error = error_of(values.fake_quantize(x, scale, bit_width, zero_point))
            if error < best_error:
                best, best_error = fraction, error
        return best

    def scale_and_zero_point(self, minimum: tf.Tensor, maximum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Return the scale and the zero point (None for 0) that hold a range of values."""
        return self.format.scale_and_zero_point(minimum, maximum, tf.convert_to_tensor(self._bit_width))

    @property
    def scale(self) -> float:
        """Value of one LSB under the static range, or of the fixed-point format."""
        if not isinstance(self.alpha, str):
            return float(self.format.fixed_scale(tf.convert_to_tensor(self._bit_width), tf.float32))
        minimum, maximum = (tf.constant(limit, self._minimum.dtype) for limit in self.range)
        return float(self.scale_and_zero_point(minimum, maximum)[0])

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the quantized values of ``x``, in its shape."""
        x = tf.convert_to_tensor(x)
        if not isinstance(self.alpha, str):
            return self._fixed_point(x)
        bit_width, training = tf.convert_to_tensor(self._bit_width), bool(training)
        if not self.is_static:
            quantized = quantize_by_sample(x, bit_width, values=self.format)
        elif self.is_learned:
            quantized = self._quantize_by_threshold(x, bit_width, training)
        else:
            quantized = self._quantize_by_range(x, bit_width, training)
        quantized.set_shape(x.shape)
        return quantized

    def _quantize_by_range(self, x: tf.Tensor, bit_width: tf.Tensor, training: bool) -> tf.Tensor:
        """Quantize with one scale; a ReLU before it is taken along by a power of two, which saves its gradient."""
        is_fusible = self.alpha == AUTO_PO2 and not self.signed and self.clipped_gradient
        unrectified = before_relu(x) if is_fusible else None
        rectified = unrectified is not None
        quantized, *moved = quantize_by_range(
            unrectified if rectified else x,
            bit_width,
            *self._stored_range(x.dtype),
            tf.convert_to_tensor(self._frozen),
            values=self._format_of(x),
            momentum=self.momentum if training else None,
            rectified=rectified,
        )
        if training:
            self._minimum.assign(moved[0])
            self._maximum.assign(moved[1])
        return quantized

    def _quantize_by_threshold(self, x: tf.Tensor, bit_width: tf.Tensor, training: bool) -> tf.Tensor:
        frozen, learning = tf.convert_to_tensor(self._frozen), tf.convert_to_tensor(self._learning)
        quantized, started = quantize_by_threshold(
            x,
            bit_width,
            *self._stored_range(x.dtype),
            frozen,
            tf.convert_to_tensor(self._log2_threshold),
            learning,
            values=self._format_of(x),
            training=training,
        )
        if training:
            self._log2_threshold.assign(started)
            self._learning.assign(learning | ~frozen)
        return quantized

    def _format_of(self, x: tf.Tensor) -> Format:
        return dataclasses.replace(self.format, small=po2.is_small(x.shape))

    def _stored_range(self, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(self._minimum, dtype), tf.cast(self._maximum, dtype)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        return super().get_config() | {
            "scale_axis": self.scale_axis,
            "momentum": self.momentum,
            "calibration": self.calibration,
        }
