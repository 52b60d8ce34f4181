"""What rewrites a program, or its weights, into another that computes the same integers."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence

import numpy as np

from po2quant.fixed_point import MAX_BITS, MAX_EXPONENT, FixedPointFormat, round_ratio, shift_right
from po2quant.integer.checks import Shape, shown
from po2quant.integer.operations import (
    NO_PADDING,
    AveragePooling,
    Block,
    Conv2D,
    Dense,
    Operation,
    Rearrange,
    Recurrent,
    Reshape,
    Tensor,
    Weighted,
    Weights,
    channel_terms,
    laid_side_by_side,
    output_limits,
)
from po2quant.integer.plan import jam, signed_bits
from po2quant.integer.program import Program
from po2quant.integer.requantization import Limits, output_of_sum

SIGN_BIT = 1
MOST_RECIPROCAL_BITS = 24
"""Bits of the number that an average is multiplied with instead of being divided, at most."""
SETTLED_BIAS_BITS = 32
"""Width of biases among which some stand for constant channels."""


def settle_constant_channels(program: Program) -> Program:
    """Return a program that computes the same, where channels that no input can change are a bias alone.

    Training lets channels die: their weights are far smaller than the last place of anything else. Such a channel is
    recognised by its smallest and its largest sum, which give the same output, as rounding and clipping are monotone.

    Raises:
        ValueError: where a sum would not fit 64 bits.
    """
    _ = program.plans  # a sum that fits no register is refused here as everywhere
    return dataclasses.replace(program, operations=_settled_operations(program))


def _settled_operations(block: Block) -> tuple[Operation, ...]:
    def settled(operation: Operation) -> Operation:
        if isinstance(operation, Weighted):
            return _settled(block, operation)
        if isinstance(operation, Recurrent):
            cell = dataclasses.replace(operation.cell, operations=_settled_operations(operation.cell))
            return dataclasses.replace(operation, cell=cell)
        return operation

    return tuple(map(settled, block.operations))


def unrolled(program: Program) -> Program:
    """Return a program that computes the same without recurrent operations: a cell's operations stand there each step.

    Tensors of step t of a cell are named ``<tensor>/<t>``. The first states are the zeros of a matrix product.

    Raises:
        ValueError: for more tensors than a program may have.
    """
    if len(program.blocks) == 1:
        return program
    tensors = dict(program.tensor)
    operations: list[Operation] = []
    for operation in program.operations:
        if isinstance(operation, Recurrent):
            operations += _Unrolled(operation, tensors).operations
        else:
            operations.append(operation)
    return dataclasses.replace(program, tensors=tuple(tensors.values()), operations=tuple(operations))


class _Unrolled:
    """The operations that stand for a recurrent one; their tensors are added to ``tensors``."""

    def __init__(self, operation: Recurrent, tensors: dict[str, Tensor]) -> None:
        self.operations: list[Operation] = []
        self._operation, self._cell, self._tensors = operation, operation.cell, tensors
        steps = [self._step(step) for step in range(operation.steps)]
        self._result(steps if operation.return_sequences else steps[-1:])

    def _add(self, operation: Operation, tensor: Tensor, shape: Shape | None = None) -> str:
        """Add an operation, and the tensor that it writes: one like another under a new name."""
        self.operations.append(operation)
        self._tensors[operation.output] = dataclasses.replace(
            tensor, name=operation.output, shape=shape or tensor.shape
        )
        return operation.output

    def _step(self, step: int) -> str:
        """Add the operations of a step, and return the name of its result."""
        cell, (now, *states) = self._cell, self._cell.inputs
        x = cell.tensor[now]
        walk = (x.size,), (1,), step * x.size
        names = {now: self._add(Rearrange(now, self._operation.inputs, f"{now}/{step}", *walk), x)}
        for state, made in zip(states, cell.outputs, strict=True):
            names[state] = f"{made}/{step - 1}" if step else self._zeros(names[now], x, cell.tensor[state])
        for operation in cell.operations:
            names[operation.output] = f"{operation.output}/{step}"
            inputs = tuple(names[name] for name in operation.inputs)
            renamed = dataclasses.replace(operation, inputs=inputs, output=names[operation.output])
            self._add(renamed, cell.output_of(operation))
        return names[cell.outputs[0]]

    def _zeros(self, now: str, x: Tensor, state: Tensor) -> str:
        """Add what makes a state before the first step: a matrix product with zeros."""
        shape = (x.shape[-1], state.shape[-1])
        kernel, bias = (Weights(np.zeros(size, int), np.zeros(size[-1], int), 2) for size in (shape, shape[-1:]))
        return self._add(Dense(state.name, (now,), f"{state.name}/start", kernel, bias), state)

    def _result(self, names: Sequence[str]) -> None:
        """Add what lays results one after the other."""
        operation, whole = self._operation, names[-1]
        for join in laid_side_by_side(operation.name, names, operation.output):
            shape = join.output_shape(tuple(self._tensors[part].shape for part in join.inputs))
            whole = self._add(join, self._cell.result, shape)
        self.operations.append(Reshape(operation.name, (whole,), operation.output))


def averages_as_products(program: Program) -> Program:
    """Return a program that computes the same, with depthwise convolutions in the place of averages.

    All weights of such a kernel are one integer w, so that ``w * sum * 2**e`` is rounded to what ``sum / count`` is. It
    is found by trying all sums that there are, with the fewest bits that do: 2 where the count is a power of two.

    Raises:
        ValueError: for an average that no weight of 24 bits is exact for, and one whose windows leave the image.
    """
    operations = tuple(
        _average_as_product(program, operation) if isinstance(operation, AveragePooling) else operation
        for operation in program.operations
    )
    return dataclasses.replace(program, operations=operations)


def _average_as_product(program: Program, operation: AveragePooling) -> Conv2D:
    (x,), y, count = program.inputs_of(operation), program.output_of(operation), math.prod(operation.window)
    if operation.padding != NO_PADDING:
        raise ValueError(
            f"windows of average {shown(operation.name)} must lie inside the image to become a product. "
            f"Received: padding {shown(operation.padding)}"
        )
    weight, exponent = _exact_reciprocal(operation, count, x.format, y.format)
    channels = x.shape[-1]
    bits = weight.bit_length() + SIGN_BIT
    kernel = Weights(np.full((*operation.window, 1, channels), weight), np.full(channels, exponent), bits)
    bias = Weights(np.zeros(channels, np.int64), np.full(channels, exponent + x.format.exponent), 2)
    return Conv2D(
        operation.name,
        operation.inputs,
        operation.output,
        kernel,
        bias,
        strides=operation.strides,
        groups=channels,
        activation=operation.activation,
    )


def _exact_reciprocal(
    operation: AveragePooling, count: int, x: FixedPointFormat, y: FixedPointFormat
) -> tuple[int, int]:
    """Return w and e with ``round(w * s * 2**e) = round(s / count)`` in a format for every sum s."""
    sums = np.arange(count * x.min_int, count * x.max_int + 1)
    places = y.exponent - x.exponent
    limits = output_limits(y, operation.activation)
    mean = round_ratio(sums << max(-places, 0), count << max(places, 0), y.rounding)
    expected = np.clip(mean, *limits)
    for bits in range(1, MOST_RECIPROCAL_BITS):
        shift = bits + count.bit_length() - 1
        weight = round((1 << shift) / count)
        found = np.clip(shift_right(weight * sums, shift + places, y.rounding), *limits)
        if np.array_equal(found, expected):
            spare = _trailing_zeros([weight])
            return weight >> spare, spare - shift
    raise ValueError(
        f"average {shown(operation.name)} must be, to the bit, its sum times a number of {MOST_RECIPROCAL_BITS} bits "
        f"to become a product. Received: {count} pixels, exponents {x.exponent} and {y.exponent}"
    )


def _settled(block: Block, operation: Weighted) -> Weighted:
    kernel, bias = operation.kernel, operation.bias
    x, y = block.inputs_of(operation)[0].format, block.output_of(operation).format
    limits = output_limits(y, operation.activation)
    ends = [_outputs_of_ends(*channel, y, limits) for channel in channel_terms(kernel, bias, x)]
    smallest, largest = np.array(ends, np.int64).T
    is_constant = smallest == largest
    return dataclasses.replace(
        operation,
        kernel=Weights(
            np.where(is_constant, 0, kernel.integers),
            np.where(is_constant, np.clip(y.exponent - x.exponent, -MAX_EXPONENT, MAX_EXPONENT), kernel.exponents),
            kernel.bit_width,
        ),
        bias=Weights(
            np.where(is_constant, smallest, bias.integers),
            np.where(is_constant, y.exponent, bias.exponents),
            SETTLED_BIAS_BITS,
        ),
    )


def _outputs_of_ends(
    ends: Limits, exponent: int, bias: int, bias_exponent: int, output: FixedPointFormat, limits: Limits
) -> list[int]:
    """Return the output integers of the smallest and the largest sum of products."""
    unit = min(exponent, bias_exponent, output.exponent)
    offset, shift = bias << (bias_exponent - unit), output.exponent - unit
    return [output_of_sum((end << (exponent - unit)) + offset, shift, limits, output.rounding) for end in ends]


def jammed_bias(operation: Weighted, x: FixedPointFormat, y: FixedPointFormat) -> Weights:
    """Return a bias of fewer bits that gives the same outputs, bit for bit.

    A bias of 31 bits fits neither a float32 nor its sum with products. Its bits below half a unit of the products, and
    below a quarter of an output's unit, are replaced by one: :mod:`po2quant.integer.plan` has the proof.

    Args:
        operation: the convolution or matrix product.
        x: format of its input.
        y: format of its output.
    """
    bias = operation.bias
    coarsest = np.minimum(operation.kernel.exponents + x.exponent - 1, y.exponent - 2)
    exponents = np.where(bias.integers == 0, np.maximum(coarsest, -MAX_EXPONENT), np.maximum(bias.exponents, coarsest))
    places = (exponents - bias.exponents).tolist()
    integers = [
        jam(integer, place) if integer else 0 for integer, place in zip(bias.integers.tolist(), places, strict=True)
    ]
    return Weights(np.array(integers, np.int64), exponents, max(signed_bits((min(integers), max(integers))), 2))


def on_one_grid(name: str, weights: Weights) -> Weights:
    """Return the same values as integers of one exponent: the coarsest grid that holds all of them.

    Args:
        name: of the weights, for errors.
        weights: a kernel or bias, whose channels may have different exponents.

    Raises:
        ValueError: where the channels are so far apart that the integers need more than 32 bits.
    """
    rows = weights.integers.reshape(-1, weights.exponents.size).T.tolist()
    channels = [(row, exponent) for row, exponent in zip(rows, weights.exponents.tolist(), strict=True) if any(row)]
    grid = min((exponent + _trailing_zeros(row) for row, exponent in channels), default=0)
    top = max((exponent + max(map(abs, row)).bit_length() for row, exponent in channels), default=grid + 1)
    bits = top - grid + SIGN_BIT
    if bits > MAX_BITS:
        raise ValueError(f"{name} must fit {MAX_BITS} bits with one exponent for all channels. Received: {bits} bits")
    places = np.clip(grid - weights.exponents, -MAX_BITS, MAX_BITS)
    return Weights(shift_right(weights.integers, places), np.full_like(weights.exponents, grid), bits)


def _trailing_zeros(integers: list[int]) -> int:
    """Return the zeros at the end of integers, not all 0, that all of them share."""
    lowest = functools.reduce(operator.or_, integers)
    return (lowest & -lowest).bit_length() - 1
