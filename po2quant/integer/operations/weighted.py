"""Operations with a kernel and a bias."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.checks import (
    Padding,
    Shape,
    checked_integer,
    checked_integers,
    checked_padding,
    checked_type,
    shown,
)
from po2quant.integer.operations.base import (
    LINEAR,
    NO_PADDING,
    Arrays,
    Counts,
    Formats,
    Operation,
    Tensor,
    Weights,
    set_fields,
)
from po2quant.integer.operations.windows import positions, spans_of, taps
from po2quant.integer.plan import EXACT_FLOAT64_BITS, Channel, Plan, aligned_channel
from po2quant.integer.requantization import Limits

__all__ = ["WEIGHTED", "Conv2D", "Dense", "Weighted", "channel_terms", "weighted_limits"]


@dataclasses.dataclass(frozen=True, eq=False)
class Weighted(Operation):
    """What convolutions and matrix products share.

    Args:
        kernel: output channels last.
        bias: ``(C,)``.
    """

    kernel: Weights
    bias: Weights

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads one input channel."""
        return False

    @property
    def is_matrix_product(self) -> bool:
        """Whether each output reads the channels of one place alone."""
        return True

    def check_weights(self, rank: int) -> None:
        """Raise ValueError unless the kernel has a rank and the bias its channels."""
        for part, weights in (("kernel", self.kernel), ("bias", self.bias)):
            checked_type(self.subject(part), weights, Weights)
        if self.kernel.integers.ndim != rank or self.bias.integers.shape != self.kernel.exponents.shape:
            raise ValueError(
                f"{self.subject('kernel')} must have {rank} axes, and bias its output channels. "
                f"Received: kernel {shown(self.kernel.integers.shape)}, bias {shown(self.bias.integers.shape)}"
            )

    def channels(self, formats: Formats, output: FixedPointFormat) -> list[Channel]:
        """Return the sum of products and bias of each output channel."""
        terms = channel_terms(self.kernel, self.bias, formats[0])
        return [aligned_channel(*channel, output.exponent) for channel in terms]

    def counts(self, output: Tensor) -> Counts:
        """Return its products, one rounding an output, and the bits of kernel and bias."""
        stored = sum(part.integers.size * part.bit_width for part in (self.kernel, self.bias))
        return Counts(math.prod(output.shape[:-1]) * self.kernel.integers.size, output.size, stored)


