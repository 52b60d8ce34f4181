"""``quantized_bits``: QKeras' weight quantizer with exact scales."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant import scale as po2
from po2quant.bit_config import AUTO, AUTO_PO2, LEARNED_PO2, MSE, POWERS_OF_TWO, STOCK, check_scale_rule
from po2quant.fixed_point import check_scales
from po2quant.quantizers.arguments import check_exponents, check_flag, check_numbers, check_scale, is_axis, shown
from po2quant.quantizers.base import Quantizer
from po2quant.quantizers.computations import (
    computed_scale,
    dithered,
    learned_scale,
    quantize_learned_weights,
    quantize_weights,
)
from po2quant.quantizers.formats import Format

MOST_LISTED_BITS = 20
"""Of a format whose values are listed."""


@keras.saving.register_keras_serializable(package="po2quant")
class quantized_bits(Quantizer):  # noqa: N801  QKeras' name
    """Quantize weights to ``bits`` bits, with QKeras' signature and a scale that is never lost.

    Equation:
        y = s * clip(round(x / s), -L, L), ties to even, L = 2**(bits - 1) - 1, where

        - ``alpha='auto'``: s = max|x| / L;
        - ``alpha='auto_po2'``: s = 2**e, e by ``scale_rule``;
        - ``alpha='learned_po2'``: s = 2**(ceil(log2 t) - bits + 1), t trained from the first step on, which starts it
          at the scale of ``scale_rule``; until then that scale itself;
        - ``alpha=None`` or a number: QKeras' fixed point,
          y = alpha * s * clip(round(x / s), ...), s = 2**(integer - bits + keep_negative).

    Gradient:
        1 where the value was not clipped, else 0 (``clipped_gradient=True``), or 1 everywhere. That of a threshold is
        in :func:`~po2quant.quantizers.learned.learned_quantize`; a ``qnoise_factor`` below 1 lets none through.

    Args:
        bits: width in bits, sign included; 2 to 32 (1 to 32 without sign).
        integer: bits left of the binary point; only fixed point (and the stock rule) use it.
        symmetric: drop the most negative integer; always true with computed and learned scales.
        keep_negative: signed when true.
        alpha: None, a number, ``'auto'``, ``'auto_po2'`` or ``'learned_po2'``.
        use_stochastic_rounding: round up with the probability of the fraction, in training.
        scale_axis: the axis or axes that keep a scale each. None: one scale for a vector, else one
            per output channel (for a depthwise kernel ``(h, w, C, 1)`` the last two axes; say 3 for a
            convolution with one filter, which looks the same).
        qnoise_factor: 0 passes x, 1 the quantized value, between them a mix.
        var_name: accepted for QKeras' sake; variables are named by Keras.
        use_ste: as in QKeras, whether the gradient of a mix passes whole.
        use_variables: whether ``qnoise_factor`` is a variable; the width always is one.
        elements_per_scale: not supported, must be None.
        min_po2_exponent: smallest exponent.
        max_po2_exponent: largest exponent.
        post_training_scale: fixed :attr:`scale` instead of a computed one, in QKeras' unit.
        scale_rule: ``'mse'`` (least squared error) or ``'max'`` (never clips); for comparison ``'stock'``, which is
            qkeras' own computation, and ``'nearest'``, the rounded exponent that it aims at.
        clipped_gradient: whether clipped values get no gradient.
        log2_threshold: log2 t to go on training from, of the scale's shape; None starts as said above.
        frozen_scale: the same as ``post_training_scale``, but the value of one LSB.

    Raises:
        ValueError: for a width, alpha, rule or axis outside the valid ones.

    Example:
        >>> quantized_bits(8, 8, 1, 1, alpha="auto_po2")(keras.ops.array([0.3, -1.0])).numpy().tolist()
        [0.296875, -1.0]

    Reference:
        QKeras' ``quantized_bits``; scale by least squared error as in
        HPTQ, arXiv 2109.09113, section 3.2, restricted to powers of two; TQT, arXiv 1903.08066.
    """

    def __init__(
        self,
        bits: int = 8,
        integer: int = 0,
        symmetric: bool | int = 0,
        keep_negative: bool | int = True,
        alpha: str | float | None = None,
        use_stochastic_rounding: bool = False,
        scale_axis: int | tuple[int, ...] | None = None,
        qnoise_factor: float = 1.0,
        var_name: str | None = None,
        use_ste: bool = True,
        use_variables: bool = False,
        elements_per_scale: int | None = None,
        min_po2_exponent: int | None = None,
        max_po2_exponent: int | None = None,
        post_training_scale: Any = None,
        scale_rule: str = MSE,
        clipped_gradient: bool = True,
        log2_threshold: Any = None,
        frozen_scale: Any = None,
        **kwargs: Any,
    ) -> None:
        check_scale_rule(scale_rule)
        if elements_per_scale is not None:
            raise ValueError(
                "elements_per_scale is not supported, use scale_axis. "
                f"Received: elements_per_scale={shown(elements_per_scale)}"
            )
        check_exponents(min_po2_exponent, max_po2_exponent)
        if log2_threshold is not None and alpha != LEARNED_PO2:
            raise ValueError(f"log2_threshold needs alpha='learned_po2'. Received: alpha={alpha!r}")
        if not is_axis(scale_axis):
            raise ValueError(f"scale_axis must be None, an axis or several. Received: scale_axis={shown(scale_axis)}")
        symmetric = check_flag("symmetric", symmetric) or isinstance(alpha, str)
        super().__init__(bits, integer, symmetric, keep_negative, alpha, clipped_gradient, **kwargs)
        self._set_noise(qnoise_factor, use_ste, use_variables, var_name)
        self.use_stochastic_rounding = check_flag("use_stochastic_rounding", use_stochastic_rounding)
        self.scale_axis = scale_axis
        self.elements_per_scale = elements_per_scale
        self.min_po2_exponent = min_po2_exponent
        self.max_po2_exponent = max_po2_exponent
        self.scale_rule = scale_rule
        self._keeps_exponents = False
        self._held: tf.Tensor | None = None
        self._scale_in_use: Callable[[], Any] | None = None
        self.log2_threshold = None if log2_threshold is None else check_numbers("log2_threshold", log2_threshold)
        self._given_scale: Any = None
        if frozen_scale is not None:
            self._given_scale = check_scale("frozen_scale", frozen_scale, 1.0, alpha)
        if post_training_scale is not None:
            self._given_scale = check_scale("post_training_scale", post_training_scale, self._step, alpha)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the stored scale: one per channel, used once it is frozen."""
        if isinstance(self.alpha, str):
            reduced = self._format_of(tuple(input_shape)).axes
            shape: Any = tuple(1 if axis in reduced else size for axis, size in enumerate(input_shape))
            given = self._given_scale
            self._frozen_scale = self.add_weight(
                shape=shape,
                trainable=False,
                initializer="ones" if given is None else lambda shape, dtype: np.broadcast_to(given, shape),
                name="frozen_scale",
            )
            self._frozen = self.add_weight(
                shape=(),
                dtype="bool",
                trainable=False,
                initializer="zeros" if given is None else "ones",
                name="frozen",
            )
            if self.is_learned:
                self._add_threshold(shape)
                self._damping = self.add_weight(shape=(), trainable=False, initializer="zeros", name="damping")
                if self.log2_threshold is not None:
                    self._set_threshold(np.broadcast_to(self.log2_threshold, shape))
        super().build(input_shape)

    def load_own_variables(self, store: dict[str, np.ndarray]) -> None:
        """Restore the state; QKeras layers build their quantizers only when they are first called.

        Raises:
            ValueError: for a scale that is frozen and that no quantizer has.
        """
        if "frozen_scale" in store and "frozen" in store and np.any(store["frozen"]):
            check_scales(store["frozen_scale"])
        if not self.built and "frozen_scale" in store:
            self.build(store["frozen_scale"].shape)
        super().load_own_variables(store)

    @property
    def _step(self) -> float:
        """The step of QKeras' fixed-point format, ``2**(integer - bits + keep_negative)``."""
        return 2.0 ** (self.integer - self.bits + self.keep_negative)

    @property
    def scale(self) -> Any:
        """The scale in use as QKeras says it: the value of one LSB over ``2**(integer - bits + keep_negative)``.

        A computed one is that of the last call outside a graph; None before.
        """
        if not isinstance(self.alpha, str):
            return 1.0 if self.alpha is None else self.alpha
        if self.frozen_scale is None:
            return None if self._scale_in_use is None else self._scale_in_use()
        return self.post_training_scale

    @scale.setter
    def scale(self, scale: Any) -> None:
        """Say what it is until the next call, as QKeras' tools do."""
        object.__setattr__(self, "_scale_in_use", lambda: scale)

    @property
    def frozen_scale(self) -> np.ndarray | None:
        """The value of one LSB of each scale that is stored, which may be assigned then; None where none is stored."""
        if isinstance(self.alpha, str) and self.built:
            return self._frozen_scale.numpy() if self.frozen else None
        return None if self._given_scale is None else np.asarray(self._given_scale, self.variable_dtype)

    @frozen_scale.setter
    def frozen_scale(self, scale: np.ndarray) -> None:
        if not self.frozen:
            raise ValueError(f"a quantizer must be frozen before its scale is chosen. Received: {self}, which is not")
        check_scales(scale, self.alpha in POWERS_OF_TWO)
        if self._frozen_scale.shape != np.shape(scale):
            raise ValueError(f"scale must have shape {self._frozen_scale.shape}. Received: {np.shape(scale)}")
        self._frozen_scale.assign(scale)

    @property
    def post_training_scale(self) -> np.ndarray | None:
        """The stored scale in QKeras' unit; see :attr:`scale`."""
        return None if self.frozen_scale is None else self.frozen_scale / self._step

    def range(self) -> np.ndarray:
        """Return every value of the fixed-point format, in the order of the integers' two's complement.

        Raises:
            ValueError: where values are others than those, because of a scale or without a sign, or too many.
        """
        if self.symmetric or not self.keep_negative or self.alpha not in (None, 1.0) or self.bits > MOST_LISTED_BITS:
            needs = f"symmetric=0, keep_negative=1, alpha None or 1 and at most {MOST_LISTED_BITS} bits"
            raise ValueError(f"range needs {needs}. Received: {self}")
        integers = np.arange(2**self.bits)
        return np.where(integers < 2 ** (self.bits - 1), integers, integers - 2**self.bits) * np.float32(self._step)

    @property
    def frozen(self) -> bool:
        """Whether the scale is stored rather than computed from the weights or trained."""
        return isinstance(self.alpha, str) and self.built and bool(self._frozen.numpy())

    def freeze(self, x: tf.Tensor) -> None:
        """Compute the scale of ``x``, or take the learned one, and keep it from now on."""
        if isinstance(self.alpha, str):
            if not self.built:
                self.build(tuple(x.shape))
            self._frozen_scale.assign(tf.broadcast_to(self.compute_scale(x), self._frozen_scale.shape))
            self._frozen.assign(True)
            self._forget_threshold()

    def unfreeze(self) -> None:
        """Compute the scale from the weights again; a learned one starts from there."""
        self._given_scale = None
        if self.frozen:
            self._frozen.assign(False)
        if isinstance(self.alpha, str) and self.built:
            self._frozen_scale.assign(tf.ones_like(self._frozen_scale))
        self._forget_threshold()

    @property
    def keeps_exponents(self) -> bool:
        """Whether training steps take the exponents of the last :meth:`search_exponents` instead of searching anew.

        Only ``alpha='auto_po2'`` can. Outside training, exponents are those of the present weights all the same. It is
        no part of the configuration, and graphs that are traced keep what they had.
        """
        return self._keeps_exponents

    @keeps_exponents.setter
    def keeps_exponents(self, keeps_exponents: bool) -> None:
        self._keeps_exponents = keeps_exponents and self.alpha == AUTO_PO2

    def search_exponents(self, x: tf.Tensor) -> None:
        """Store the scale of ``x`` for training steps that keep exponents; a frozen one stays."""
        scale = tf.broadcast_to(self._scale_by_rule(tf.convert_to_tensor(x)), self._frozen_scale.shape)
        self._frozen_scale.assign(tf.where(tf.convert_to_tensor(self._frozen), self._frozen_scale, scale))

    def _forget_threshold(self) -> None:
        super()._forget_threshold()
        self.log2_threshold = None
        self.damping = 0.0

    @property
    def damping(self) -> float:
        """Weight of the squared rounding error in the loss of weights with learned scales; counts in traced graphs."""
        return float(self._damping.numpy()) if self.is_learned and self.built else 0.0

    @damping.setter
    def damping(self, damping: float) -> None:
        if self.is_learned and self.built:
            self._damping.assign(damping)

    def _forget_scale(self) -> None:
        self.unfreeze()

    def compute_scale(self, x: tf.Tensor) -> tf.Tensor:
        """Return the scale that ``alpha`` and ``scale_rule`` give to ``x``; a learned one is the one in use.

        Args:
            x: weights, e.g. ``(h, w, C_in, C)``.

        Returns:
            scale: ``(1, 1, 1, C)``, or a scalar for fixed point.
        """
        x = tf.convert_to_tensor(x)
        if not isinstance(self.alpha, str):
            return self.format.fixed_scale(tf.convert_to_tensor(self._bit_width), x.dtype)
        if not (self.is_learned and self.built):
            return self._scale_by_rule(x)
        threshold, learning = (tf.convert_to_tensor(state) for state in (self._log2_threshold, self._learning))
        return learned_scale(x, *self._state(x.dtype), threshold, learning, values=self._format_of(x.shape))

    def _scale_by_rule(self, x: tf.Tensor) -> tf.Tensor:
        return computed_scale(x, tf.convert_to_tensor(self._bit_width), values=self._format_of(x.shape))

    def _format_of(self, shape: tuple[int, ...] | tf.TensorShape) -> Format:
        """Return the format for weights of a shape."""
        shape = tuple(shape)
        # The stock rule gives every element of a vector a scale of its own.
        is_stock_vector = self.scale_rule == STOCK and self.alpha != AUTO and len(shape) == 1
        scale_axis = self.scale_axis
        return dataclasses.replace(
            self.format,
            scale_rule=self.scale_rule,
            axes=() if is_stock_vector else po2.reduced_axes(shape, scale_axis),
            scale_axis=tuple(scale_axis) if isinstance(scale_axis, list) else scale_axis,
            min_exponent=self.min_po2_exponent,
            max_exponent=self.max_po2_exponent,
            small=po2.is_small(shape),
        )

    def _state(self, dtype: tf.DType) -> tuple[tf.Tensor, ...]:
        """Return width, whether the scale is frozen, and the frozen scale."""
        return (
            tf.convert_to_tensor(self._bit_width),
            tf.convert_to_tensor(self._frozen),
            tf.cast(self._frozen_scale, dtype),
        )

    @contextlib.contextmanager
    def held(self, x: Any) -> Iterator[None]:
        """Quantize ``x`` once, and let each call within the block return that: a loop's steps share their weights."""
        self._held = self(x)
        try:
            yield
        finally:
            self._held = None

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the quantized values of ``x``, in its shape."""
        if self._held is not None:
            return self._held
        x = tf.convert_to_tensor(x)
        is_noisy = self.use_stochastic_rounding and training
        noise = (tf.random.uniform(tf.shape(x), -0.5, 0.5, x.dtype),) if is_noisy else ()  # in LSBs
        if not isinstance(self.alpha, str):
            scale = self.format.fixed_scale(tf.convert_to_tensor(self._bit_width), x.dtype)
            return self._mix(x, self._fixed_point(dithered(x, scale, *noise)))
        if tf.executing_eagerly():
            object.__setattr__(self, "_scale_in_use", lambda: self.compute_scale(x).numpy() / self._step)
        values, state = self._format_of(x.shape), self._state(x.dtype)
        if self.is_learned:
            quantized = self._quantize_by_threshold(x, values, state, noise, bool(training))
        else:
            quantized = quantize_weights(x, *state, *noise, values=values, kept=bool(self.keeps_exponents and training))
        quantized.set_shape(x.shape)
        return self._mix(x, quantized)

    def _quantize_by_threshold(
        self, x: tf.Tensor, values: Format, state: tuple[tf.Tensor, ...], noise: tuple[tf.Tensor, ...], training: bool
    ) -> tf.Tensor:
        threshold, learning = (tf.convert_to_tensor(state) for state in (self._log2_threshold, self._learning))
        damping = tf.cast(self._damping, x.dtype)
        quantized, started, learning = quantize_learned_weights(
            x, *state, threshold, learning, damping, *noise, values=values, training=training
        )
        if training:
            self._log2_threshold.assign(started)
            self._learning.assign(learning)
        return quantized

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        return super().get_config() | {
            "use_stochastic_rounding": self.use_stochastic_rounding,
            "scale_axis": self.scale_axis,
            "elements_per_scale": self.elements_per_scale,
            "min_po2_exponent": self.min_po2_exponent,
            "max_po2_exponent": self.max_po2_exponent,
            "frozen_scale": None if self.frozen_scale is None else self.frozen_scale.tolist(),
            "scale_rule": self.scale_rule,
            "log2_threshold": self._log2_threshold.numpy().tolist() if self.learning else self.log2_threshold,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> quantized_bits:
        """Return the quantizer of a configuration.

        Before ``frozen_scale`` there was, ``post_training_scale`` had its meaning.
        """
        if "scale_rule" in config and "frozen_scale" not in config:
            config = config | {"frozen_scale": config.get("post_training_scale"), "post_training_scale": None}
        return cls(**config)
