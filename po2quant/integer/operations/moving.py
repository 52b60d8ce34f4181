"""Operations that move integers and leave them as they are."""

from __future__ import annotations

import dataclasses

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.checks import Padding, Shape, checked_padding, shown
from po2quant.integer.operations.base import Arrays, Counts, Formats, Operation, Tensor, set_fields
from po2quant.integer.operations.windows import padded_image, positions


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
