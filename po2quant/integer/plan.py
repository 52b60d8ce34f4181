"""How each operation computes with integers: shifts, limits, and the proof that nothing overflows.

Every operation is one formula::

    a = sum of products (Conv2D, Dense), sum or largest of a window (pooling), product (Multiply),
        sum of inputs << input_shift (Add), or the input itself
    s = align(a, align_shift) + bias
    y = clip(round(s / 2**output_shift / count), low, high)

``round`` is half to even, ``count`` is 1 but for average pooling, and a negative shift goes left. A ReLU is no step of
its own: rounding is monotone, so that its limits are limits of ``y``.

A bias of 31 bits is far finer than the products. The bits that cannot change ``y`` would only make the sum wide, so
they are jammed: ``jam(b, n)`` is ``b >> n`` with its last bit set where a 1 was lost. An odd result then stands for
"between two even numbers", and ``y`` comes out the same, bit for bit, where the other summand is even and
``output_shift`` is 2 or more. The bias is jammed once, here. Products are jammed only in a channel whose sum would not
fit 64 bits otherwise: one of tiny weights beside a bias that is not.

Reference:
    J. Hauser, Berkeley SoftFloat, ``shiftRightJam``.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.operations import (
    LINEAR,
    RELU6,
    Add,
    AveragePooling,
    Conv2D,
    Dense,
    LookUpTable,
    Multiply,
    Operation,
    Reshape,
    Weights,
    ZeroPadding,
)
from po2quant.integer.program import Program

MAX_SUM_BITS = {32: 31, 64: 62}
"""Widest sum by register: rounding adds half a step to it, or doubles a remainder."""

EXACT_FLOAT64_BITS = 54
"""Width, sign included, up to which float64 adds integers without rounding."""

Limits = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The integers of one operation, as in the formula of this module.

    Args:
        input_shifts: places to the left of each input, for Add.
        align_shifts: ``(C,)``, one an output channel, or ``(1,)``. Positive: jam to the right; negative: to the left.
        bias: ``(C,)`` or ``(1,)``, added after the alignment.
        output_shifts: ``(C,)`` or ``(1,)``; for Concatenate one an input. Positive: to the right.
        low: smallest output integer.
        high: largest output integer.
        accumulator_limits: smallest and largest a, and partial sum in any order, that any input can make.
        sum_bits: width of s, before and after a shift to the left, sign included, at worst.
        exact_bits: width of s if nothing were jammed. Up to 54 bits, float64 computes it without rounding.
    """

    input_shifts: tuple[int, ...]
    align_shifts: np.ndarray
    bias: np.ndarray
    output_shifts: np.ndarray
    low: int
    high: int
    accumulator_limits: Limits
    sum_bits: int
    exact_bits: int

    @property
    def accumulator_bits(self) -> int:
        """Width of a and its partial sums, sign included, at worst."""
        return _signed_bits(self.accumulator_limits)

    @property
    def accumulator_register(self) -> int:
        """Bits of the register that accumulates: 32 or 64."""
        return register_bits(self.accumulator_bits)

    @property
    def sum_register(self) -> int:
        """Bits of the register that aligns, adds the bias and rounds: 32 or 64."""
        return register_bits(self.sum_bits)


def register_bits(value_bits: int) -> int:
    """Return the bits of the smallest register, 32 or 64, that holds and rounds a sum of this width."""
    return 32 if value_bits <= MAX_SUM_BITS[32] else 64


def jam(value: int, places: int) -> int:
    """Return ``value >> places`` with its last bit set where a 1 was lost.

    Example:
        >>> jam(16, 2), jam(17, 2), jam(20, 2), jam(-1, 70)
        (4, 5, 5, -1)
    """
    return value >> places | (value & ((1 << places) - 1) != 0)


@dataclasses.dataclass(frozen=True)
class _Channel:
    """What becomes of one output channel's a: its limits, the alignment, and the sum's exponent."""

    limits: Limits
    exponent: int
    align_shift: int = 0
    bias: int = 0
    exact_bits: int = 0

    @property
    def sum_bits(self) -> int:
        """Width of a after the alignment, and with the bias."""
        aligned = tuple(_align(limit, self.align_shift) for limit in self.limits)
        return max(_signed_bits(aligned), _signed_bits(tuple(limit + self.bias for limit in aligned)))


def plan_of(program: Program, operation: Operation) -> Plan | None:
    """Return the shifts and widths of an operation; None for one that only moves or looks up integers.

    Raises:
        ValueError: where a sum would not fit 64 bits.
    """
    if isinstance(operation, (LookUpTable, Reshape, ZeroPadding)):
        return None
    formats = tuple(tensor.format for tensor in program.inputs_of(operation))
    output = program.output_of(operation).format
    is_mean = isinstance(operation, AveragePooling)
    count = math.prod(operation.window) if is_mean else 1
    input_shifts, channels = _channels(operation, formats, output, count)
    shifts_and_bits = (_output_shift(channel, output, count, is_mean) for channel in channels)
    output_shifts, sum_bits = zip(*shifts_and_bits, strict=True)
    lows, highs = zip(*(channel.limits for channel in channels), strict=True)
    limits = min(lows), max(highs)
    widest = max(_signed_bits(limits), *sum_bits)
    if widest > MAX_SUM_BITS[64]:
        raise ValueError(
            f"sums of operation {operation.name!r} must fit {MAX_SUM_BITS[64]} bits: use narrower weights, bias or "
            f"activations. Received: {widest} bits"
        )
    return Plan(
        input_shifts,
        np.array([channel.align_shift for channel in channels]),
        np.array([channel.bias for channel in channels]),
        np.array(output_shifts),
        *_output_limits(output, operation.activation),
        limits,
        max(sum_bits),
        max(_signed_bits(limits), *(channel.exact_bits for channel in channels)),
    )


