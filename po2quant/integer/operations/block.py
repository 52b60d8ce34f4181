"""What a program and the cell of a recurrent operation share: tensors, and operations in an order that works."""

from __future__ import annotations

import functools

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.checks import Shape, checked_type, invalid, shown
from po2quant.integer.operations.base import Counts, Operation, Tensor
from po2quant.integer.plan import Plan

__all__ = ["Block"]


class Block:
    """Operations that make tensors of other tensors, for dataclasses to derive from.

    Attributes:
        tensors: every tensor.
        inputs: names of those that are there before the first operation.
        operations: in an order in which each reads what was written before.
    """

    tensors: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]

    @functools.cached_property
    def tensor(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @functools.cached_property
    def plans(self) -> dict[str, Plan | None]:
        """How each operation computes, by name of its output; None: it only moves or looks up integers.

        Raises:
            ValueError: where a sum would not fit 64 bits.
        """
        return {
            operation.output: operation.plan(self.formats_of(operation), self.output_of(operation).format)
            for operation in self.operations
        }

    def plan(self, operation: Operation) -> Plan | None:
        """Return how an operation computes: an entry of :attr:`plans`."""
        return self.plans[operation.output]

    def inputs_of(self, operation: Operation) -> tuple[Tensor, ...]:
        """Return the tensors that an operation reads."""
        return tuple(self.tensor[name] for name in operation.inputs)

    def formats_of(self, operation: Operation) -> tuple[FixedPointFormat, ...]:
        """Return the formats of the tensors that an operation reads."""
        return tuple(tensor.format for tensor in self.inputs_of(operation))

    def output_of(self, operation: Operation) -> Tensor:
        """Return the tensor that an operation writes."""
        return self.tensor[operation.output]

    def shape_of(self, operation: Operation) -> Shape:
        """Return the shape that an operation makes of its inputs, which its output may store in another."""
        return operation.output_shape(tuple(tensor.shape for tensor in self.inputs_of(operation)))

    def counts(self, operation: Operation) -> Counts:
        """Return what an operation costs on one sample."""
        return operation.counts(self.output_of(operation))

    def computed(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the integers of every tensor by name, ``(samples, *shape)``, given those of the inputs.

        Those of a cell, which are there once for each step, are ``(samples, steps, *shape)``.
        """
        tensors = dict(tensors)
        for operation in self.operations:
            arrays = [tensors[name] for name in operation.inputs]
            tensors |= operation.traced(
                arrays, self.plan(operation), self.formats_of(operation), self.output_of(operation)
            )
        return tensors

    def check_types(self, subject: str) -> None:
        """Raise ValueError unless all parts are tuples of their types."""
        parts = {"tensors": Tensor, "inputs": str, "operations": Operation}
        for part, kind in parts.items():
            values = getattr(self, part)
            if not isinstance(values, tuple) or not (values or part == "operations"):
                raise invalid(f"{part} of {subject}", f"a tuple of 1 or more {kind.__name__}", values)
            for value in values:
                checked_type(f"each of the {part} of {subject}", value, kind)

    def check_order(self, subject: str) -> None:
        """Raise ValueError unless every operation reads what is there and writes what fits."""
        names = [tensor.name for tensor in self.tensors]
        are_different = all(len(set(listed)) == len(listed) for listed in (names, self.inputs))
        if not are_different or not set(self.inputs) <= set(names):
            raise ValueError(
                f"tensors and inputs must have different names, and tensors contain the inputs {shown(self.inputs)}. "
                f"Received: {shown(names)}"
            )
        written, unwritten = set(self.inputs), set(self.tensor) - set(self.inputs)
        for operation in self.operations:
            if not written.issuperset(operation.inputs) or operation.output not in unwritten:
                raise ValueError(
                    f"operation {shown(operation.name)} must read tensors that exist and write a new one. "
                    f"Received: {shown(operation.inputs)} -> {shown(operation.output)}"
                )
            operation.check(self.inputs_of(operation), self.output_of(operation))
            written.add(operation.output)
            unwritten.remove(operation.output)
        if unwritten:
            raise ValueError(
                f"{subject} must write all its tensors. Received: nothing writes {shown(sorted(unwritten))}"
            )
