"""The integer program of a network in other widths than its own, for what such a program costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from po2quant.fixed_point import FixedPointFormat, integer_range
from po2quant.integer.operations import LookUpTable, Moving, Operation, Recurrent, Tensor, Weighted, Weights
from po2quant.integer.program import Output, Program


class WidthTemplate:
    """A program whose integers are rounded to narrower widths, operation by operation.

    Every tensor and weight keeps its range: a width that is n bits narrower has exponents that are n larger, and its
    integers are rounded. The program so stands for the one that a network of these widths would become; its exponents
    and values are near those, its types, shapes and constants' sizes are the same.

    Args:
        program: of the widest widths.

    Raises:
        ValueError: for recurrent operations, whose cells are not looked into.
    """

    def __init__(self, program: Program) -> None:
        if recurrent := [operation.name for operation in program.operations if isinstance(operation, Recurrent)]:
            raise ValueError(
                "costs of the C need a network without recurrent layers: use bits, bops or energy. "
                f"Received: {', '.join(recurrent)}"
            )
        self.program = program
        self._origins = {name: name for name in program.inputs}
        for operation in program.operations:
            is_moved = isinstance(operation, Moving)
            self._origins[operation.output] = self._origins[operation.inputs[0]] if is_moved else operation.output

    def slots(self, operation: Operation) -> list[str]:
        """Return the names of all widths that an operation depends on, as a search space has them."""
        tensors = [f"{self._origins[name]}.activation" for name in (*operation.inputs, operation.output)]
        own = [f"{operation.name}.kernel", f"{operation.name}.bias"] if isinstance(operation, Weighted) else []
        return [*dict.fromkeys(tensors), *own]

    def tensor(self, name: str, widths: Mapping[str, int]) -> Tensor:
        """Return a tensor at its width."""
        tensor = self.program.tensor[name]
        bits = widths.get(f"{self._origins[name]}.activation", tensor.format.bit_width)
        lost = tensor.format.bit_width - bits
        return dataclasses.replace(
            tensor, format=dataclasses.replace(tensor.format, bit_width=bits, exponent=tensor.format.exponent + lost)
        )

    def operation(self, operation: Operation, widths: Mapping[str, int]) -> Operation:
        """Return an operation at its widths."""
        if isinstance(operation, Weighted):
            kernel, bias = (
                _narrowed(weights, widths.get(f"{operation.name}.{part}", weights.bit_width))
                for part, weights in (("kernel", operation.kernel), ("bias", operation.bias))
            )
            return dataclasses.replace(operation, kernel=kernel, bias=bias)
        if isinstance(operation, LookUpTable):
            x = self.tensor(operation.inputs[0], widths).format
            y = self.tensor(operation.output, widths).format
            return dataclasses.replace(operation, table=_rising_table(x, y))
        return operation

    def alone(self, operation: Operation, widths: Mapping[str, int]) -> Program:
        """Return the program of one operation at its widths."""
        inputs = tuple(dict.fromkeys(operation.inputs))
        tensors = tuple(self.tensor(name, widths) for name in (*inputs, operation.output))
        return Program("alone", tensors, inputs, (self.operation(operation, widths),), (Output(operation.output),))

    def at(self, widths: Mapping[str, int]) -> Program:
        """Return the whole program at some widths."""
        program = self.program
        tensors = tuple(self.tensor(tensor.name, widths) for tensor in program.tensors)
        operations = tuple(self.operation(operation, widths) for operation in program.operations)
        return dataclasses.replace(program, tensors=tensors, operations=operations)


def _narrowed(weights: Weights, bits: int) -> Weights:
    """Return weights of the same range in other bits, rounded half to even and clipped."""
    lost = weights.bit_width - bits
    if lost <= 0:
        return dataclasses.replace(weights, bit_width=bits)
    low, high = integer_range(bits)
    integers = np.clip(np.rint(weights.integers / 2.0**lost), low, high).astype(np.int64)
    return Weights(integers, weights.exponents + lost, bits)


def _rising_table(x: FixedPointFormat, y: FixedPointFormat) -> np.ndarray:
    return np.linspace(y.min_int, y.max_int, x.max_int - x.min_int + 1).astype(np.int64)
