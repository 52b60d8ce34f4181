"""Operations on the windows of each channel."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from po2quant.fixed_point import FixedPointFormat, round_ratio
from po2quant.integer.checks import Padding, Shape, checked_integers, checked_padding, shown
from po2quant.integer.operations.base import (
    LINEAR,
    NO_PADDING,
    Arrays,
    Counts,
    Formats,
    Operation,
    Requantizing,
    Tensor,
    output_limits,
    set_fields,
)
from po2quant.integer.operations.windows import positions, taps
from po2quant.integer.plan import Plan, plain_channel, plan_of_channels

__all__ = ["POOLINGS", "AveragePooling", "MaxPooling", "Pooling"]


@dataclasses.dataclass(frozen=True, eq=False)
class Pooling(Operation):
    """What means and maxima share.

    Args:
        window: rows and columns; of a global pooling, the whole image.
        strides: steps in rows and columns.
        padding: rows and columns around the image that no window counts, fewer than the window has.
        activation: ``'linear'``, ``'relu'`` or ``'relu6'``.
    """

    window: tuple[int, int]
    strides: tuple[int, int]
    padding: Padding = NO_PADDING
    activation: str = LINEAR

    def __post_init__(self) -> None:
        super().__post_init__()
        window = checked_integers(self.subject("window"), self.window, 1, 2)
        strides = checked_integers(self.subject("strides"), self.strides, 1, 2)
        padding = checked_padding(self.subject("padding"), self.padding)
        set_fields(self, window=window, strides=strides, padding=padding)
        if any(max(around) >= size for around, size in zip(padding, window, strict=True)):
            raise ValueError(  # a window that sees no pixel has no mean and no largest integer
                f"{self.subject('padding')} must be smaller than its window {window}. Received: {shown(padding)}"
            )

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the windows in rows and columns, and the channels."""
        (image,) = shapes
        return (*positions(self.name, image, self.window, self.strides, self.padding), image[2])

    def counts(self, output: Tensor) -> Counts:
        """Return one operation for each pixel of each window."""
        return Counts(other_operations=output.size * math.prod(self.window))


@dataclasses.dataclass(frozen=True, eq=False)
class AveragePooling(Pooling):
    """Sum over the window's pixels inside the image, divided by their number."""

    def plan(self, formats: Formats, output: FixedPointFormat) -> Plan:
        """Return the shift of the sum over a whole window, which is divided by its pixels."""
        (x,), count = formats, math.prod(self.window)
        channel = plain_channel((x.min_int * count, x.max_int * count), x.exponent)
        return plan_of_channels(self.name, [channel], output, output_limits(output, self.activation), count=count)

    def rounded(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return ``clip(round(sum / 2**output_shift / count))``."""
        x = arrays[0]
        total, count = (
            sum(taps(values, self.window, self.strides, self.padding, 0)) for values in (x, np.ones_like(x[:1]))
        )
        shift = int(plan.output_shifts[0])
        numerator, denominator = total << max(-shift, 0), count << max(shift, 0)
        return plan.clip(round_ratio(numerator, denominator, plan.rounding))


@dataclasses.dataclass(frozen=True, eq=False)
class MaxPooling(Pooling, Requantizing):
    """Largest integer of the window's pixels inside the image."""

    def accumulate(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return the maxima."""
        lowest = np.iinfo(np.int64).min
        return functools.reduce(np.maximum, taps(arrays[0], self.window, self.strides, self.padding, lowest))


POOLINGS = (AveragePooling, MaxPooling)