def _channels(
    operation: Operation, formats: tuple[FixedPointFormat, ...], output: FixedPointFormat, count: int
) -> tuple[tuple[int, ...], list[_Channel]]:
    """Return the shifts of the inputs, and what becomes of each channel's a."""
    input_shifts = (0,) * len(formats)
    if isinstance(operation, (Conv2D, Dense)):
        return input_shifts, _weighted_channels(operation.kernel, operation.bias, formats[0], output.exponent)
    if isinstance(operation, Add):
        exponent = min(format.exponent for format in formats)
        input_shifts = tuple(format.exponent - exponent for format in formats)
        low, high = (
            sum(limit << shift for limit, shift in zip(limits, input_shifts, strict=True))
            for limits in zip(*map(_limits, formats), strict=True)
        )
        return input_shifts, [_Channel((low, high), exponent)]
    if isinstance(operation, Multiply):
        return input_shifts, [_Channel(_product_limits(formats), sum(format.exponent for format in formats))]
    return input_shifts, [
        _Channel((format.min_int * count, format.max_int * count), format.exponent) for format in formats
    ]


def weighted_limits(kernel: Weights, x: FixedPointFormat) -> list[Limits]:
    """Return the smallest and the largest sum of products of each output channel, over all inputs of a format.

    Every partial sum, in any order, lies between them too, because both ends of a format enclose 0.
    """
    matrix = kernel.integers.reshape(-1, kernel.integers.shape[-1])
    positive = np.maximum(matrix, 0).sum(axis=0).tolist()
    negative = np.minimum(matrix, 0).sum(axis=0).tolist()
    return [
        (up * x.min_int + down * x.max_int, up * x.max_int + down * x.min_int)
        for up, down in zip(positive, negative, strict=True)
    ]


def _weighted_channels(kernel: Weights, bias: Weights, x: FixedPointFormat, output_exponent: int) -> list[_Channel]:
    channels = zip(
        weighted_limits(kernel, x),
        (kernel.exponents + x.exponent).tolist(),
        bias.integers.tolist(),
        bias.exponents.tolist(),
        strict=True,
    )
    return [_aligned(*channel, output_exponent) for channel in channels]


def _aligned(limits: Limits, exponent: int, bias: int, bias_exponent: int, output_exponent: int) -> _Channel:
    """Bring the products and the bias of a channel to one exponent."""
    if bias == 0:
        return _Channel(limits, exponent)
    if limits == (0, 0):
        exponent = max(bias_exponent, output_exponent - 1)
    exact = _with_exponent(min(exponent, bias_exponent), limits, exponent, bias, bias_exponent)
    coarsest = min(max(exponent, bias_exponent) - 1, output_exponent - 2)
    jams_bias = bias_exponent < min(exponent, coarsest)
    jams_products = exponent < min(bias_exponent, coarsest) and exact.exact_bits > MAX_SUM_BITS[64]
    if not jams_bias and not jams_products:
        return exact
    jammed = _with_exponent(coarsest, limits, exponent, bias, bias_exponent)
    return dataclasses.replace(jammed, exact_bits=exact.exact_bits)


def _with_exponent(target: int, limits: Limits, exponent: int, bias: int, bias_exponent: int) -> _Channel:
    align_shift = min(target - exponent, _signed_bits(limits))
    channel = _Channel(limits, target, align_shift, _align(bias, target - bias_exponent))
    return dataclasses.replace(channel, exact_bits=channel.sum_bits)


def _align(value: int, shift: int) -> int:
    return jam(value, shift) if shift > 0 else value << -shift


def _product_limits(formats: tuple[FixedPointFormat, ...]) -> Limits:
    low, high = 1, 1
    for format in formats:
        products = [limit * end for limit in (low, high) for end in _limits(format)]
        low, high = min(products), max(products)
    return low, high


def _output_shift(channel: _Channel, output: FixedPointFormat, count: int, is_mean: bool) -> tuple[int, int]:
    """Return the shift into the output's format, and the width that it needs.

    A shift by the width of the sum makes 0 of it already, and one to the left by the width of the output and of the
    count saturates all but 0, so that none need be longer.
    """
    bits = channel.sum_bits
    shift = output.exponent - channel.exponent
    if shift >= 0:
        shift = min(shift, bits)
        return shift, max(bits, _signed_bits((0, count << shift)) if is_mean else 0)
    left = min(-shift, output.bit_width + count.bit_length())
    return -left, bits + left


def _output_limits(output: FixedPointFormat, activation: str) -> Limits:
    low, high = output.min_int, output.max_int
    if activation != LINEAR:
        low = max(low, 0)
    if activation == RELU6:
        high = int(output.to_int(6.0))
    return low, high


def _limits(format: FixedPointFormat) -> Limits:
    return format.min_int, format.max_int


def _signed_bits(limits: Limits) -> int:
    """Return the width of the smallest two's complement that holds both limits."""
    return max((limit if limit >= 0 else ~limit).bit_length() for limit in limits) + 1
