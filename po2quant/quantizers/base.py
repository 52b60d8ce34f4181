"""What the quantizers share: a width that can change in a compiled graph, and integer ranges."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant.bit_config import ALPHAS, LEARNED_PO2
from po2quant.quantizers.arguments import INTEGER_RANGE, check_flag, check_numbers, check_width, shown
from po2quant.quantizers.formats import Format

LOG2_THRESHOLD = "log2_threshold"
"""What the trained variable of a quantizer with ``alpha='learned_po2'`` is called."""


class Quantizer(keras.layers.Layer):
    """A fake quantizer that Keras tracks, saves and restores with its layer.

    The width is a variable: assigning ``bits`` changes it in graphs that are compiled already. XLA, which wants
    constants, is not used for models with quantizers.

    Width, range and stored scales are state of a layer, as the seeds of its random numbers are: ``variables`` lists
    them, files carry them, the configuration has them. They are no :attr:`weights`, so that a QKeras layer with
    quantizers has the weights of the layer without, in ``get_weights`` and ``set_weights`` and to be counted.
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
            initializer=keras.initializers.Constant(check_width(bits, self.signed)),
            name="bit_width",
        )

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Quantize tensors, arrays, lists and numbers; integers become real numbers first."""
        if not keras.ops.is_tensor(x) and not isinstance(x, (keras.KerasTensor, keras.Variable)):
            x = np.asarray(x)
            if x.dtype.kind not in "biuf":
                raise ValueError(f"x must be numbers. Received: {shown(x)}")
            x = tf.convert_to_tensor(x, self.compute_dtype)
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
            x = keras.ops.cast(x, self.compute_dtype)
        return super().__call__(x, *args, **kwargs)

    @property
    def __name__(self) -> str:
        """The class, by which QKeras' tools tell quantizers apart."""
        kind: type = type(self)
        return kind.__name__

    @property
    def weights(self) -> list[keras.Variable]:
        """What an optimizer trains: the thresholds of learned scales, else nothing."""
        return [variable for variable in super().weights if variable.name == LOG2_THRESHOLD]

    @property
    def signed(self) -> bool:
        """Whether negative values are represented."""
        return self.keep_negative

    @property
    def narrow_range(self) -> bool:
        """Whether the most negative integer is unused."""
        return self.symmetric

    @property
    def bits(self) -> int:
        """Width in bits, sign included; may be assigned at any time outside a graph."""
        return int(self._bit_width.numpy())

    @bits.setter
    def bits(self, bits: int) -> None:
        self._bit_width.assign(check_width(bits, self.signed))
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

    def _set_noise(
        self, qnoise_factor: Any, use_ste: bool | int, use_variables: bool | int, var_name: str | None
    ) -> None:
        """Take what tells how much of the quantized value there is, under QKeras' names."""
        if var_name is not None and not isinstance(var_name, str):
            raise ValueError(f"var_name must be None or a name. Received: var_name={shown(var_name)}")
        self.var_name = var_name
        self.use_ste = check_flag("use_ste", use_ste)
        self._qnoise_factor: Any = check_numbers("qnoise_factor", qnoise_factor, 0.0, 1.0, is_one=True)
        self.use_variables = use_variables

    @property
    def use_variables(self) -> bool:
        """Whether :attr:`qnoise_factor` is a variable, which counts in graphs that are traced."""
        return isinstance(self._qnoise_factor, keras.Variable)

    @use_variables.setter
    def use_variables(self, use_variables: bool | int) -> None:
        if check_flag("use_variables", use_variables) and not self.use_variables:
            variable = keras.Variable(self._qnoise_factor, name="qnoise_factor", trainable=False)
            # Kept from Keras, which has locked layers that are built; the configuration has its value.
            object.__setattr__(self, "_qnoise_factor", variable)

    @property
    def qnoise_factor(self) -> float | keras.Variable:
        """Share of the quantized value: 0 passes x, 1 the quantized value, between them a mix."""
        return self._qnoise_factor

    @property
    def is_noisy(self) -> bool:
        """Whether something else than quantized values may come out."""
        return float(self.qnoise_factor) != 1.0

    def update_qnoise_factor(self, qnoise_factor: Any) -> None:
        """Set the share of the quantized value, as QKeras' callbacks do; see :attr:`use_variables`."""
        share = check_numbers("qnoise_factor", float(qnoise_factor), 0.0, 1.0)
        if self.use_variables:
            self._qnoise_factor.assign(share)
        else:
            self._qnoise_factor = share

    def _mix(self, x: tf.Tensor, quantized: tf.Tensor) -> tf.Tensor:
        """Return the mix of values and quantized values that :attr:`qnoise_factor` asks for."""
        if self.use_variables:
            share = tf.cast(self._qnoise_factor, x.dtype)
            mixed = tf.cond(share == 1.0, lambda: quantized, lambda: self._mix_of(x, quantized, share))
            return tf.ensure_shape(mixed, x.shape)
        return quantized if self._qnoise_factor == 1.0 else self._mix_of(x, quantized, self._qnoise_factor)

    def _mix_of(self, x: tf.Tensor, quantized: tf.Tensor, share: Any) -> tf.Tensor:
        if self.use_ste:
            return x + share * tf.stop_gradient(quantized - x)
        return (1.0 - share) * x + share * tf.stop_gradient(quantized)

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
            "qnoise_factor": float(self.qnoise_factor),
            "var_name": self.var_name,
            "use_ste": self.use_ste,
            "use_variables": self.use_variables,
        }

    def __str__(self) -> str:
        """Return the quantizer as QKeras prints it."""
        flags = [str(self.bits), str(self.integer), str(int(self.symmetric))]
        if not self.keep_negative:
            flags.append("keep_negative=False")
        if self.alpha is not None:
            flags.append(f"alpha={self.alpha!r}")
        return f"{type(self).__name__}({','.join(flags)})"
