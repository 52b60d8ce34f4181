"""Layers of our own, for what integers can do and no Keras layer does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="po2quant")
class Rearrange(keras.layers.Layer):
    """Elements of a tensor in another order: some of them several times, some of them not at all.

    Equation:
        y[i, j, ...] = x.flat[offset + i * strides[0] + j * strides[1] + ...], then in shape ``target_shape``

    Transposing, slicing, flipping, repeating and broadcasting are of this form. No value changes.

    Args:
        sizes: number of steps along each axis of the walk.
        strides: elements of one sample that a step along each axis goes ahead: 0 repeats, less than 0 goes back.
        offset: element at which the walk begins.
        target_shape: shape of the output without the batch.

    Example:
        >>> import numpy as np
        >>> flipped = Rearrange((3,), (-1,), 2, (3,))
        >>> np.asarray(flipped(np.array([[1.0, 2.0, 3.0]]))).tolist()
        [[3.0, 2.0, 1.0]]
    """

    def __init__(
        self, sizes: Sequence[int], strides: Sequence[int], offset: int, target_shape: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sizes, self.strides = tuple(map(int, sizes)), tuple(map(int, strides))
        self.offset, self.target_shape = int(offset), tuple(map(int, target_shape))

    @classmethod
    def of(cls, view: np.ndarray, base: np.ndarray, target_shape: Sequence[int], **kwargs: Any) -> Rearrange:
        """Return the layer that does to a tensor what made ``view`` of ``base``.

        Args:
            view: what slicing, transposing, flipping or broadcasting made of ``base``, without a copy.
            base: contiguous array of the input's shape.
            target_shape: shape of the output.
        """
        start, origin = (array.__array_interface__["data"][0] for array in (view, base))
        strides = [stride // base.itemsize for stride in view.strides]
        return cls(view.shape, strides, (start - origin) // base.itemsize, target_shape, **kwargs)

    def indices(self) -> np.ndarray:
        """Return the number of the input element of each output element, int64, in ``target_shape``."""
        walk = sum(
            (np.arange(size) * stride).reshape(-1, *(1,) * (len(self.sizes) - axis - 1))
            for axis, (size, stride) in enumerate(zip(self.sizes, self.strides, strict=True))
        )
        return (np.broadcast_to(walk, self.sizes) + self.offset).reshape(self.target_shape)

    def call(self, x: Any) -> Any:
        """Return the elements of ``x`` in their new order."""
        flat = keras.ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        return keras.ops.reshape(keras.ops.take(flat, self.indices().ravel(), axis=1), (-1, *self.target_shape))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the batch size and ``target_shape``."""
        return (input_shape[0], *self.target_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"sizes": self.sizes, "strides": self.strides, "offset": self.offset, "target_shape": self.target_shape}
        return super().get_config() | own


def _clip(x: Any, low: float | None = None, high: float | None = None) -> Any:
    x = x if low is None else keras.ops.maximum(x, low)
    return x if high is None else keras.ops.minimum(x, high)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "clip": _clip,
    "absolute": keras.ops.absolute,
    "square": keras.ops.square,
    "approximate_gelu": lambda x: keras.activations.gelu(x, approximate=True),
}
"""Functions of each element that neither a layer nor an activation of Keras computes, with parameters by name."""


@keras.saving.register_keras_serializable(package="po2quant")
class Elementwise(keras.layers.Layer):
    """A function of each element.

    Args:
        function: a name in :data:`ELEMENTWISE`.
        parameters: its numbers by name.

    Raises:
        ValueError: for another name, or parameters that are no numbers.

    Example:
        >>> import numpy as np
        >>> clipped = Elementwise("clip", {"low": -1.0, "high": 2.0})
        >>> np.asarray(clipped(np.array([-3.0, 0.5, 3.0]))).tolist()
        [-1.0, 0.5, 2.0]
    """

    def __init__(self, function: str, parameters: Mapping[str, float | None] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if function not in ELEMENTWISE:
            raise ValueError(f"function must be one of {', '.join(ELEMENTWISE)}. Received: function={function!r}")
        self.function, self.parameters = function, dict(parameters or {})
        if any(value is not None and not isinstance(value, (int, float)) for value in self.parameters.values()):
            raise ValueError(f"parameters of {function!r} must be numbers. Received: {self.parameters}")

    def call(self, x: Any) -> Any:
        """Return the function of each element."""
        return ELEMENTWISE[self.function](x, **self.parameters)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"function": self.function, "parameters": dict(self.parameters)}


