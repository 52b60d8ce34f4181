"""How each operation computes with integers: shifts, limits, and the proof that nothing overflows.

Every operation is one formula::

    a = sum of products (weighted), sum or largest of a window (pooling), product (Multiply),
        sum of inputs << input_shift (Add), or the input itself
    s = align(a, align_shift) + bias
    y = clip(round(s / 2**output_shift / count), low, high)

``round`` is that of the output's format, ``count`` is 1 but for average pooling, and a negative shift goes left. A ReLU
is no step of its own: rounding is monotone, so that its limits are limits of ``y``.

A bias of 31 bits is far finer than the products. The bits that cannot change ``y`` would only make the sum wide, so
they are jammed: ``jam(b, n)`` is ``b >> n`` with its last bit set where a 1 was lost. An odd result then stands for
"between two even numbers", and ``y`` comes out the same, bit for bit and however it is rounded, where the other summand
is even and ``output_shift`` is 2 or more. The bias is jammed once, here. Products are jammed only in a channel whose
sum would not fit 64 bits otherwise: one of tiny weights beside a bias that is not. An odd sum is never half way between
two outputs: :mod:`po2quant.integer.requantization` makes one addition and one shift of it.

Reference:
    J. Hauser, Berkeley SoftFloat, ``shiftRightJam``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from po2quant.fixed_point import HALF_AWAY, HALF_EVEN, FixedPointFormat
from po2quant.integer.checks import shown
from po2quant.integer.requantization import Folded, Limits, fold_channels

MAX_SUM_BITS = {32: 31, 64: 62}
"""Widest sum by register: rounding adds half a step to it, or doubles a remainder."""

EXACT_FLOAT64_BITS = 54
"""Width, sign included, up to which float64 adds integers without rounding."""


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The integers of one operation, as in the formula of this module.

    Args:
        input_shifts: of a sum, places to the left of each input; of others, none.
        align_shifts: ``(C,)``, one an output channel, or ``(1,)``. Positive: jam to the right; negative: to the left.
        bias: ``(C,)`` or ``(1,)``, added after the alignment.
        output_shifts: ``(C,)`` or ``(1,)``; for a concatenation one an input. Positive: to the right.
        low: smallest output integer.
        high: largest output integer.
        accumulator_limits: smallest and largest a, and partial sum in any order, that any input can make.
        sum_bits: width of s, before and after a shift to the left, sign included, at worst.
        exact_bits: width of s if nothing were jammed. Up to 54 bits, float64 computes it without rounding.
        is_mean: whether s is divided by a count.
        folded: the same in one addition and one shift, where that is exact; None where it is not.
        rounding: of the output.
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
    is_mean: bool = False
    folded: Folded | None = None
    rounding: str = HALF_EVEN

    def clip(self, integers: np.ndarray) -> np.ndarray:
        """Return integers within the limits of the output."""
        return np.clip(integers, self.low, self.high)

    @property
    def accumulator_bits(self) -> int:
        """Width of a and its partial sums, sign included, at worst."""
        return signed_bits(self.accumulator_limits)

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


def jam_array(integers: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return int64 shifted to the left, for a negative shift, or jammed to the right, as :func:`jam` does."""
    if not np.any(shifts):
        return integers
    right, left = np.maximum(shifts, 0), np.maximum(-shifts, 0)
    lost = integers & ((np.int64(1) << right) - 1)
    return (integers >> right | (lost != 0)) << left


class Channel(NamedTuple):
    """What becomes of one output channel's a.

    Args:
        limits: the smallest and the largest a.
        exponent: of the sum.
        sum_bits: width of a after the alignment, and with the bias.
        align_shift: as in :class:`Plan`.
        bias: as in :class:`Plan`.
        exact_bits: width if nothing were jammed.
    """

    limits: Limits
    exponent: int
    sum_bits: int
    align_shift: int = 0
    bias: int = 0
    exact_bits: int = 0


def plain_channel(limits: Limits, exponent: int) -> Channel:
    """Return a channel without a bias."""
    return Channel(limits, exponent, signed_bits(limits))


