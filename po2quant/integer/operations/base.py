"""What every operation of an integer program has: its tensors, weights, and what it answers.

A tensor is integers ``q`` and an exponent ``e``; its value is ``q * 2**e``. An operation reads integers and writes
integers of its output's format: it shifts, rounds as the format says and clips. It never multiplies by a scale.
:mod:`po2quant.integer.plan` derives every shift from the exponents here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from po2quant.fixed_point import MAX_EXPONENT, FixedPointFormat, integer_range, shift_right
from po2quant.integer.checks import (
    Padding,
    Shape,
    checked_array,
    checked_choice,
    checked_name,
    checked_shape,
    checked_type,
    invalid,
    shown,
)
from po2quant.integer.plan import Channel, Plan, jam_array, plain_channel, plan_of_channels

__all__ = [
    "ACTIVATIONS",
    "LINEAR",
    "MAX_INPUTS",
    "NO_PADDING",
    "RELU",
    "RELU6",
    "Counts",
    "Handlers",
    "Operation",
    "Requantizing",
    "Tensor",
    "Weights",
    "output_limits",
    "unknown",
]

LINEAR, RELU, RELU6 = "linear", "relu", "relu6"
ACTIVATIONS = (LINEAR, RELU, RELU6)

NO_PADDING: Padding = ((0, 0), (0, 0))

MAX_CHANNELS = 2**16
"""Output channels of a kernel, at most: each is planned on its own."""

MAX_INPUTS = 126
"""Tensors that an operation reads, at most: with its output, the 127 parameters that C99 promises a function."""

Arrays = Sequence[np.ndarray]
Formats = tuple[FixedPointFormat, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An integer tensor.

    Args:
        name: name of the quantizer, or of the layer that moves values, that makes it.
        shape: shape without the batch, channels last: 1 to 8 axes of 1 or more.
        format: width, exponent, sign and range of its integers.

    Raises:
        ValueError: for a field of another type or range.
    """

    name: str
    shape: Shape
    format: FixedPointFormat

    def __post_init__(self) -> None:
        checked_name("name of a tensor", self.name)
        set_fields(self, shape=checked_shape(f"shape of tensor {shown(self.name)}", self.shape))
        checked_type(f"format of tensor {shown(self.name)}", self.format, FixedPointFormat)

    @property
    def size(self) -> int:
        """Integers of one sample."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A kernel or a bias: value = integers * 2**exponents.

    Args:
        integers: int64, output channels last.
        exponents: one an output channel, ``(C,)``, int64.
        bit_width: bits of an integer, sign included.

    Raises:
        ValueError: for a field of another type, shape or range.
    """

    integers: np.ndarray
    exponents: np.ndarray
    bit_width: int

    def __post_init__(self) -> None:
        limits = integer_range(self.bit_width)
        integers = checked_array(f"weights of {self.bit_width} bits", self.integers, *limits)
        exponents = checked_array("exponents of weights", self.exponents, -MAX_EXPONENT, MAX_EXPONENT)
        if exponents.ndim != 1 or exponents.shape != integers.shape[-1:]:
            raise ValueError(
                "weights must have one exponent an output channel. "
                f"Received: integers {shown(integers.shape)}, exponents {shown(exponents.shape)}"
            )
        if exponents.size > MAX_CHANNELS:
            raise ValueError(f"weights must have at most {MAX_CHANNELS} output channels. Received: {exponents.size}")
        set_fields(self, integers=integers, exponents=exponents, bit_width=int(self.bit_width))


