"""Layers of our own, for what integers can do and no Keras layer does."""

from __future__ import annotations

from collections.abc import Sequence
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
