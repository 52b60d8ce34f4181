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

from po2quant.fixed_point import HALF_EVEN, FixedPointFormat
from po2quant.integer.archive import damaged, read_archive, write_archive
from po2quant.integer.checks import check_elements, checked_choice, checked_name, checked_type, invalid, shown
from po2quant.integer.operations import (
    LINEAR,
    OPERATIONS,
    Block,
    Cell,
    Operation,
    Recurrent,
    Tensor,
    Weights,
    unknown,
)

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
class Program(Block):
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
        self.check_order("a program")
        for output in self.outputs:
            if output.tensor not in self.tensor:
                raise invalid("an output", "a tensor of the program", output.tensor)
        names = [tensor.name for block in self.blocks for tensor in block.tensors]
        if len(set(names)) != len(names):
            raise invalid("tensors", "of different names, those of cells included", names)

    @functools.cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The program itself, then the cell of each recurrent operation: all that has tensors and operations."""
        return (self, *(operation.cell for operation in self.operations if isinstance(operation, Recurrent)))

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


_CLASSES = {kind.__name__: kind for kind in (Program, Tensor, FixedPointFormat, Weights, Output, Cell, *OPERATIONS)}
_CLASS, _ARRAY = "class", "array"
_ADDED = {"rounding": HALF_EVEN}
"""Fields that files do not have where they are these, as all were before there were others."""


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
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        stored = (name for name in fields if name not in _ADDED or fields[name] != _ADDED[name])
        return {_CLASS: type(value).__name__} | {name: _encode(fields[name], arrays) for name in stored}
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
    value = {name: default for name, default in _ADDED.items() if name in names} | value
    if odd := names ^ (value.keys() - {_CLASS}):
        raise invalid(f"fields of a {kind}", ", ".join(sorted(names)), f"without or with {', '.join(sorted(odd))}")
    return _CLASSES[kind](**{name: _decode(value[name], arrays) for name in value if name != _CLASS})


def _check_fields(program: Program) -> None:
    """Raise ValueError unless all parts are of their types, and not too many."""
    checked_name("name of a program", program.name)
    program.check_types("a program")
    if not isinstance(program.outputs, tuple) or not program.outputs:
        raise invalid("outputs of a program", "a tuple of 1 or more Output", program.outputs)
    for output in program.outputs:
        checked_type("each of the outputs of a program", output, Output)
    tensors = [tensor for block in program.blocks for tensor in block.tensors]
    if len(tensors) > MAX_TENSORS or len(program.inputs) + len(program.outputs) > MAX_ENDS:
        raise ValueError(
            f"a program must have at most {MAX_TENSORS} tensors, and {MAX_ENDS} inputs and outputs. "
            f"Received: {len(tensors)}, and {len(program.inputs) + len(program.outputs)}"
        )
    check_elements("tensors of a program", *(tensor.shape for tensor in tensors))
    for operation in (operation for block in program.blocks for operation in block.operations):
        if type(operation) not in OPERATIONS:  # a subclass may compute something else
            raise unknown("an integer program", operation)
