"""Runs an integer program with numpy's integers: the reference for every other form of it.

Sums of products go through float64 matrix products where the plan proves that every partial sum, in any order, is an
integer that float64 holds (54 bits, sign included); elsewhere through int64. Both are exact.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from po2quant.fixed_point import shift_right
from po2quant.integer.operations import (
    Add,
    AveragePooling,
    Concatenate,
    Conv2D,
    Dense,
    LookUpTable,
    MaxPooling,
    Multiply,
    Operation,
    Padding,
    Requantize,
    Reshape,
    ZeroPadding,
)
from po2quant.integer.plan import EXACT_FLOAT64_BITS, Plan, plan_of
from po2quant.integer.program import SOFTMAX, Program

Arrays = np.ndarray | Sequence[np.ndarray]


def quantize_inputs(program: Program, x: Arrays) -> list[np.ndarray]:
    """Return the integers of a program's inputs.

    Args:
        program: the program.
        x: values as the model takes them, ``(samples, ...)``, one array for each input.

    Raises:
        ValueError: for another number of arrays, or values that are no numbers.
    """
    return [program.tensor[name].format.to_int(array) for name, array in _by_input(program, x)]


def run(program: Program, integers: Arrays) -> dict[str, np.ndarray]:
    """Run a program on integers.

    Args:
        program: the program.
        integers: ``(samples, ...)``, one array for each input, as :func:`quantize_inputs` makes them.

    Returns:
        Every tensor by name, ``(samples, *shape)``, int64.

    Raises:
        ValueError: for another number of arrays, another shape, or integers outside the input's format.

    Example:
        >>> tensors = run(program, quantize_inputs(program, x))  # doctest: +SKIP
    """
    tensors = {name: _checked(program, name, np.asarray(array)) for name, array in _by_input(program, integers)}
    for operation in program.operations:
        inputs = [tensors[name] for name in operation.inputs]
        plan = plan_of(program, operation)
        result = _move(operation, program, inputs) if plan is None else _compute(operation, plan, inputs)
        tensors[operation.output] = result.reshape(-1, *program.output_of(operation).shape)
    return tensors


def results(program: Program, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the model's outputs as values, the host's part (softmax) included.

    Args:
        program: the program.
        tensors: what :func:`run` returned.
    """
    values = []
    for output in program.outputs:
        value = program.tensor[output.tensor].format.to_float(tensors[output.tensor])
        if output.host_function == SOFTMAX:
            powers = np.exp(value - value.max(axis=-1, keepdims=True))
            value = powers / powers.sum(axis=-1, keepdims=True)
        values.append(value)
    return values


def _by_input(program: Program, arrays: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    arrays = list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]
    if len(arrays) != len(program.inputs):
        raise ValueError(f"a program of {len(program.inputs)} inputs needs as many arrays. Received: {len(arrays)}")
    return zip(program.inputs, arrays, strict=True)


