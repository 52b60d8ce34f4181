"""Operations that run others once for each step of a sequence."""

from __future__ import annotations

import dataclasses

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.checks import Shape, checked_integer, checked_type, invalid, shown
from po2quant.integer.operations.base import Arrays, Counts, Formats, Operation, Tensor
from po2quant.integer.operations.block import Block
from po2quant.integer.operations.moving import Reshape
from po2quant.integer.plan import Plan

__all__ = ["Cell", "Recurrent"]


@dataclasses.dataclass(frozen=True, eq=False)
class Cell(Block):
    """What happens in one step.

    Args:
        tensors: every tensor of a step, each with one format in all steps.
        inputs: names of what a step reads: its part of the sequence, then the states, which are 0 before the first.
        operations: in an order in which each reads what was written before; none is recurrent itself.
        outputs: names of the tensors that become the states of the next step, in their order and formats; the first is
            the step's result. None is another one in another shape.

    Raises:
        ValueError: for a field of another type, and for a tensor that is missing, written twice, read too early or does
            not fit.
    """

    tensors: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        self.check_types("a cell")
        for operation in self.operations:
            if isinstance(operation, Recurrent):
                raise invalid("operations of a cell", "of one step", operation.name)
        self.check_order("a cell")
        written = {operation.output for operation in self.operations if not isinstance(operation, Reshape)}
        if not isinstance(self.outputs, tuple) or not self.outputs or not written.issuperset(self.outputs):
            raise invalid("outputs of a cell", "a tuple of names of tensors that it computes", self.outputs)
        before, after = ([self.tensor[name] for name in names] for names in (self.inputs[1:], self.outputs))
        if [(x.shape, x.format) for x in before] != [(y.shape, y.format) for y in after]:
            raise ValueError(
                "a cell must write as many states as it reads, of the same shapes and formats. "
                f"Received: {shown(self.inputs[1:])} -> {shown(self.outputs)}"
            )

    @property
    def result(self) -> Tensor:
        """What a step adds to the sequence that is made."""
        return self.tensor[self.outputs[0]]


@dataclasses.dataclass(frozen=True, eq=False)
class Recurrent(Operation):
    """A cell that runs once for each step of a sequence ``(steps, ...)``: LSTM, GRU, SimpleRNN.

    Args:
        cell: what happens in a step.
        steps: how many the sequence has.
        return_sequences: whether the output is all results, ``(steps, ...)``, or the last alone.
    """

    cell: Cell
    steps: int
    return_sequences: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_type(self.subject("the cell"), self.cell, Cell)
        checked_integer(self.subject("steps"), self.steps, 1)
        checked_type(self.subject("return_sequences"), self.return_sequences, bool)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the shape of a step's result, after the steps where all are returned."""
        wanted = (self.steps, *self.cell.tensor[self.cell.inputs[0]].shape)
        if shapes != (wanted,):
            raise invalid(self.subject("input"), f"of shape {shown(wanted)}", shapes[0])
        return (self.steps,) * self.return_sequences + self.cell.result.shape

    def check(self, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Raise ValueError unless sequences have the formats of the cell."""
        super().check(inputs, output)
        wanted = self.cell.tensor[self.cell.inputs[0]].format, self.cell.result.format
        if (inputs[0].format, output.format) != wanted:
            raise ValueError(
                f"{self.subject('sequences')} must have the formats of its cell, {wanted[0]} and {wanted[1]}. "
                f"Received: {inputs[0].format} and {output.format}"
            )

    def plan(self, formats: Formats, output: FixedPointFormat) -> None:
        """Return None, once all operations of the cell have their plans.

        Raises:
            ValueError: where a sum would not fit 64 bits.
        """
        _ = self.cell.plans

    def moved(self, arrays: Arrays, formats: Formats) -> np.ndarray:
        """Return the results of all steps, or the last."""
        return self._of_steps(self._steps(arrays[0]))

    def traced(self, arrays: Arrays, plan: Plan | None, formats: Formats, output: Tensor) -> dict[str, np.ndarray]:
        """Return its output, and every tensor of the cell, ``(samples, steps, *shape)``."""
        steps = self._steps(arrays[0])
        return steps | {self.output: self._of_steps(steps).reshape(-1, *output.shape)}

    def _of_steps(self, steps: dict[str, np.ndarray]) -> np.ndarray:
        results = steps[self.cell.outputs[0]]
        return results if self.return_sequences else results[:, -1]

    def _steps(self, x: np.ndarray) -> dict[str, np.ndarray]:
        cell = self.cell
        states = [np.zeros((len(x), *cell.tensor[name].shape), np.int64) for name in cell.inputs[1:]]
        steps = []
        for now in x.swapaxes(0, 1):
            steps.append(cell.computed(dict(zip(cell.inputs, [now, *states], strict=True))))
            states = [steps[-1][name] for name in cell.outputs]
        return {name: np.stack([step[name] for step in steps], axis=1) for name in cell.tensor}

    def counts(self, output: Tensor) -> Counts:
        """Return what all steps cost, and the bits of the constants, which they share."""
        each = [self.cell.counts(operation) for operation in self.cell.operations]
        macs, others, bits = (sum(column) for column in zip(*each, strict=True))
        return Counts(macs * self.steps, others * self.steps, bits)
