"""The integer program: what a frozen power-of-two network is, without TensorFlow or Keras.

The file form, version 1, is one ``.npz`` of integer arrays; the array ``json`` is the program as JSON text.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.files import replaced_whole
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.operations import (
    ACTIVATIONS,
    LINEAR,
    OPERATIONS,
    AveragePooling,
    Conv2D,
    Dense,
    LookUpTable,
    MaxPooling,
    Operation,
    Reshape,
    Tensor,
    Weights,
    ZeroPadding,
    output_shape,
)

SCHEMA, VERSION = "po2quant.integer_program", 1
SOFTMAX = "softmax"
HOST_FUNCTIONS = (LINEAR, SOFTMAX)
INTEGER_TYPES = (np.int8, np.int16, np.int32, np.int64)


@dataclasses.dataclass(frozen=True)
class Output:
    """A result of a program.

    Args:
        tensor: name of the tensor.
        host_function: what the host applies to its values: ``'softmax'`` over the last axis, or ``'linear'``, nothing.
    """

    tensor: str
    host_function: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """An integer network.

    Args:
        name: name of the model.
        tensors: every tensor.
        inputs: names of the tensors that the host fills, in the model's order, with
            ``tensor.format.to_int`` of its floats.
        operations: in an order in which each reads what was written before.
        outputs: the results, in the model's order.

    Raises:
        ValueError: for a tensor that is missing, written twice, read too early or does not fit.
    """

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Output, ...]

    def __post_init__(self) -> None:
        _check(self)

    @functools.cached_property
    def tensor(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    def inputs_of(self, operation: Operation) -> tuple[Tensor, ...]:
        """Return the tensors that an operation reads."""
        return tuple(self.tensor[name] for name in operation.inputs)

    def output_of(self, operation: Operation) -> Tensor:
        """Return the tensor that an operation writes."""
        return self.tensor[operation.output]

    def save(self, path: str | os.PathLike) -> None:
        """Write the program to one ``.npz`` file, which is either the old or the new one, never half of it."""
        arrays: dict[str, np.ndarray] = {}
        head = {"schema": SCHEMA, "version": VERSION, "program": _encode(self, arrays)}
        with replaced_whole(Path(path)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, json=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Program:
        """Read a program.

        Raises:
            ValueError: where the file is missing, damaged or of another version.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                head = json.loads(bytes(arrays["json"]).decode())
                if (head["schema"], head["version"]) != (SCHEMA, VERSION):
                    raise ValueError(
                        f"schema and version must be {SCHEMA!r} and {VERSION}. "
                        f"Received: {head['schema']!r} and {head['version']!r}"
                    )
                program = _decode(head["program"], arrays)
        except _DAMAGES as error:
            raise ValueError(f"{path} is not an integer program: {type(error).__name__}: {error}") from None
        if not isinstance(program, cls):
            raise ValueError(f"{path} is not an integer program: it holds a {type(program).__name__}")
        return program


_DAMAGES = (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)
_DAMAGES += (zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError)

_CLASSES = {kind.__name__: kind for kind in (Program, Tensor, FixedPointFormat, Weights, Output, *OPERATIONS)}


def _encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON knows it; arrays go to ``arrays`` in the smallest type that holds them."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: _encode(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__} | fields
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        low, high = value.min(initial=0), value.max(initial=0)
        fitting = (kind for kind in INTEGER_TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
        arrays[name] = value.astype(next(fitting))
        return {"array": name}
    return [_encode(item, arrays) for item in value] if isinstance(value, tuple) else value


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return what :func:`_encode` encoded."""
    if isinstance(value, list):
        return tuple(_decode(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        array = arrays[value["array"]]
        if array.dtype not in INTEGER_TYPES:
            raise ValueError(f"arrays must be signed integers. Received: {array.dtype.name}")
        return array.astype(np.int64)
    fields = {name: _decode(item, arrays) for name, item in value.items() if name != "class"}
    return _CLASSES[value["class"]](**fields)


def _check(program: Program) -> None:
    """Raise ValueError unless every operation reads what is there and writes what fits."""
    if len(program.tensor) != len(program.tensors) or not set(program.inputs) <= set(program.tensor):
        names = [tensor.name for tensor in program.tensors]
        raise ValueError(
            f"tensors must have different names and contain the inputs {program.inputs}. Received: {names}"
        )
    written, unwritten = set(program.inputs), set(program.tensor) - set(program.inputs)
    for operation in program.operations:
        if not written.issuperset(operation.inputs) or operation.output not in unwritten:
            raise ValueError(
                f"operation {operation.name!r} must read tensors that exist and write a new one. "
                f"Received: {operation.inputs} -> {operation.output!r}"
            )
        _check_operation(program, operation)
        written.add(operation.output)
        unwritten.remove(operation.output)
    if unwritten:
        raise ValueError(f"a program must write all its tensors. Received: nothing writes {sorted(unwritten)}")
    for output in program.outputs:
        if output.tensor not in written or output.host_function not in HOST_FUNCTIONS:
            raise ValueError(f"an output must name a tensor and one of {', '.join(HOST_FUNCTIONS)}. Received: {output}")


def _check_operation(program: Program, operation: Operation) -> None:
    inputs, output = program.inputs_of(operation), program.output_of(operation)
    shape = output_shape(operation, tuple(tensor.shape for tensor in inputs))
    if math.prod(shape) != math.prod(output.shape) or min(shape) < 1:
        raise ValueError(
            f"output {output.name!r} of operation {operation.name!r} must have shape {shape}. Received: {output.shape}"
        )
    if isinstance(operation, (Conv2D, Dense)) and operation.bias.integers.shape != operation.kernel.exponents.shape:
        raise ValueError(
            f"bias of {operation.name!r} must have shape {operation.kernel.exponents.shape}. "
            f"Received: {operation.bias.integers.shape}"
        )
    activation = getattr(operation, "activation", LINEAR)
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation of {operation.name!r} must be one of {', '.join(ACTIVATIONS)}. Received: {activation!r}"
        )
    if isinstance(operation, (AveragePooling, MaxPooling)) and any(
        max(around) >= size for around, size in zip(operation.padding, operation.window, strict=True)
    ):  # a window that sees no pixel has no mean and no largest integer
        raise ValueError(
            f"padding of pooling {operation.name!r} must be smaller than its window {operation.window}. "
            f"Received: {operation.padding}"
        )
    if isinstance(operation, (Reshape, ZeroPadding)) and inputs[0].format != output.format:
        raise ValueError(
            f"operation {operation.name!r} must keep the format {inputs[0].format}. Received: {output.format}"
        )
    if isinstance(operation, LookUpTable):
        low, high, table = inputs[0].format.min_int, inputs[0].format.max_int, operation.table
        fits = table.shape == (high - low + 1,)
        if not fits or table.min() < output.format.min_int or table.max() > output.format.max_int:
            raise ValueError(
                f"the table of {operation.name!r} must hold an output integer for each of {low} to {high}. "
                f"Received: {table.size} entries"
            )
