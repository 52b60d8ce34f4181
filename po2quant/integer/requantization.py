"""Requantization in one addition and one shift, where that is exact.

:mod:`po2quant.integer.plan` says ``y = clip(round((align(a) + bias) / 2**shift))``. With an accumulator that is aligned
``L`` places to the left,

    floor((a * 2**L + bias) / 2**shift + 1/2) = (a + ((bias + 2**(shift - 1)) >> L)) >> (shift - L)

for ``0 <= L <= shift``: the constant is known before any input is. This rounds half up; without the 1/2 it rounds down.
Half to even and half away from 0 differ from it at ties. Whether a channel has a tie that the output shows is a
question about integers, answered here for all of its accumulators at once: a bias that is finer than the products, as
most are, leaves none. A channel whose output is the same for all of its accumulators is made of small numbers, whatever
its bias was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from po2quant.fixed_point import FLOOR, HALF_AWAY, HALF_EVEN, round_ratio

Limits = tuple[int, int]


class FoldedChannel(NamedTuple):
    """``y = clip((a + bias) >> shift)``, but the even neighbour at a tie.

    Args:
        bias: added to the accumulator; half a step is in it.
        shift: to the right, 0 or more.
        has_ties: whether some accumulator lies half way between two outputs and would be rounded to an odd one.
    """

    bias: int
    shift: int
    has_ties: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Folded:
    """The folded channels of an operation.

    Args:
        bias: ``(C,)``.
        shifts: ``(C,)``, 0 or more.
        has_ties: ``(C,)``, bool.
        limits: smallest and largest a + bias of all channels, partial sums in any order included.
    """

    bias: np.ndarray
    shifts: np.ndarray
    has_ties: np.ndarray
    limits: Limits

    @property
    def tie_masks(self) -> np.ndarray:
        """``(C,)``: a + bias is a tie where it has no bit in common with its mask; of a channel without ties, -1.

        A sum of 0 has none in common with -1 either; its output, 0, is even already.
        """
        return np.where(self.has_ties, (np.int64(1) << self.shifts) - 1, -1)


def fold_channels(
    accumulators: Sequence[Limits],
    align_shifts: Sequence[int],
    biases: Sequence[int],
    shifts: Sequence[int],
    limits: Limits,
    rounding: str = HALF_EVEN,
) -> Folded | None:
    """Return the channels of an operation folded; None where one of them does not fold.

    Args:
        accumulators: smallest and largest a of each channel.
        align_shifts: of each channel, negative to the left.
        biases: of each channel, once aligned.
        shifts: of each channel, negative to the left.
        limits: smallest and largest output integer.
        rounding: of the output.
    """
    channels = []
    for accumulator, align_shift, bias, shift in zip(accumulators, align_shifts, biases, shifts, strict=True):
        channel = fold_channel(accumulator, -align_shift, bias, shift, limits, rounding)
        if channel is None:
            return None
        channels.append(channel)
    biases_and_halves, folded_shifts, has_ties = zip(*channels, strict=True)
    reached = [end + channel.bias for ends, channel in zip(accumulators, channels, strict=True) for end in (*ends, 0)]
    return Folded(
        np.array(biases_and_halves), np.array(folded_shifts), np.array(has_ties), (min(reached), max(reached))
    )


def fold_channel(
    accumulator: Limits, left: int, bias: int, shift: int, limits: Limits, rounding: str = HALF_EVEN
) -> FoldedChannel | None:
    """Return one channel folded; None where it does not fold, as one with ties that are rounded away from 0.

    Args:
        accumulator: smallest and largest a.
        left: places that a goes to the left before the bias is added; negative: to the right.
        bias: added then.
        shift: of the sum, to the right; negative: to the left.
        limits: smallest and largest output integer.
        rounding: of the output.

    Example:
        >>> fold_channel((-100, 100), 1, 37, 4, (-127, 127))  # (2 * a + 37) / 16 is never half way
        FoldedChannel(bias=22, shift=3, has_ties=False)
        >>> fold_channel((-100, 100), 0, 8, 4, (-127, 127))  # (0 + 8) / 16 is
        FoldedChannel(bias=16, shift=4, has_ties=True)
    """
    if left < 0:
        return None
    low, high = (output_of_sum((end << left) + bias, shift, limits, rounding) for end in accumulator)
    if low == high:
        lost = (accumulator[1] - accumulator[0]).bit_length()
        return FoldedChannel((low << lost) - accumulator[0], lost, False)
    if left > shift:
        return None
    half = 0 if rounding == FLOOR else (1 << shift) >> 1
    has_ties = _has_ties(accumulator, left, bias, shift, limits, rounding)
    if has_ties and rounding == HALF_AWAY:
        return None
    return FoldedChannel((bias + half) >> left, shift - left, has_ties)


def output_of_sum(total: int, shift: int, limits: Limits, rounding: str) -> int:
    """Return ``clip(round(total / 2**shift))``."""
    rounded = round_ratio(total, 1 << shift, rounding) if shift > 0 else total << -shift
    return int(min(max(rounded, limits[0]), limits[1]))


def _has_ties(accumulator: Limits, left: int, bias: int, shift: int, limits: Limits, rounding: str) -> bool:
    """Return whether a sum is a tie that is rounded down, and clipping does not hide which way it is rounded.

    Half to even, that is one half way above an even output; half away from 0, any below 0.
    """
    if shift == 0 or rounding not in (HALF_EVEN, HALF_AWAY):
        return False
    half, period = 1 << (shift - 1), (2 if rounding == HALF_EVEN else 1) << shift
    if (half - bias) % (1 << left):
        return False
    low = max((accumulator[0] << left) + bias, limits[0] << shift)
    high = min((accumulator[1] << left) + bias, limits[1] << shift)
    if rounding == HALF_AWAY:
        high = min(high, -1)
    first = low + (half - low) % period  # the first such tie, at low or later
    return first <= high
