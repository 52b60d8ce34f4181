"""Operations that move integers and leave them as they are."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.checks import (
    INT32_MAX,
    Padding,
    Shape,
    checked_integer,
    checked_padding,
    checked_shape,
    shown,
)
from po2quant.integer.operations.base import Arrays, Counts, Formats, Operation, Tensor, set_fields
from po2quant.integer.operations.windows import padded_image, positions

__all__ = ["MOVES", "Moving", "Rearrange", "Reshape", "ZeroPadding"]


@dataclasses.dataclass(frozen=True, eq=False)
class Moving(Operation):
    """What all that moves integers shares: the output has the format of the input."""

    def check(self, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Raise ValueError unless it makes the output of the input and keeps the format."""
        super().check(inputs, output)
        if inputs[0].format != output.format:
            raise ValueError(
                f"operation {shown(self.name)} must keep the format {inputs[0].format}. Received: {output.format}"
            )

    def plan(self, formats: Formats, output: FixedPointFormat) -> None:
        """Return None: nothing is shifted."""

    def counts(self, output: Tensor) -> Counts:
        """Return nothing: moving is free."""
        return Counts()


@dataclasses.dataclass(frozen=True, eq=False)
class Reshape(Moving):
    """The same integers in the output's shape, last axis fastest."""

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the input's shape: the output may have any of the same size."""
        return shapes[0]

    def check(self, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Raise ValueError unless the output has the size and the format of the input."""
        if inputs[0].size == output.size:
            inputs = (dataclasses.replace(inputs[0], shape=output.shape),)
        super().check(inputs, output)

    def moved(self, arrays: Arrays, formats: Formats) -> np.ndarray:
        """Return the input: a program gives every tensor its own shape."""
        return arrays[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Rearrange(Moving):
    """Integers in another order, some of them several times, some of them not at all: one walk over the input.

    Equation:
        y[i, j, ...] = x.flat[offset + i * strides[0] + j * strides[1] + ...], in the output's shape

    Args:
        sizes: steps along each axis of the walk.
        strides: elements that a step along each axis goes ahead: 0 repeats, less than 0 goes back.
        offset: element at which the walk begins.
    """

    sizes: Shape
    strides: tuple[int, ...]
    offset: int

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_shape(self.subject("sizes"), self.sizes)
        if not isinstance(self.strides, tuple) or len(self.strides) != len(self.sizes):
            raise ValueError(f"{self.subject('strides')} must be as many as sizes. Received: {shown(self.strides)}")
        for stride in self.strides:
            checked_integer(self.subject("a stride"), stride, -INT32_MAX)
        checked_integer(self.subject("offset"), self.offset, 0)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the sizes of the walk: the output may have any shape of as many elements.

        Raises:
            ValueError: where the walk leaves the input.
        """
        reaches = [(size - 1) * stride for size, stride in zip(self.sizes, self.strides, strict=True)]
        first = self.offset + sum(min(reach, 0) for reach in reaches)
        last = self.offset + sum(max(reach, 0) for reach in reaches)
        if first < 0 or last >= math.prod(shapes[0]):
            raise ValueError(
                f"{self.subject('the walk')} must stay in the input's {math.prod(shapes[0])} elements. "
                f"Received: {first} to {last}"
            )
        return self.sizes

    def check(self, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Raise ValueError unless the walk stays in the input and fills the output, and the format is kept."""
        walked = dataclasses.replace(output, shape=self.sizes) if output.size == math.prod(self.sizes) else output
        super().check(inputs, walked)

    def indices(self) -> np.ndarray:
        """Return the element of the input that each element of the output is, ``(elements,)`` int64."""
        walk = np.array([self.offset])
        for size, stride in zip(self.sizes, self.strides, strict=True):
            walk = np.add.outer(walk, np.arange(size) * stride)
        return walk.ravel()

    def moved(self, arrays: Arrays, formats: Formats) -> np.ndarray:
        """Return the integers in their new order: a program gives every tensor its own shape."""
        (x,) = arrays
        return x.reshape(len(x), -1)[:, self.indices()]


@dataclasses.dataclass(frozen=True, eq=False)
class ZeroPadding(Moving):
    """Zeros around an image.

    Args:
        padding: ``((top, bottom), (left, right))``.
    """

    padding: Padding

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, padding=checked_padding(self.subject("padding"), self.padding))

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the image's shape with the padding."""
        (image,) = shapes
        return (*positions(self.name, image, (1, 1), (1, 1), self.padding), image[2])

    def moved(self, arrays: Arrays, formats: Formats) -> np.ndarray:
        """Return the images with zeros around."""
        return padded_image(arrays[0], self.padding)


MOVES = (Reshape, Rearrange, ZeroPadding)
