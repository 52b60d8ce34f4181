"""Writes an integer program as a LiteRT (TensorFlow Lite) file that keeps its powers of two."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from po2quant.export.exchange import check_rounding
from po2quant.export.litert.litert_file import LiteRTFile, Scale
from po2quant.export.litert.rounding import INT8, Storage, filled, rounded_bias, sum_format
from po2quant.fixed_point import HALF_AWAY, HALF_EVEN, HALF_UP, FixedPointFormat, magnitude_bits
from po2quant.integer import operations as ops
from po2quant.integer.checks import shown
from po2quant.integer.operations import Shape, Tensor
from po2quant.integer.program import Program
from po2quant.integer.rewrites import settle_constant_channels, unrolled

SAME, VALID = 0, 1
NO_ACTIVATION, RELU_ACTIVATION, RELU6_ACTIVATION = 0, 1, 3
"""Numbers of LiteRT's schema."""


def to_litert(program: Program, path: str | os.PathLike) -> dict[str, int]:
    """Write a program as a LiteRT int8 file, or where a tensor has more than 8 bits, int16 with int8 kernels.

    Every tensor keeps its exponent: a scale in the file is the power of two of the program. An unsigned tensor has zero
    point -128, a signed one 0. Kernels are int8 with one power of two an output channel. The first size of every tensor
    is the number of samples, which the host may change. A softmax at the end is left to the host, as in the program.
    With int16 every zero point is 0 and biases are int64.

    One operation on equal inputs gives the program's integers, or at most one unit beside them, because LiteRT

    - has biases in units of the products: finer bits of a bias are rounded to them, half to even;
    - rounds half up or away from 0, or rounds twice, where the program rounds once, half to even by default;
    - has no narrow range: -128 is where the program stops at -127.

    Args:
        program: the integer program, with kernels of at most 8 bits and activations of at most 8, or 16 with a sign.
        path: of the file.

    Returns:
        The operations that may be more than one unit off, and by how many: where the products are coarser than the
        output, so that rounding a finer bias to them counts, and where a sum of many tensors does not fit 16 bits.

    Raises:
        ValueError: for more bits, tensors that are rounded down, what LiteRT's operators cannot do, or where
            ai-edge-litert is not installed.

    Example:
        >>> to_litert(integer_program(model), "network.tflite")  # doctest: +SKIP
        {}

    Reference:
        "LiteRT 8-bit quantization specification", ai.google.dev.
    """
    writer = _Writer(program)
    writer.write(Path(path))
    return writer.deviations


def deviations(program: Program) -> dict[str, int]:
    """Return what :func:`to_litert` returns, and write nothing."""
    return _Writer(program).deviations


class _Step(NamedTuple):
    """An operation, the tensors that it reads with their places in the file, its output's format, and its own shape."""

    operation: Any
    inputs: tuple[Tensor, ...]
    places: tuple[int, ...]
    format: FixedPointFormat
    shape: Shape


