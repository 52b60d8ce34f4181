"""What the quantizers share: a width that can change in a compiled graph, and integer ranges."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant import scale as po2
from po2quant.bit_config import ALPHAS, LEARNED_PO2
from po2quant.files import one_line
from po2quant.fixed_point import MAX_BITS, check_bits
from po2quant.quantizers.formats import Format

LOG2_THRESHOLD = "log2_threshold"
"""What the trained variable of a quantizer with ``alpha='learned_po2'`` is called."""

INTEGER_RANGE = range(po2.MIN_EXPONENT + MAX_BITS, po2.MAX_EXPONENT + 1)
"""Positions of the binary point whose step is a normal number at every width."""


LONGEST_SHOWN = 100
"""Characters of an argument that an error shows."""


def check_flag(name: str, value: Any) -> bool:
    """Return an argument that is 0 or 1, or raise ValueError."""
    if not isinstance(value, (int, float, np.bool_, np.number)) or value not in (0, 1):
        raise ValueError(f"{name} must be 0 or 1. Received: {name}={shown(value)}")
    return bool(value)


def check_numbers(name: str, value: Any, low: float = -np.inf, high: float = np.inf, is_one: bool = False) -> Any:
    """Return a number, or lists of numbers, as floats, or raise ValueError.

    Args:
        name: of the argument.
        value: what must be finite numbers.
        low: the least that is valid.
        high: the largest that is valid.
        is_one: whether lists are refused.
    """
    try:
        numbers = np.asarray(value, float)
        is_valid = bool(numbers.size) and np.asarray(value).dtype.kind in "biuf" and not (is_one and numbers.ndim)
    except (ValueError, OverflowError):
        is_valid = False
    if not is_valid or not np.all(np.isfinite(numbers) & (low <= numbers) & (numbers <= high)):
        limits = "finite numbers" if np.isinf([low, high]).all() else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {limits}. Received: {name}={shown(value)}")
    return numbers.tolist()


def shown(value: Any) -> str:
    """Return an argument as an error shows it: in one line, and cut where it is long."""
    return one_line(repr(value), LONGEST_SHOWN)


class Quantizer(keras.layers.Layer):
    """A fake quantizer that Keras tracks, saves and restores with its layer.

    The width is a variable: assigning ``bits`` changes it in graphs that are compiled already. XLA, which wants
    constants, is not used for models with quantizers.
    """

    def __init__(
        self,
        bits: int,
        integer: int,
        symmetric: bool | int,
        keep_negative: bool | int,
        alpha: str | float | None,
        clipped_gradient: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(alpha, str) and alpha not in ALPHAS:
            raise ValueError(
                f"alpha must be None, a number or one of {', '.join(ALPHAS)}. Received: alpha={shown(alpha)}"
            )
        if isinstance(integer, bool) or not isinstance(integer, (int, np.integer)) or integer not in INTEGER_RANGE:
            limits = f"[{INTEGER_RANGE.start}, {INTEGER_RANGE.stop - 1}]"
            raise ValueError(f"integer must be an integer in {limits}. Received: integer={shown(integer)}")
        self.supports_jit = False
        self.integer = int(integer)
        self.symmetric = check_flag("symmetric", symmetric)
        self.keep_negative = check_flag("keep_negative", keep_negative)
        self.alpha = alpha if alpha is None or isinstance(alpha, str) else check_numbers("alpha", alpha)
        self.clipped_gradient = check_flag("clipped_gradient", clipped_gradient)
        self._bit_width = self.add_weight(
            shape=(),
            dtype="int32",
            trainable=False,
            initializer=keras.initializers.Constant(check_bits(bits, self.signed)),
            name="bit_width",
        )

    @property
    def signed(self) -> bool:
        """Whether negative values are represented."""
        return self.keep_negative

    @property
    def narrow_range(self) -> bool:
        """Whether the most negative integer is unused; always so under a power-of-two scale."""
        return self.symmetric

    @property
    def bits(self) -> int:
        """Width in bits, sign included; may be assigned at any time outside a graph."""
        return int(self._bit_width.numpy())

    @bits.setter
    def bits(self, bits: int) -> None:
        self._bit_width.assign(check_bits(bits, self.signed))
        self._forget_scale()

    def _forget_scale(self) -> None:
        """Drop a stored scale that belonged to the old width."""

    @property
    def is_learned(self) -> bool:
        """Whether the scale is trained."""
        return self.alpha == LEARNED_PO2

    @property
    def learning(self) -> bool:
        """Whether the scale is that of a threshold in training; it is not before the first step, nor once frozen."""
        return self.is_learned and self.built and bool(self._learning.numpy())

    @property
    def threshold(self) -> keras.Variable | None:
        """The trained ``log2 t`` of each scale, None where scales are not trained or not built."""
        return self._log2_threshold if self.is_learned and self.built else None

    def _add_threshold(self, shape: tuple[int, ...]) -> None:
        """Create the trained ``log2 t`` of each scale, unknown until training starts."""
        self._log2_threshold = self.add_weight(shape=shape, initializer="zeros", name=LOG2_THRESHOLD)
        self._learning = self.add_weight(shape=(), dtype="bool", trainable=False, initializer="zeros", name="learning")

    def _set_threshold(self, log2_threshold: Any) -> None:
        self._log2_threshold.assign(log2_threshold)
        self._learning.assign(True)

    def _forget_threshold(self) -> None:
        if self.is_learned and self.built:
            self._log2_threshold.assign(tf.zeros(self._log2_threshold.shape))
            self._learning.assign(False)

    @property
    def format(self) -> Format:
        """The integers and the source of their scale, apart from the width."""
        return Format(
            self.alpha if isinstance(self.alpha, str) else None,
            self.integer,
            self.signed,
            self.narrow_range,
            self.clipped_gradient,
        )

    def _fixed_point(self, x: tf.Tensor) -> tf.Tensor:
        """Return x in QKeras' fixed-point format, times alpha where that is a number."""
        values, bit_width = self.format, tf.convert_to_tensor(self._bit_width)
        quantized = values.fake_quantize(x, values.fixed_scale(bit_width, x.dtype), bit_width)
        return quantized if self.alpha is None else quantized * tf.cast(self.alpha, x.dtype)

    def save_own_variables(self, store: dict[str, np.ndarray]) -> None:
        """Store the state by name."""
        for variable in self.variables:
            store[variable.name] = variable.numpy()

    def load_own_variables(self, store: dict[str, np.ndarray]) -> None:
        """Restore the state by name.

        QKeras layers reach a quantizer under one attribute when they are made and under another
        when they are reloaded, so the store may be empty; the configuration then has the state.
        """
        for variable in self.variables:
            if variable.name in store:
                variable.assign(store[variable.name])

    def max(self) -> float:
        """Return the limit that QKeras layers clip their weights to.

        Computed scales fit any weight, so that there is none.
        """
        return float(np.finfo(np.float32).max) if isinstance(self.alpha, str) else max(1.0, 2.0**self.integer)

    def min(self) -> float:
        """Return the lower limit that QKeras layers clip their weights to."""
        return -self.max() if self.keep_negative else 0.0

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        return super().get_config() | {
            "bits": self.bits,
            "integer": self.integer,
            "symmetric": self.symmetric,
            "keep_negative": self.keep_negative,
            "alpha": self.alpha,
            "clipped_gradient": self.clipped_gradient,
        }

    def __str__(self) -> str:
        """Return the quantizer as QKeras prints it."""
        alpha = f"alpha={self.alpha!r}"
        return (
            f"{type(self).__name__}({self.bits},{self.integer},{int(self.symmetric)},{int(self.keep_negative)},{alpha})"
        )