@keras.saving.register_keras_serializable(package="po2quant")
class Recurrent(keras.layers.Layer):
    """A network that runs once for each step of a sequence, and reads what it made of the step before.

    Equation:
        states[0] = 0; states[t + 1] = cell(x[t], *states[t]); y[t] = states[t + 1][0]

    LSTM, GRU and SimpleRNN are lowered to it. The cell is a network of core layers, so that it is quantized as any.

    Args:
        cell: functional model from one step and the states to the states after it, in one order; the first is the
            output.
        return_sequences: whether all outputs are returned, ``(steps, units)``, or the last alone, ``(units,)``.

    Example:
        >>> x, total = keras.Input((2,)), keras.Input((2,))
        >>> sums = Recurrent(keras.Model([x, total], keras.layers.Add()([x, total])))
        >>> sums(np.array([[[1.0, 2.0], [3.0, 4.0]]])).numpy().tolist()
        [[4.0, 6.0]]
    """

    def __init__(self, cell: keras.Model, return_sequences: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell, self.return_sequences = cell, bool(return_sequences)
        self.recorder: Callable[..., list[tf.Tensor]] | None = None  # what calibration has compiled of the cell

    def call(self, x: Any) -> Any:
        """Return the outputs of a sequence ``(samples, steps, ...)``."""

        def step(states: list[tf.Tensor], now: tf.Tensor) -> list[tf.Tensor]:
            return keras.tree.flatten(self.cell([now, *states]))

        outputs = self.over_steps(step, x)[0]
        return outputs if self.return_sequences else outputs[:, -1]

    def over_steps(
        self, step: Callable[[list[tf.Tensor], tf.Tensor], list[tf.Tensor]], x: Any, more: Sequence[tf.Tensor] = ()
    ) -> list[tf.Tensor]:
        """Run a function once for each step.

        Args:
            step: given the states and one step of ``x``, returns the states after it, and what else is wanted.
            x: ``(samples, steps, ...)``.
            more: zeros of the shapes of what else is wanted.

        Returns:
            The states and what else ``step`` returns, each ``(samples, steps, ...)``.
        """
        x = tf.convert_to_tensor(x)
        states = [tf.zeros((tf.shape(x)[0], *state.shape[1:]), x.dtype) for state in self.cell.inputs[1:]]
        with self._weights_quantized_once():
            made = tf.scan(lambda known, now: step(known[: len(states)], now), _swapped(x), [*states, *more])
        return [_swapped(sequence) for sequence in made]

    @contextlib.contextmanager
    def _weights_quantized_once(self) -> Iterator[None]:
        """Let the quantizers of kernels and biases compute once for all steps."""
        with contextlib.ExitStack() as stack:
            for layer in self.cell.layers:
                for part in ("kernel", "bias"):
                    if quantizer := getattr(layer, f"{part}_quantizer_internal", None):
                        stack.enter_context(quantizer.held(getattr(layer, part)))
            yield

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the first state, after the steps where all are returned."""
        units = tuple(self.cell.inputs[1].shape[1:])
        return (*input_shape[: 1 + self.return_sequences], *units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"cell": keras.saving.serialize_keras_object(self.cell), "return_sequences": self.return_sequences}
        return super().get_config() | own

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Recurrent:
        """Return the layer of a configuration."""
        return cls(**config | {"cell": keras.saving.deserialize_keras_object(config["cell"])})


def _swapped(x: tf.Tensor) -> tf.Tensor:
    """Return a tensor with samples and steps exchanged."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])