class _Writer:
    """Adds the operators of each operation of a program."""

    def __init__(self, program: Program) -> None:
        self._program = program = unrolled(settle_constant_channels(program))
        self._file, self._storage = LiteRTFile(), Storage.of(program)
        self._places: dict[str, int] = {}
        self.deviations: dict[str, int] = {}
        for tensor in program.tensors:
            check_rounding(tensor.format, tensor.name, "LiteRT", (HALF_EVEN, HALF_UP, HALF_AWAY))
        for name in program.inputs:
            tensor = program.tensor[name]
            self._places[name] = self._new(name, tensor.shape, tensor.format)
        for operation in program.operations:
            self._add(operation)

    def write(self, path: Path) -> None:
        """Write the file."""
        program = self._program
        outputs = [self._places[output.tensor] for output in program.outputs]
        self._file.write(path, program.name, [self._places[name] for name in program.inputs], outputs)

    def _add(self, operation: ops.Operation) -> None:
        """Add an operation: what computes, what keeps its range, its shape."""
        program = self._program
        places = tuple(self._places[name] for name in operation.inputs)
        output = program.output_of(operation)
        step = _Step(operation, program.inputs_of(operation), places, output.format, program.shape_of(operation))
        place = self._limited(step, OPERATORS.of(operation)(self, step))
        if step.shape != output.shape or isinstance(operation, (ops.Reshape, ops.Rearrange)):
            place = self._reshaped(operation.name, place, output)
        self._file.rename(place, output.name)
        self._places[output.name] = place

    def _new(
        self, name: str, shape: Shape, format: FixedPointFormat, kind: type | None = None, zero: int | None = None
    ) -> int:
        scale = Scale(np.array(format.exponent), self._storage.zero_point(format) if zero is None else zero)
        return self._file.tensor(name, shape, kind or self._storage.kind, scale)

    def _operator(
        self, kind: str, name: str, inputs: Sequence[int], shape: Shape, format: FixedPointFormat, **options: Any
    ) -> int:
        """Add an operator and return the place of its output."""
        place = self._new(f"{name}/{kind.lower()}", shape, format)
        self._file.operator(kind, inputs, place, **options)
        return place

    def convolution(self, step: _Step) -> int:
        """Add a convolution, after padding that it cannot name."""
        operation, (x,), (place,), format, shape = step
        padding = _named_padding(operation.padding, x.shape, operation.spans, operation.strides)
        if padding is None:
            place, padding = self._padded(operation.name, place, x, operation.padding), VALID
        options = _strides(operation.strides) | {"padding": padding}
        options |= {"dilationHFactor": operation.dilation[0], "dilationWFactor": operation.dilation[1]}
        options |= {"fusedActivationFunction": _fused(operation.activation, format)}
        if not operation.is_depthwise:
            weights = self._weights(operation, x.format, (3, 0, 1, 2), 0)
            return self._operator("CONV_2D", operation.name, [place, *weights], shape, format, **options)
        weights = self._weights(operation, x.format, (2, 0, 1, 3), 3)
        options["depthMultiplier"] = shape[-1] // x.shape[-1]
        return self._operator("DEPTHWISE_CONV_2D", operation.name, [place, *weights], shape, format, **options)

    def matrix_product(self, step: _Step) -> int:
        """Add a matrix product."""
        operation, (x,), (place,), format, shape = step
        options = {"fusedActivationFunction": _fused(operation.activation, format), "keepNumDims": len(shape) > 1}
        inputs = [place, *self._weights(operation, x.format, (1, 0), 0)]
        return self._operator("FULLY_CONNECTED", operation.name, inputs, shape, format, **options)

    def _weights(self, operation: ops.Weighted, x: FixedPointFormat, order: Shape, axis: int) -> tuple[int, int]:
        """Add a kernel and the bias in units of its products."""
        name, kernel = operation.name, filled(operation)
        exponents = kernel.exponents + x.exponent
        output, bias_bits = self._program.output_of(operation).format, 64 if self._storage.is_wide else 32
        bias, error = rounded_bias(operation, exponents, output.exponent, bias_bits)
        self._note(name, error)
        terms = list(zip(ops.weighted_limits(kernel, x), bias.tolist(), strict=True))
        lowest, highest = (
            min(low + min(term, 0) for (low, _), term in terms),
            max(high + max(term, 0) for (_, high), term in terms),
        )
        if lowest < -(2 ** (bias_bits - 1)) or highest >= 2 ** (bias_bits - 1):
            raise ValueError(
                f"sums of {shown(name)} must fit {bias_bits} bits for LiteRT. Received: {lowest} to {highest}"
            )
        integers = np.ascontiguousarray(kernel.integers.transpose(order).astype(np.int8))
        return (
            self._file.constant(f"{name}/kernel", integers, Scale(kernel.exponents, axis=axis)),
            self._file.constant(f"{name}/bias", bias.astype(f"int{bias_bits}"), Scale(exponents)),
        )

    def _note(self, name: str, error: Fraction) -> None:
        """Keep by how many units an operation may be off, where that is more than one."""
        if error > 1:
            self.deviations[name] = max(math.ceil(error), self.deviations.get(name, 0))

    def average(self, step: _Step) -> int:
        """Add an average; one into another format is taken in 16 bits, as LiteRT averages keep their format."""
        operation, (x,), (place,), format, shape = step
        name, kind, options = operation.name, "AVERAGE_POOL_2D", _pooling_options(operation, x.shape)
        if x.format.exponent == format.exponent and x.format.signed == format.signed:
            return self._operator(kind, name, [place], shape, format, **options)
        spare_bits = magnitude_bits(16) - magnitude_bits(x.format.bit_width, x.format.signed)
        finer = dataclasses.replace(x.format, exponent=x.format.exponent - spare_bits)
        if self._storage.is_wide:
            self._note(name, Fraction(2) ** (finer.exponent - 1 - format.exponent) + Fraction(1, 2))
        elif format.exponent < finer.exponent:
            raise ValueError(
                f"output of average {shown(name)} must have an exponent of at least {finer.exponent} for LiteRT, "
                f"{spare_bits} below its input's. Received: {format.exponent}"
            )
        wide = self._new(f"{name}/wide", x.shape, finer, np.int16, 0)
        self._file.operator("QUANTIZE", [place], wide)
        average = self._new(f"{name}/wide_average", shape, finer, np.int16, 0)
        self._file.operator(kind, [wide], average, **options)
        return self._operator("QUANTIZE", name, [average], shape, format)

    def maximum(self, step: _Step) -> int:
        """Add a maximum, in the input's format."""
        operation, (x,), (place,), format, shape = step
        options = _pooling_options(operation, x.shape)
        place = self._operator("MAX_POOL_2D", operation.name, [place], shape, x.format, **options)
        return self._requantized(operation.name, place, x.format, format, shape)

    def elementwise(self, step: _Step) -> int:
        """Add a sum, or a product of two tensors."""
        operation, _, places, format, shape = step
        if isinstance(operation, ops.Add) and (len(places) > 2 or self._storage.is_wide):
            return self._long_sum(step)
        if len(places) != 2:
            raise ValueError(
                f"operation {shown(operation.name)} must have 2 inputs for LiteRT. Received: {len(places)}"
            )
        activation = _fused(operation.activation, format)
        kind = "ADD" if isinstance(operation, ops.Add) else "MUL"
        return self._operator(kind, operation.name, places, shape, format, fusedActivationFunction=activation)

    def _long_sum(self, step: _Step) -> int:
        """Add a sum of more than two tensors, two at a time, in 16 bits of one exponent."""
        (operation, inputs, places, format, shape), name = step, step.operation.name
        wide, error = sum_format([x.format for x in inputs], format)
        self._note(name, error)
        parts = [self._new(f"{name}/wide", x.shape, wide, np.int16, 0) for x in inputs]
        for place, part in zip(places, parts, strict=True):
            self._file.operator("QUANTIZE", [place], part)
        total, total_shape = parts[0], inputs[0].shape
        for x, part in zip(inputs[1:], parts[1:], strict=True):
            total_shape = np.broadcast_shapes(total_shape, x.shape)
            activation = _fused(operation.activation, format) if part == parts[-1] else NO_ACTIVATION
            terms, total = [total, part], self._new(f"{name}/sum", total_shape, wide, np.int16, 0)
            self._file.operator("ADD", terms, total, fusedActivationFunction=activation)
        return self._operator("QUANTIZE", name, [total], shape, format)

    def extreme(self, step: _Step) -> int:
        """Add the larger or smaller of two tensors, each in the output's format."""
        name, kind = step.operation.name, type(step.operation).__name__.upper()
        return functools.reduce(
            lambda x, y: self._operator(kind, name, [x, y], step.shape, step.format), self._in_output_format(step)
        )

    def rearranging(self, step: _Step) -> int:
        """Add the gathering of elements."""
        operation, (x,), (place,), format, _ = step
        flat = self._reshaped(operation.name, place, dataclasses.replace(x, shape=(x.size,)))
        indices = operation.indices().astype(np.int32)
        places = self._file.constant(f"{operation.name}/places", indices)
        return self._operator("GATHER", operation.name, [flat, places], indices.shape, format, axis=1)

    def concatenation(self, step: _Step) -> int:
        """Add tensors side by side, each in the output's format."""
        operation, parts = step.operation, self._in_output_format(step)
        return self._operator("CONCATENATION", operation.name, parts, step.shape, step.format, axis=operation.axis + 1)

    def requantization(self, step: _Step) -> int:
        """Add a change of the format."""
        return self._operator("QUANTIZE", step.operation.name, step.places, step.shape, step.format)

    def look_up(self, step: _Step) -> int:
        """Add a table of 256 integers and the sum that makes a place in it of an int8."""
        operation, (x,), (place,), format, shape = step
        name, file, lowest, storage = operation.name, self._file, x.format.min_int, self._storage
        if storage.is_wide:
            raise ValueError(
                f"function {shown(name)} must have tensors of 8 bits around it for LiteRT: tables of 16 bits are left "
                f"out. Received: {x.format.bit_width} and {format.bit_width} bits"
            )
        integers = np.clip(np.arange(INT8.min, INT8.max + 1) - storage.zero_point(x.format), lowest, x.format.max_int)
        table = (operation.table[integers - lowest] + storage.zero_point(format)).astype(np.int8)
        wide, index = (file.tensor(f"{name}/{part}", shape, np.int32) for part in ("wide", "index"))
        file.operator("CAST", [place], wide)
        file.operator("ADD", [wide, file.constant(f"{name}/offset", np.array([-INT8.min], np.int32))], index)
        scale = Scale(np.array(format.exponent), storage.zero_point(format))
        tables = file.constant(f"{name}/table", table, scale)
        return self._operator("GATHER", name, [tables, index], shape, format)

    def padding(self, step: _Step) -> int:
        """Add zeros around an image."""
        return self._padded(step.operation.name, step.places[0], step.inputs[0], step.operation.padding)

    def _padded(self, name: str, place: int, x: Tensor, padding: ops.Padding) -> int:
        places = self._file.constant(f"{name}/paddings", np.array([(0, 0), *padding, (0, 0)], np.int32))
        (top, bottom), (left, right) = padding
        shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2])
        return self._operator("PAD", name, [place, places], shape, x.format)

    def _reshaped(self, name: str, place: int, output: Tensor) -> int:
        shape = [-1, *output.shape]
        sizes = self._file.constant(f"{name}/shape", np.array(shape, np.int32))
        return self._operator("RESHAPE", name, [place, sizes], output.shape, output.format, newShape=shape)

    def _requantized(
        self, name: str, place: int, format: FixedPointFormat, target: FixedPointFormat, shape: Shape
    ) -> int:
        if (format.exponent, format.signed) == (target.exponent, target.signed):
            return place
        return self._operator("QUANTIZE", name, [place], shape, target)

    def _in_output_format(self, step: _Step) -> list[int]:
        """Add the changes of the inputs' formats to the output's."""
        return [
            self._requantized(step.operation.name, place, x.format, step.format, x.shape)
            for x, place in zip(step.inputs, step.places, strict=True)
        ]

    def _limited(self, step: _Step, place: int) -> int:
        """Add what keeps the integers in a range that is narrower than its type's, by more than a narrow range."""
        operation, _, _, format, shape = step
        plan = self._program.plan(operation)
        if plan is None:
            return place
        has_activation_inside = isinstance(operation, (ops.Weighted, ops.Add, ops.Multiply))
        low, high = (format.min_int, format.max_int) if has_activation_inside else (plan.low, plan.high)
        storage = self._storage
        zero, limits = storage.zero_point(format), storage.limits
        for kind, limit, is_needed in (
            ("MAXIMUM", low + zero, low + zero > limits.min + format.narrow_range),
            ("MINIMUM", high + zero, high + zero < limits.max),
        ):
            if is_needed:
                scale = Scale(np.array(format.exponent), zero)
                end = self._file.constant(
                    f"{operation.name}/{kind.lower()}_end", np.array([limit], storage.kind), scale
                )
                place = self._operator(kind, operation.name, [place, end], shape, format)
        return place