@dataclasses.dataclass(frozen=True, eq=False)
class Conv2D(Weighted):
    """Convolution: y = activation(sum(kernel * x) + bias), zeros outside the image.

    Args:
        kernel: ``(rows, columns, C_in / groups, C)``.
        bias: ``(C,)``.
        strides: steps in rows and columns.
        dilation: distance of the kernel's taps in rows and columns.
        padding: zeros ``((top, bottom), (left, right))``.
        groups: 1, or the number of input channels for a depthwise convolution, whose output channel
            ``c * multiplier + m`` reads input channel ``c``.
        activation: ``'linear'``, ``'relu'`` or ``'relu6'``.
    """

    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    groups: int = 1
    activation: str = LINEAR

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_weights(rank=4)
        set_fields(
            self,
            strides=checked_integers(self.subject("strides"), self.strides, 1, 2),
            dilation=checked_integers(self.subject("dilation"), self.dilation, 1, 2),
            padding=checked_padding(self.subject("padding"), self.padding),
            groups=checked_integer(self.subject("groups"), self.groups, 1),
        )

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads one input channel."""
        return self.kernel.integers.shape[2] == 1 and self.groups > 1

    @property
    def is_matrix_product(self) -> bool:
        """Whether each output reads the channels of one place alone."""
        return {*self.kernel.integers.shape[:2], *self.strides, self.groups} == {1} and self.padding == NO_PADDING

    @property
    def kind(self) -> str:
        """What it is, in a word, for people."""
        return "Depthwise" * self.is_depthwise + super().kind

    @property
    def spans(self) -> tuple[int, int]:
        """Rows and columns from the first to the last tap."""
        return spans_of(self.kernel.integers.shape[:2], self.dilation)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the windows in rows and columns, and the output channels."""
        (image,) = shapes
        places = positions(self.name, image, self.spans, self.strides, self.padding)
        depth, channels = self.kernel.integers.shape[2:]
        if image[2] != depth * self.groups or channels % self.groups:
            raise ValueError(
                f"{self.subject('kernel')} must fit {image[2]} channels in {self.groups} groups. "
                f"Received: {shown(self.kernel.integers.shape)}"
            )
        return (*places, channels)

    def accumulate(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return the sums of products: one matrix product (or, depthwise, one product) for each tap of the kernel."""
        rows, columns, depth, channels = self.kernel.integers.shape
        dtype = _exact_dtype(plan)
        kernel: np.ndarray = self.kernel.integers.astype(dtype).reshape(rows * columns, depth, channels)
        pixels = taps(arrays[0].astype(dtype), (rows, columns), self.strides, self.padding, 0, self.dilation)
        pairs = zip(pixels, kernel, strict=True)
        if self.is_depthwise:
            multiplier = channels // self.groups
            products = (np.repeat(tap, multiplier, axis=-1) * weights[0] for tap, weights in pairs)
        else:
            products = (_grouped_product(tap, weights, self.groups) for tap, weights in pairs)
        return np.asarray(sum(products)).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Dense(Weighted):
    """Matrix product over the last axis: y = activation(x @ kernel + bias).

    Args:
        kernel: ``(C_in, C)``.
        bias: ``(C,)``.
        activation: as in :class:`Conv2D`.
    """

    activation: str = LINEAR

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_weights(rank=2)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the shape of the input with the output channels last."""
        (shape,) = shapes
        if shape[-1] != self.kernel.integers.shape[0]:
            raise ValueError(
                f"{self.subject('kernel')} must fit {shape[-1]} inputs. Received: {shown(self.kernel.integers.shape)}"
            )
        return (*shape[:-1], self.kernel.integers.shape[1])

    def accumulate(self, arrays: Arrays, plan: Plan) -> np.ndarray:
        """Return the sums of products."""
        dtype = _exact_dtype(plan)
        return (arrays[0].astype(dtype) @ self.kernel.integers.astype(dtype)).astype(np.int64)


WEIGHTED = (Conv2D, Dense)


def weighted_limits(kernel: Weights, x: FixedPointFormat) -> list[Limits]:
    """Return the smallest and the largest sum of products of each output channel, over all inputs of a format.

    Every partial sum, in any order, lies between them too, because both ends of a format enclose 0.
    """
    matrix = kernel.integers.reshape(-1, kernel.integers.shape[-1])
    positive = np.maximum(matrix, 0).sum(axis=0).tolist()
    negative = np.minimum(matrix, 0).sum(axis=0).tolist()
    low, high = x.min_int, x.max_int
    return [(up * low + down * high, up * high + down * low) for up, down in zip(positive, negative, strict=True)]


def channel_terms(kernel: Weights, bias: Weights, x: FixedPointFormat) -> Iterator[tuple[Limits, int, int, int]]:
    """Return, for each channel, the limits of its products, their exponent, the bias and its exponent."""
    exponents = (kernel.exponents + x.exponent).tolist()
    return zip(weighted_limits(kernel, x), exponents, bias.integers.tolist(), bias.exponents.tolist(), strict=True)


def _exact_dtype(plan: Plan) -> type:
    return np.float64 if plan.accumulator_bits <= EXACT_FLOAT64_BITS else np.int64


def _grouped_product(x: np.ndarray, weights: np.ndarray, groups: int) -> np.ndarray:
    pairs = zip(np.split(x, groups, axis=-1), np.split(weights, groups, axis=-1), strict=True)
    return np.concatenate([part @ part_weights for part, part_weights in pairs], axis=-1)