def plan_of_channels(
    name: str,
    channels: Sequence[Channel],
    output: FixedPointFormat,
    limits: Limits,
    input_shifts: tuple[int, ...] = (),
    count: int | None = None,
) -> Plan:
    """Return the plan of an operation from what becomes of its accumulators.

    Args:
        name: of the operation, for errors.
        channels: of each output channel, or one for all; for a concatenation one an input.
        output: format of the output.
        limits: smallest and largest output integer.
        input_shifts: as in :class:`Plan`.
        count: most pixels of a mean; None: no mean.

    Raises:
        ValueError: where a sum would not fit 64 bits.
    """
    output_shifts, sum_bits = zip(*(_output_shift(channel, output, count) for channel in channels), strict=True)
    lows, highs = zip(*(channel.limits for channel in channels), strict=True)
    accumulator_limits = min(lows), max(highs)
    accumulator_bits = signed_bits(accumulator_limits)
    widest = max(accumulator_bits, *sum_bits)
    if widest > MAX_SUM_BITS[64]:
        raise ValueError(
            f"sums of operation {shown(name)} must fit {MAX_SUM_BITS[64]} bits: use narrower weights, bias or "
            f"activations. Received: {widest} bits"
        )
    align_shifts, biases = zip(*((channel.align_shift, channel.bias) for channel in channels), strict=True)
    folds = count is None and not input_shifts
    accumulators = [channel.limits for channel in channels]
    parts = accumulators, align_shifts, biases, output_shifts, limits, output.rounding
    folded = fold_channels(*parts) if folds else None
    return Plan(
        input_shifts,
        np.array(align_shifts),
        np.array(biases),
        np.array(output_shifts),
        *limits,
        accumulator_limits,
        max(sum_bits),
        max(accumulator_bits, *(channel.exact_bits for channel in channels)),
        count is not None,
        folded,
        output.rounding,
    )


def aligned_channel(limits: Limits, exponent: int, bias: int, bias_exponent: int, output_exponent: int) -> Channel:
    """Bring the products and the bias of a channel to one exponent."""
    if bias == 0:
        return plain_channel(limits, exponent)
    if limits == (0, 0):
        exponent = max(bias_exponent, output_exponent - 1)
    exact = _with_exponent(min(exponent, bias_exponent), limits, exponent, bias, bias_exponent)
    coarsest = min(max(exponent, bias_exponent) - 1, output_exponent - 2)
    jams_bias = bias_exponent < min(exponent, coarsest)
    jams_products = exponent < min(bias_exponent, coarsest) and exact.sum_bits > MAX_SUM_BITS[64]
    if not jams_bias and not jams_products:
        return exact
    return _with_exponent(coarsest, limits, exponent, bias, bias_exponent, exact.sum_bits)


def _with_exponent(
    target: int, limits: Limits, exponent: int, bias: int, bias_exponent: int, exact_bits: int | None = None
) -> Channel:
    align_shift = min(target - exponent, signed_bits(limits))
    low, high = _align(limits[0], align_shift), _align(limits[1], align_shift)
    bias = _align(bias, target - bias_exponent)
    sum_bits = max(signed_bits((low, high)), signed_bits((low + bias, high + bias)))
    return Channel(limits, target, sum_bits, align_shift, bias, sum_bits if exact_bits is None else exact_bits)


def _align(value: int, shift: int) -> int:
    return jam(value, shift) if shift > 0 else value << -shift


def _output_shift(channel: Channel, output: FixedPointFormat, count: int | None) -> tuple[int, int]:
    """Return the shift into the output's format, and the width that it needs.

    A shift by the width of the sum rounds it as any longer one does (half away from 0, one more does), and one to the
    left by the width of the output and of the count saturates all but 0, so that none need be longer.
    """
    bits = channel.sum_bits
    shift = output.exponent - channel.exponent
    if shift >= 0:
        shift = min(shift, bits + (output.rounding == HALF_AWAY))
        bits = max(bits, shift)
        return shift, bits if count is None else max(bits, signed_bits((0, count << shift)))
    left = min(-shift, output.bit_width + (count or 1).bit_length())
    return -left, bits + left


def signed_bits(limits: Limits) -> int:
    """Return the width of the smallest two's complement that holds both limits."""
    low, high = limits
    return max((low if low >= 0 else ~low).bit_length(), (high if high >= 0 else ~high).bit_length()) + 1
