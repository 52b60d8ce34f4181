"""Operations on one integer at a time."""

from __future__ import annotations

import dataclasses

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.checks import Shape, checked_array, checked_name
from po2quant.integer.operations.base import (
    LINEAR,
    Arrays,
    Counts,
    Formats,
    Operation,
    Requantizing,
    Tensor,
    set_fields,
)
from po2quant.integer.plan import Plan

__all__ = ["TABLES", "LookUpTable", "Requantize"]

LOWEST, HIGHEST = -(2**31), 2**32 - 1
"""Integers that some format of 32 bits holds."""


@dataclasses.dataclass(frozen=True, eq=False)
class Requantize(Requantizing):
    """The input in another format: shifted, rounded, clipped."""

    activation: str = LINEAR

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the input's shape."""
        return shapes[0]

    def accumulate(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return the input."""
        return arrays[0]

    def counts(self, output: Tensor) -> Counts:
        """Return one rounding an output."""
        return Counts(other_operations=output.size)


@dataclasses.dataclass(frozen=True, eq=False)
class LookUpTable(Operation):
    """Any function of one integer: y = table[x - smallest x].

    Args:
        table: the output integer of every input integer in ascending order: ``2**bits`` of them, one less where the
            input's range is narrow.
        function: what the table holds, e.g. ``'silu'``.
    """

    table: np.ndarray
    function: str

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, table=checked_array(self.subject("the table"), self.table, LOWEST, HIGHEST))
        checked_name(self.subject("the function"), self.function)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the input's shape."""
        return shapes[0]

    def check(self, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Raise ValueError unless the table has an output integer for each input integer."""
        super().check(inputs, output)
        low, high, table = inputs[0].format.min_int, inputs[0].format.max_int, self.table
        fits = table.shape == (high - low + 1,)
        if not fits or table.min() < output.format.min_int or table.max() > output.format.max_int:
            raise ValueError(
                f"{self.subject('the table')} must hold an output integer for each of {low} to {high}. "
                f"Received: {table.size} entries"
            )

    def plan(self, formats: Formats, output: FixedPointFormat) -> None:
        """Return None: nothing is shifted."""

    def moved(self, arrays: Arrays, formats: Formats) -> np.ndarray:
        """Return the table's integers."""
        return self.table[arrays[0] - formats[0].min_int]

    def counts(self, output: Tensor) -> Counts:
        """Return one look-up an output, and the bits of the table."""
        return Counts(other_operations=output.size, storage_bits=self.table.size * output.format.bit_width)


TABLES = (Requantize, LookUpTable)
