"""The integer program: what a frozen power-of-two network is, without TensorFlow or Keras.

The file form, version 1, is one ``.npz`` of integer arrays; the array ``json`` is the program as JSON text.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.archive import damaged, read_archive, write_archive
from po2quant.integer.checks import check_elements, checked_choice, checked_name, checked_type, invalid, shown
from po2quant.integer.operations import LINEAR, OPERATIONS, Counts, Operation, Tensor, Weights, unknown
from po2quant.integer.plan import Plan

SCHEMA, VERSION = "po2quant.integer_program", 1
CONTENT = "an integer program"
SOFTMAX = "softmax"
HOST_FUNCTIONS = (LINEAR, SOFTMAX)

MAX_TENSORS = 4096
"""Tensors of a program, at most: placing them in an arena takes time with the square of their number."""

MAX_ENDS = 127
"""Inputs and outputs together, at most: the parameters that C99 promises a function."""


@dataclasses.dataclass(frozen=True)
class Output:
    """A result of a program.

    Args:
        tensor: name of the tensor.
        host_function: what the host applies to its values: ``'softmax'`` over the last axis, or ``'linear'``, nothing.

    Raises:
        ValueError: for a field of another type, or an unknown function.
    """

    tensor: str
    host_function: str = LINEAR

    def __post_init__(self) -> None:
        checked_name("an output", self.tensor)
        checked_choice(f"host function of output {shown(self.tensor)}", self.host_function, HOST_FUNCTIONS)


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """An integer network.

    Args:
        name: name of the model.
        tensors: every tensor, at most 4096 that have fewer than 2**31 integers in all.
        inputs: names of the tensors that the host fills, in the model's order, with
            ``tensor.format.to_int`` of its floats.
        operations: in an order in which each reads what was written before.
        outputs: the results, in the model's order.

    Raises:
        ValueError: for a field of another type, and for a tensor that is missing, written twice, read too early or does
            not fit.
    """

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Output, ...]

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_order(self)

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

    def shape_of(self, operation: Operation) -> tuple[int, ...]:
        """Return the shape that an operation makes of its inputs, which its output may store in another."""
        return operation.output_shape(tuple(tensor.shape for tensor in self.inputs_of(operation)))

    def counts(self, operation: Operation) -> Counts:
        """Return what an operation costs on one sample."""
        return operation.counts(self.output_of(operation))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program to one ``.npz`` file, which is either the old or the new one, never half of it.

        Raises:
            ValueError: for a program of more integers than :meth:`load` would take.
        """
        arrays: dict[str, np.ndarray] = {}
        head = {"schema": SCHEMA, "version": VERSION, "program": _encode(self, arrays)}
        write_archive(Path(path), head, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Program:
        """Read a program.

        Sizes that the file declares are checked before memory is taken, and every field where it is made. What this
        accepts, all that reads programs handles or refuses in one sentence.

        Raises:
            ValueError: where the file is missing, damaged, too large or of another version.
        """
        head, arrays = read_archive(path, CONTENT)
        try:
            return _program(head, arrays)
        except (ValueError, RecursionError) as error:
            raise damaged(path, CONTENT, error) from None


_CLASSES = {kind.__name__: kind for kind in (Program, Tensor, FixedPointFormat, Weights, Output, *OPERATIONS)}
_CLASS, _ARRAY = "class", "array"


def _program(head: Any, arrays: dict[str, np.ndarray]) -> Program:
    """Return the program of a file's JSON data and arrays."""
    found = (head.get("schema"), head.get("version")) if isinstance(head, dict) else (None, None)
    if found != (SCHEMA, VERSION) or type(found[1]) is not int or head.keys() != {"schema", "version", "program"}:
        raise ValueError(
            f"schema and version must be {SCHEMA!r} and {VERSION}, beside the program. "
            f"Received: {shown(found[0])} and {shown(found[1])}"
        )
    program = checked_type("it", _decode(head["program"], arrays), Program)
    if arrays:
        raise invalid("arrays", "read by some field", sorted(arrays))
    return program


def _encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON knows it; arrays go to ``arrays``."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: _encode(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {_CLASS: type(value).__name__} | fields
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}
    return [_encode(item, arrays) for item in value] if isinstance(value, tuple) else value


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return what :func:`_encode` encoded; each array is taken out of ``arrays``."""
    if isinstance(value, list):
        return tuple(_decode(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    name, kind = value.get(_ARRAY), value.get(_CLASS)
    if value.keys() == {_ARRAY}:
        if not isinstance(name, str) or name not in arrays:
            raise invalid("an array", "in the file and belong to one field", name)
        return arrays.pop(name)
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise invalid("a class", f"one of {', '.join(_CLASSES)}", kind)
    names = {field.name for field in dataclasses.fields(_CLASSES[kind])}
    if odd := names ^ (value.keys() - {_CLASS}):
        raise invalid(f"fields of a {kind}", ", ".join(sorted(names)), f"without or with {', '.join(sorted(odd))}")
    return _CLASSES[kind](**{name: _decode(value[name], arrays) for name in value if name != _CLASS})


def _check_fields(program: Program) -> None:
    """Raise ValueError unless all parts are of their types, and not too many."""
    checked_name("name of a program", program.name)
    parts = {"tensors": Tensor, "inputs": str, "operations": Operation, "outputs": Output}
    for part, kind in parts.items():
        values = getattr(program, part)
        if not isinstance(values, tuple) or not (values or part == "operations"):
            raise invalid(f"{part} of a program", f"a tuple of 1 or more {kind.__name__}", values)
        for value in values:
            checked_type(f"each of the {part} of a program", value, kind)
    if len(program.tensors) > MAX_TENSORS or len(program.inputs) + len(program.outputs) > MAX_ENDS:
        raise ValueError(
            f"a program must have at most {MAX_TENSORS} tensors, and {MAX_ENDS} inputs and outputs. "
            f"Received: {len(program.tensors)}, and {len(program.inputs) + len(program.outputs)}"
        )
    check_elements("tensors of a program", *(tensor.shape for tensor in program.tensors))
    for operation in program.operations:
        if type(operation) not in OPERATIONS:  # a subclass may compute something else
            raise unknown("an integer program", operation)


def _check_order(program: Program) -> None:
    """Raise ValueError unless every operation reads what is there and writes what fits."""
    names = [tensor.name for tensor in program.tensors]
    are_different = all(len(set(listed)) == len(listed) for listed in (names, program.inputs))
    if not are_different or not set(program.inputs) <= set(names):
        raise ValueError(
            f"tensors and inputs must have different names, and tensors contain the inputs {shown(program.inputs)}. "
            f"Received: {shown(names)}"
        )
    written, unwritten = set(program.inputs), set(program.tensor) - set(program.inputs)
    for operation in program.operations:
        if not written.issuperset(operation.inputs) or operation.output not in unwritten:
            raise ValueError(
                f"operation {shown(operation.name)} must read tensors that exist and write a new one. "
                f"Received: {shown(operation.inputs)} -> {shown(operation.output)}"
            )
        operation.check(program.inputs_of(operation), program.output_of(operation))
        written.add(operation.output)
        unwritten.remove(operation.output)
    if unwritten:
        raise ValueError(f"a program must write all its tensors. Received: nothing writes {shown(sorted(unwritten))}")
    for output in program.outputs:
        if output.tensor not in written:
            raise invalid("an output", "a tensor of the program", output.tensor)
