"""Layers of our own, for what integers can do and no Keras layer does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np


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
