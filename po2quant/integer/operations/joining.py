"""Operations on several tensors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from po2quant.fixed_point import FixedPointFormat, shift_right
from po2quant.integer.checks import MAX_RANK, Shape, checked_integer, shown
from po2quant.integer.operations.base import (
    LINEAR,
    MAX_INPUTS,
    Arrays,
    Counts,
    Formats,
    Operation,
    Requantizing,
    Tensor,
    output_limits,
)
from po2quant.integer.plan import Channel, Plan, plain_channel, plan_of_channels

__all__ = [
    "EXTREMES",
    "JOINS",
    "Add",
    "Aligned",
    "Concatenate",
    "Maximum",
    "Minimum",
    "Multiply",
    "laid_side_by_side",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Elementwise(Operation):
    """What sums and products share: tensors of one rank, axes of size 1 repeated."""

    most_inputs: ClassVar[int] = MAX_INPUTS
    activation: str = LINEAR

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the largest size of each axis; all others must be 1."""
        if len({len(shape) for shape in shapes}) == 1:
            largest = tuple(map(max, zip(*shapes, strict=True)))
            if all(size in (1, most) for shape in shapes for size, most in zip(shape, largest, strict=True)):
                return largest
        raise ValueError(
            f"{self.subject('inputs')} must have one rank, and equal sizes or 1. Received: {shown(shapes)}"
        )

    def counts(self, output: Tensor) -> Counts:
        """Return one operation an input and output."""
        return Counts(other_operations=output.size * len(self.inputs))


@dataclasses.dataclass(frozen=True, eq=False)
class Aligned(Elementwise):
    """What combines tensors that are shifted to their smallest exponent first.

    A class says what becomes of the ends of the inputs' ranges, and of the inputs.
    """

    ends: ClassVar[Callable[..., int]]
    combine: ClassVar[Callable[..., np.ndarray]]

    def plan(self, formats: Formats, output: FixedPointFormat) -> Plan:
        """Return the shifts of the inputs to their smallest exponent, and of the result."""
        exponent = min(x.exponent for x in formats)
        shifts = tuple(x.exponent - exponent for x in formats)
        low = type(self).ends(x.min_int << shift for x, shift in zip(formats, shifts, strict=True))
        high = type(self).ends(x.max_int << shift for x, shift in zip(formats, shifts, strict=True))
        limits = output_limits(output, self.activation)
        return plan_of_channels(self.name, [plain_channel((low, high), exponent)], output, limits, shifts)

    def accumulate(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return the combined inputs."""
        shifted = (x << shift for x, shift in zip(arrays, plan.input_shifts, strict=True))
        return functools.reduce(type(self).combine, shifted)


@dataclasses.dataclass(frozen=True, eq=False)
class Add(Aligned):
    """Sum of tensors of one rank, shifted to their smallest exponent; axes of size 1 are repeated."""

    ends: ClassVar[Callable[..., int]] = sum
    combine: ClassVar[Callable[..., np.ndarray]] = np.add


@dataclasses.dataclass(frozen=True, eq=False)
class Maximum(Aligned):
    """Larger of tensors of one rank, shifted to their smallest exponent; axes of size 1 are repeated."""

    ends: ClassVar[Callable[..., int]] = max
    combine: ClassVar[Callable[..., np.ndarray]] = np.maximum


@dataclasses.dataclass(frozen=True, eq=False)
class Minimum(Aligned):
    """Smaller of tensors of one rank, shifted to their smallest exponent; axes of size 1 are repeated."""

    ends: ClassVar[Callable[..., int]] = min
    combine: ClassVar[Callable[..., np.ndarray]] = np.minimum


@dataclasses.dataclass(frozen=True, eq=False)
class Multiply(Elementwise):
    """Product of tensors of one rank; axes of size 1 are repeated (squeeze and excite)."""

    def channels(self, formats: Formats, output: FixedPointFormat) -> list[Channel]:
        """Return the product."""
        low, high = 1, 1
        for format in formats:
            products = [limit * end for limit in (low, high) for end in (format.min_int, format.max_int)]
            low, high = min(products), max(products)
        return [plain_channel((low, high), sum(format.exponent for format in formats))]

    def accumulate(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return the products."""
        return functools.reduce(np.multiply, arrays)


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenate(Requantizing):
    """Tensors side by side, each shifted into the output's format.

    Args:
        axis: axis without the batch, 0 or more.
        activation: ``'linear'``, ``'relu'`` or ``'relu6'``.
    """

    axis: int
    activation: str = LINEAR

    most_inputs: ClassVar[int] = MAX_INPUTS

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_integer(self.subject("axis"), self.axis, 0, MAX_RANK - 1)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the inputs' shape with the sum of their sizes on the axis."""
        axis = self.axis
        if axis < min(map(len, shapes)):
            joined = sum(shape[axis] for shape in shapes)
            results = {(*shape[:axis], joined, *shape[axis + 1 :]) for shape in shapes}
            if len(results) == 1:
                return results.pop()
        raise ValueError(f"{self.subject('inputs')} must fit on axis {axis}. Received: shapes {shown(shapes)}")

    def rounded(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return the shifted inputs side by side."""
        shifted = [shift_right(x, shift, plan.rounding) for x, shift in zip(arrays, plan.output_shifts, strict=True)]
        return plan.clip(np.concatenate(shifted, self.axis + 1))

    def counts(self, output: Tensor) -> Counts:
        """Return one rounding an output."""
        return Counts(other_operations=output.size)


JOINS = (Add, Multiply, Concatenate)
"""What joins the branches of networks for images."""

EXTREMES = (Maximum, Minimum)


def laid_side_by_side(name: str, parts: Sequence[str], output: str) -> list[Operation]:
    """Return what lays tensors side by side along their first axis, at most :data:`MAX_INPUTS` at a time.

    Args:
        name: of the operations.
        parts: the tensors; one alone needs no operation.
        output: what names of new tensors begin with. The last operation writes the whole.
    """
    operations: list[Operation] = []
    while len(parts) > 1:
        groups = [tuple(parts[first : first + MAX_INPUTS]) for first in range(0, len(parts), MAX_INPUTS)]
        names = [f"{output}/{len(parts)}/{place}" for place in range(len(groups))]
        operations += [Concatenate(name, *ends, axis=0) for ends in zip(groups, names, strict=True)]
        parts = names
    return operations