OPERATORS: ops.Handlers[Callable[[_Writer, _Step], int]] = ops.Handlers(
    "the LiteRT writer",
    {
        ops.Conv2D: _Writer.convolution,
        ops.Dense: _Writer.matrix_product,
        ops.AveragePooling: _Writer.average,
        ops.MaxPooling: _Writer.maximum,
        ops.Add: _Writer.elementwise,
        ops.Multiply: _Writer.elementwise,
        ops.Maximum: _Writer.extreme,
        ops.Minimum: _Writer.extreme,
        ops.Concatenate: _Writer.concatenation,
        ops.Requantize: _Writer.requantization,
        ops.LookUpTable: _Writer.look_up,
        ops.Reshape: lambda writer, step: step.places[0],
        ops.Rearrange: _Writer.rearranging,
        ops.ZeroPadding: _Writer.padding,
    },
)
"""What adds the operators of each operation and returns the place of its output."""


def _fused(activation: str, format: FixedPointFormat) -> int:
    """Return the activation that an operator must have inside; an unsigned int8 begins at 0 by itself."""
    if activation == ops.RELU6:
        return RELU6_ACTIVATION
    return RELU_ACTIVATION if activation != ops.LINEAR and format.signed else NO_ACTIVATION


def _named_padding(padding: ops.Padding, image: Shape, spans: Shape, strides: Shape) -> int | None:
    """Return SAME or VALID, or None where padding is neither."""
    if padding == ops.NO_PADDING:
        return VALID
    totals = [
        max((-(-size // stride) - 1) * stride + span - size, 0)
        for size, span, stride in zip(image[:2], spans, strides, strict=True)
    ]
    return SAME if padding == tuple((total // 2, total - total // 2) for total in totals) else None


def _strides(strides: Shape) -> dict[str, int]:
    return {"strideH": strides[0], "strideW": strides[1]}


def _pooling_options(operation: ops.Pooling, image: Shape) -> dict[str, int]:
    padding = _named_padding(operation.padding, image, operation.window, operation.strides)
    if padding is None:
        raise ValueError(
            f"padding of pooling {shown(operation.name)} must be 'same' or 'valid' for LiteRT. "
            f"Received: {operation.padding}"
        )
    rows, columns = operation.window
    return _strides(operation.strides) | {"padding": padding, "filterHeight": rows, "filterWidth": columns}
