"""``quantized_bits_featuremap``: the activation quantizer, with a range that an integer engine can use."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant import scale as po2
from po2quant.bit_config import AUTO, POWERS_OF_TWO
from po2quant.fixed_point import HALF_EVEN, check_rounding
from po2quant.quantizers.arguments import check_flag, check_numbers, shown
from po2quant.quantizers.base import Quantizer
from po2quant.quantizers.computations import (
    largest_value,
    quantize_by_range,
    quantize_by_sample,
    quantize_by_threshold,
)
from po2quant.quantizers.formats import Format
from po2quant.quantizers.functional import before_relu
from po2quant.ranges import CALIBRATION_CANDIDATES, MSE, SEARCHED_FRACTIONS, check_calibration, range_by


@keras.saving.register_keras_serializable(package="po2quant")
class quantized_bits_featuremap(Quantizer):  # noqa: N801  the name that the study printed
    """Quantize activations to ``bits`` bits, with one static scale per tensor or one per sample.

    Equation:
        y = s * (clip(round(x / s) + z, low, high) - z), ties to even by default, over a range
        [minimum, maximum] of values, where

        - ``alpha='auto_po2'``: s = 2**e, the smallest that holds the range; z = 0;
        - ``alpha='learned_po2'``: s = 2**(ceil(log2 t) - m), m = bits or, signed, bits - 1; t is trained from the first
          step on, which starts it at the scale that holds the range; until then that scale itself; z = 0;
        - ``alpha='auto'``: s = max(|range|) / high; z = 0;
        - ``alpha='auto'``, ``affine=True``: s = (maximum - minimum) / (high - low) and an integer zero point z, over
          all integers of the width;
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

    Arguments stand where the study's class has them, with its defaults. What they mean differs from it:

    - ``scale_axis=None`` is one static scale; there it is one scale a channel, computed at run time.
    - ``alpha='auto'`` has no zero point. There the scale is that of max|x| while the zero point follows from minimum
      and maximum, so that levels are lost where the range is not centred. It shifts before it rounds, too, by 2**-16;
      here ties go to even.
    - ``keep_negative=0`` has levels for positive values alone; there it is ignored.
    - ``alpha=None``, the default, and numbers are QKeras' fixed point; there they are refused at the call.
    - Clipped values get no gradient; there all do (``clipped_gradient=False``).

    Args:
        bits: width in bits; 2 to 32, 1 to 32 without sign.
        integer: bits left of the binary point; only fixed point uses it.
        symmetric: drop the most negative integer; always true with computed and learned scales that have a sign.
        keep_negative: signed when true; use 0 after a ReLU, which doubles the levels.
        alpha: None, a number, ``'auto'``, ``'auto_po2'`` or ``'learned_po2'``.
        use_stochastic_rounding: accepted for the study's sake; without effect here as there.
        scale_axis: None or 0; learned scales are static.
        qnoise_factor: 0 passes x, 1 the quantized value, between them a mix.
        var_name: accepted for QKeras' sake; variables are named by Keras.
        use_ste: as in QKeras, whether the gradient of a mix passes whole.
        use_variables: whether ``qnoise_factor`` is a variable; the width always is one.
        momentum: weight of the past in the moving average, in [0, 1).
        clipped_gradient: whether clipped values get no gradient.
        affine: whether there is a zero point; needs ``alpha='auto'`` and a sign.
        static_range: ``(minimum, maximum)`` to start from, None where none is known.
        frozen: whether training leaves the range alone.
        log2_threshold: log2 t to go on training from; None starts as said above.
        calibration: how :meth:`calibrate` chooses the range, one of :data:`~po2quant.ranges.CALIBRATIONS`.
        rounding: one of :data:`~po2quant.fixed_point.ROUNDING_MODES`.
        full_range: whether the most negative integer is used, whatever ``symmetric`` says; needs powers of two.

    Raises:
        ValueError: for a width, alpha, scale_axis, momentum, range or calibration outside the valid ones.

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
        symmetric: bool | int = 0,
        keep_negative: bool | int = True,
        alpha: str | float | None = None,
        use_stochastic_rounding: bool = False,
        scale_axis: int | None = None,
        qnoise_factor: float = 1.0,
        var_name: str | None = None,
        use_ste: bool = True,
        use_variables: bool = False,
        *,
        momentum: float = 0.99,
        clipped_gradient: bool = True,
        affine: bool = False,
        static_range: Any = None,
        frozen: bool = False,
        log2_threshold: float | None = None,
        calibration: str = MSE,
        rounding: str = HALF_EVEN,
        full_range: bool = False,
        **kwargs: Any,
    ) -> None:
        check_calibration(calibration)
        check_rounding(rounding)
        is_axis = isinstance(scale_axis, (int, np.integer)) and not isinstance(scale_axis, bool)
        if scale_axis is not None and (not is_axis or scale_axis != 0):
            raise ValueError(
                "scale_axis must be None (one static scale) or 0 (one per sample). "
                f"Received: scale_axis={shown(scale_axis)}"
            )
        if not isinstance(momentum, (int, float, np.number)) or not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be in [0, 1). Received: momentum={shown(momentum)}")
        affine = check_flag("affine", affine)
        self.rounding, self.full_range = rounding, check_flag("full_range", full_range)
        symmetric = (check_flag("symmetric", symmetric) or isinstance(alpha, str)) and not (affine or self.full_range)
        super().__init__(bits, integer, symmetric, keep_negative, alpha, clipped_gradient, **kwargs)
        self.is_affine = affine
        if self.is_affine and (alpha != AUTO or not self.signed):
            raise ValueError(f"affine needs alpha='auto' and keep_negative=1. Received: {self}")
        if self.full_range and alpha not in POWERS_OF_TWO:
            raise ValueError(f"full_range needs a power of two as scale. Received: alpha={shown(alpha)}")
        if self.is_learned and scale_axis is not None:
            raise ValueError(f"scale_axis must be None with alpha='learned_po2'. Received: scale_axis={scale_axis}")
        self._set_noise(qnoise_factor, use_ste, use_variables, var_name)
        self.use_stochastic_rounding = check_flag("use_stochastic_rounding", use_stochastic_rounding)
        self.scale_axis = scale_axis
        self.momentum = float(momentum)
        self.calibration = calibration
        self._add_state()
        self._set_state(static_range, check_flag("frozen", frozen), log2_threshold)
        # There is nothing left to build: Keras need not trace a call to find out.
        self.built = True

    def _add_state(self) -> None:
        if self.is_static:
            self._minimum = self.add_weight(shape=(), trainable=False, initializer="zeros", name="minimum")
            self._maximum = self.add_weight(shape=(), trainable=False, initializer="zeros", name="maximum")
            self._frozen = self.add_weight(shape=(), dtype="bool", trainable=False, initializer="zeros", name="frozen")
        if self.is_learned:
            self._add_threshold(())

    def _set_state(self, static_range: Any, frozen: bool, log2_threshold: float | None) -> None:
        if (static_range is not None or frozen) and not self.is_static:
            raise ValueError(f"static_range and frozen need one static scale. Received: {self}")
        if log2_threshold is not None and not self.is_learned:
            raise ValueError(f"log2_threshold needs alpha='learned_po2'. Received: alpha={self.alpha!r}")
        if static_range is not None:
            limits = check_numbers("static_range", static_range)
            if np.shape(limits) != (2,):
                raise ValueError(f"static_range must be (minimum, maximum). Received: {shown(static_range)}")
            self.set_range(*limits)
        if frozen:
            self._frozen.assign(True)
        if log2_threshold is not None:
            self._set_threshold(check_numbers("log2_threshold", log2_threshold, is_one=True))

    @property
    def format(self) -> Format:
        """The integers, how they are rounded, and the source of their scale, apart from the width."""
        return dataclasses.replace(super().format, rounding=self.rounding)

    @property
    def is_static(self) -> bool:
        """Whether the scale comes from a stored range."""
        return isinstance(self.alpha, str) and self.scale_axis is None

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
        :data:`~po2quant.ranges.SEARCHED_FRACTIONS` of the observed range.

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
            return self._mix(x, self._fixed_point(x))
        bit_width, training = tf.convert_to_tensor(self._bit_width), bool(training)
        if not self.is_static:
            quantized = quantize_by_sample(x, bit_width, values=self.format)
        elif self.is_learned:
            quantized = self._quantize_by_threshold(*self._unrectified(x), bit_width, training)
        else:
            quantized = self._quantize_by_range(*self._unrectified(x), bit_width, training)
        quantized.set_shape(x.shape)
        return self._mix(x, quantized)

    def _unrectified(self, x: tf.Tensor) -> tuple[tf.Tensor, bool]:
        """Return ``x`` without its ReLU, which a power of two takes along with its gradient, and if there is one."""
        is_fusible = self.alpha in POWERS_OF_TWO and not self.signed and self.clipped_gradient
        return before_relu(x) if is_fusible else (x, False)

    def _quantize_by_range(self, x: tf.Tensor, rectified: bool, bit_width: tf.Tensor, training: bool) -> tf.Tensor:
        quantized, *moved = quantize_by_range(
            x,
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

    def _quantize_by_threshold(self, x: tf.Tensor, rectified: bool, bit_width: tf.Tensor, training: bool) -> tf.Tensor:
        state = map(tf.convert_to_tensor, (self._frozen, self._log2_threshold, self._learning))
        quantized, started, learning = quantize_by_threshold(
            x,
            bit_width,
            *self._stored_range(x.dtype),
            *state,
            values=self._format_of(x),
            training=training,
            rectified=rectified,
        )
        if training:
            self._log2_threshold.assign(started)
            self._learning.assign(learning)
        return quantized

    def _format_of(self, x: tf.Tensor) -> Format:
        return dataclasses.replace(self.format, small=po2.is_small(x.shape))

    def _stored_range(self, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(self._minimum, dtype), tf.cast(self._maximum, dtype)

    def __str__(self) -> str:
        """Return the quantizer as QKeras prints it."""
        text = super().__str__()
        return f"{text[:-1]},affine=True)" if self.is_affine else text

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        stored = (float(self._minimum.numpy()), float(self._maximum.numpy())) if self.is_static else (0.0, 0.0)
        return super().get_config() | {
            "use_stochastic_rounding": self.use_stochastic_rounding,
            "scale_axis": self.scale_axis,
            "momentum": self.momentum,
            "affine": self.is_affine,
            "static_range": None if stored == (0.0, 0.0) else stored,
            "frozen": self.frozen,
            "log2_threshold": float(self._log2_threshold.numpy()) if self.learning else None,
            "calibration": self.calibration,
            "rounding": self.rounding,
            "full_range": self.full_range,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> quantized_bits_featuremap:
        """Return the quantizer of a configuration.

        Before ``affine`` there was, a sign and ``alpha='auto'`` without ``symmetric`` meant it.
        """
        is_old = "momentum" in config and "affine" not in config
        if is_old and config["alpha"] == AUTO and config["keep_negative"] and not config["symmetric"]:
            config = config | {"affine": True}
        return cls(**config)