def _checked(program: Program, name: str, array: np.ndarray) -> np.ndarray:
    tensor = program.tensor[name]
    if array.dtype.kind not in "iu" or array.shape[1:] != tensor.shape:
        raise ValueError(
            f"input {name!r} must be integers of shape (samples, {', '.join(map(str, tensor.shape))}). "
            f"Received: {array.dtype.name} {array.shape}"
        )
    low, high = tensor.format.min_int, tensor.format.max_int
    if array.min(initial=0) < low or array.max(initial=0) > high:
        raise ValueError(f"input {name!r} must be in [{low}, {high}]. Received: {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _move(operation: Operation, program: Program, inputs: list[np.ndarray]) -> np.ndarray:
    match operation:
        case LookUpTable(table=table):
            return table[inputs[0] - program.inputs_of(operation)[0].format.min_int]
        case ZeroPadding(padding=padding):
            return _pad(inputs[0], padding)
        case Reshape():
            return inputs[0]
    raise ValueError(f"operation {operation.name!r} ({type(operation).__name__}) is not known")


def _compute(operation: Operation, plan: Plan, inputs: list[np.ndarray]) -> np.ndarray:
    """Return an operation's output: accumulated, aligned, shifted, rounded and clipped."""
    if isinstance(operation, Concatenate):
        shifted = [shift_right(x, shift) for x, shift in zip(inputs, plan.output_shifts, strict=True)]
        return np.clip(np.concatenate(shifted, operation.axis + 1), plan.low, plan.high)
    if isinstance(operation, AveragePooling):
        return np.clip(_average(operation, plan, inputs[0]), plan.low, plan.high)
    total = _jam(_accumulate(operation, plan, inputs), plan.align_shifts) + plan.bias
    return np.clip(shift_right(total, plan.output_shifts), plan.low, plan.high)


def _accumulate(operation: Operation, plan: Plan, inputs: list[np.ndarray]) -> np.ndarray:
    """Return the sums, products or maxima of an operation, not yet aligned."""
    match operation:
        case Conv2D():
            return _convolve(operation, inputs[0], _exact_dtype(plan)).astype(np.int64)
        case Dense(kernel=kernel):
            dtype = _exact_dtype(plan)
            return (inputs[0].astype(dtype) @ kernel.integers.astype(dtype)).astype(np.int64)
        case MaxPooling():
            lowest = np.iinfo(np.int64).min
            return functools.reduce(np.maximum, _taps(inputs[0], operation.window, operation, lowest))
        case Add():
            return functools.reduce(np.add, (x << shift for x, shift in zip(inputs, plan.input_shifts, strict=True)))
        case Multiply():
            return functools.reduce(np.multiply, inputs)
        case Requantize():
            return inputs[0]
    raise ValueError(f"operation {operation.name!r} ({type(operation).__name__}) is not known")


def _exact_dtype(plan: Plan) -> type:
    return np.float64 if plan.accumulator_bits <= EXACT_FLOAT64_BITS else np.int64


def _convolve(operation: Conv2D, x: np.ndarray, dtype: type) -> np.ndarray:
    """Return the sums of products: one matrix product (or, depthwise, one product) for each tap of the kernel."""
    rows, columns, depth, channels = operation.kernel.integers.shape
    kernel = operation.kernel.integers.astype(dtype).reshape(rows * columns, depth, channels)
    taps = _taps(x.astype(dtype), (rows, columns), operation, 0, operation.dilation)
    if depth == 1 and operation.groups > 1:
        multiplier = channels // operation.groups
        return sum(np.repeat(tap, multiplier, axis=-1) * weights[0] for tap, weights in zip(taps, kernel, strict=True))
    return sum(_grouped_product(tap, weights, operation.groups) for tap, weights in zip(taps, kernel, strict=True))


def _grouped_product(x: np.ndarray, weights: np.ndarray, groups: int) -> np.ndarray:
    pairs = zip(np.split(x, groups, axis=-1), np.split(weights, groups, axis=-1), strict=True)
    return np.concatenate([part @ part_weights for part, part_weights in pairs], axis=-1)


def _average(operation: AveragePooling, plan: Plan, x: np.ndarray) -> np.ndarray:
    """Return ``round(sum / 2**output_shift / count)``, half to even."""
    total = sum(_taps(x, operation.window, operation, 0))
    count = sum(_taps(np.ones_like(x[:1]), operation.window, operation, 0))
    shift = int(plan.output_shifts[0])
    numerator, denominator = total << max(-shift, 0), count << max(shift, 0)
    quotient, remainder = np.divmod(numerator, denominator)
    is_odd = quotient & 1
    return quotient + (2 * remainder + is_odd > denominator)


def _taps(
    x: np.ndarray,
    window: tuple[int, int],
    operation: Conv2D | AveragePooling | MaxPooling,
    outside: int,
    dilation: tuple[int, int] = (1, 1),
) -> Iterator[np.ndarray]:
    """Yield the pixels that each place in the window sees, ``(samples, rows, columns, channels)``."""
    x = _pad(x, operation.padding, outside)
    spans = [(size - 1) * step for size, step in zip(window, dilation, strict=True)]
    for row, column in itertools.product(range(window[0]), range(window[1])):
        top, left = row * dilation[0], column * dilation[1]
        bottom, right = x.shape[1] - spans[0] + top, x.shape[2] - spans[1] + left
        yield x[:, top : bottom : operation.strides[0], left : right : operation.strides[1]]


def _pad(x: np.ndarray, padding: Padding, outside: int = 0) -> np.ndarray:
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=outside)


def _jam(q: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Shift to the left, or to the right with the last bit set where a 1 is lost: :func:`po2quant.integer.plan.jam`."""
    if not np.any(shifts):
        return q
    right, left = np.maximum(shifts, 0), np.maximum(-shifts, 0)
    lost = q & ((np.int64(1) << right) - 1)
    return (q >> right | (lost != 0)) << left