class Counts(NamedTuple):
    """What an operation costs on one sample.

    Args:
        macs: multiply-accumulates, padding included.
        other_operations: additions, products, comparisons, look-ups and shifts that are no MACs. An output costs one
            for its shift, rounding and clipping together, and what it takes to combine its inputs; moving integers
            costs nothing.
        storage_bits: of kernels, biases and tables at their own widths.
    """

    macs: int = 0
    other_operations: int = 0
    storage_bits: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One step of a program.

    A class of operations says what it checks, its output's shape, its plan, what it computes and what that costs. What
    a class does not say is refused, by name.

    Args:
        name: name of the Keras layer.
        inputs: names of the tensors that it reads.
        output: name of the tensor that it writes.

    Raises:
        ValueError: for a field of another type or range.
    """

    name: str
    inputs: tuple[str, ...]
    output: str

    most_inputs: ClassVar[int] = 1
    activation = LINEAR

    def __post_init__(self) -> None:
        checked_name("name of an operation", self.name)
        if not isinstance(self.inputs, tuple) or not 1 <= len(self.inputs) <= self.most_inputs:
            raise invalid(self.subject("inputs"), f"a tuple of 1 to {self.most_inputs} names", self.inputs)
        for name in (*self.inputs, self.output):
            checked_name(self.subject("a tensor"), name)
        checked_choice(self.subject("activation"), self.activation, ACTIVATIONS)

    def subject(self, part: str) -> str:
        """Return the name of a part of the operation, for errors."""
        return f"{part} of operation {shown(self.name)}"

    @property
    def kind(self) -> str:
        """What it is, in a word, for people."""
        return type(self).__name__

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the shape that it makes of inputs of these shapes, all without the batch.

        Raises:
            ValueError: where the inputs do not fit the operation.
        """
        raise unknown("the shape rules", self)

    def check(self, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Raise ValueError unless it makes the output of the inputs.

        One pixel, ``(1, 1, C)``, may also be stored as ``(C,)``.
        """
        shape = self.output_shape(tuple(tensor.shape for tensor in inputs))
        is_one_pixel = shape[:-1] == (1, 1) and output.shape == shape[-1:]
        if output.shape != shape and not is_one_pixel:
            raise ValueError(
                f"output {shown(output.name)} of operation {shown(self.name)} must have shape {shown(shape)}. "
                f"Received: {shown(output.shape)}"
            )

    def plan(self, formats: Formats, output: FixedPointFormat) -> Plan | None:
        """Return its shifts and widths; None where it only moves or looks up integers.

        Raises:
            ValueError: where a sum would not fit 64 bits.
        """
        limits = output_limits(output, self.activation)
        return plan_of_channels(self.name, self.channels(formats, output), output, limits)

    def channels(self, formats: Formats, output: FixedPointFormat) -> list[Channel]:
        """Return what becomes of the accumulator of each output channel, or of one for all."""
        raise unknown("the plan", self)

    def compute(self, arrays: Arrays, plan: Plan | None, formats: Formats) -> np.ndarray:
        """Return its output, ``(samples, ...)``, as the interpreter has it."""
        return self.moved(arrays, formats) if plan is None else self.rounded(arrays, plan)

    def traced(self, arrays: Arrays, plan: Plan | None, formats: Formats, output: Tensor) -> dict[str, np.ndarray]:
        """Return its output, in the output's shape, by name; and tensors of its own where it has some."""
        return {self.output: self.compute(arrays, plan, formats).reshape(-1, *output.shape)}

    def moved(self, arrays: Arrays, formats: Formats) -> np.ndarray:
        """Return its output where it has no plan."""
        raise unknown("the interpreter", self)

    def rounded(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return its output where it has one: accumulated, aligned, shifted, rounded and clipped."""
        total = jam_array(self.accumulate(arrays, plan), plan.align_shifts) + plan.bias
        return plan.clip(shift_right(total, plan.output_shifts, plan.rounding))

    def accumulate(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return the sums, products or maxima of its inputs, not yet aligned."""
        raise unknown("the interpreter", self)

    def counts(self, output: Tensor) -> Counts:
        """Return what it costs."""
        raise unknown("the accounting", self)


@dataclasses.dataclass(frozen=True, eq=False)
class Requantizing(Operation):
    """What takes integers of its inputs one by one into another format: shifted, rounded, clipped."""

    def channels(self, formats: Formats, output: FixedPointFormat) -> list[Channel]:
        """Return an integer of each input."""
        return [plain_channel((format.min_int, format.max_int), format.exponent) for format in formats]


Function = TypeVar("Function", bound=Callable[..., Any])


class Handlers(Generic[Function]):
    """The functions of one room, one for each class of operations.

    Args:
        room: who handles the operations, for errors.
        functions: by class.
    """

    def __init__(self, room: str, functions: Mapping[type[Operation], Function]) -> None:
        self.room, self.functions = room, functions

    def of(self, operation: Operation) -> Function:
        """Return the function of an operation.

        Raises:
            ValueError: where the room has none for just this class.
        """
        if type(operation) not in self.functions:
            raise unknown(self.room, operation)
        return self.functions[type(operation)]


def unknown(room: str, operation: Operation) -> ValueError:
    """Return the error of a room that does not know a class of operations."""
    kind = shown(type(operation).__name__)
    return ValueError(f"{room} must know every operation of a program. Received: {shown(operation.name)}, a {kind}")


def set_fields(record: Any, **fields: Any) -> None:
    """Set fields of a frozen dataclass while it is made."""
    for name, value in fields.items():
        object.__setattr__(record, name, value)


def output_limits(output: FixedPointFormat, activation: str) -> tuple[int, int]:
    """Return the smallest and the largest integer of an output after its activation.

    A ReLU is no step of its own: rounding is monotone.
    """
    low, high = output.min_int, output.max_int
    if activation != LINEAR:
        low = max(low, 0)
    if activation == RELU6:
        high = int(output.to_int(np.array(6.0)))
    return low, high
