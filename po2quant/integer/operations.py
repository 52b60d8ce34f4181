"""The tensors and operations of an integer program, as plain data.

A tensor is integers ``q`` and an exponent ``e``; its value is ``q * 2**e``. An operation reads integers and writes
integers of its output's format: it shifts, rounds half to even and clips. It never multiplies by a scale.
:mod:`po2quant.integer.plan` derives every shift from the exponents here.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from po2quant.fixed_point import FixedPointFormat, integer_range

LINEAR, RELU, RELU6 = "linear", "relu", "relu6"
ACTIVATIONS = (LINEAR, RELU, RELU6)

Padding = tuple[tuple[int, int], tuple[int, int]]
NO_PADDING: Padding = ((0, 0), (0, 0))


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An integer tensor.

    Args:
        name: name of the quantizer, or of the layer that moves values, that makes it.
        shape: shape without the batch, channels last.
        format: width, exponent, sign and range of its integers.
    """

    name: str
    shape: tuple[int, ...]
    format: FixedPointFormat


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A kernel or a bias: value = integers * 2**exponents.

    Args:
        integers: int64, output channels last.
        exponents: one an output channel, ``(C,)``, int64.
        bit_width: bits of an integer, sign included.
    """

    integers: np.ndarray
    exponents: np.ndarray
    bit_width: int

    def __post_init__(self) -> None:
        low, high = integer_range(self.bit_width)
        for name in ("integers", "exponents"):
            array = np.asarray(getattr(self, name))
            if array.dtype.kind not in "iu":
                raise ValueError(f"{name} of weights must be integers. Received: {array.dtype.name}")
            object.__setattr__(self, name, array.astype(np.int64))
        if self.exponents.shape != self.integers.shape[-1:]:
            raise ValueError(
                "weights must have one exponent an output channel. "
                f"Received: integers {self.integers.shape}, exponents {self.exponents.shape}"
            )
        smallest, largest = self.integers.min(initial=0), self.integers.max(initial=0)
        if smallest < low or largest > high:
            raise ValueError(
                f"weights of {self.bit_width} bits must be in [{low}, {high}]. Received: {smallest} to {largest}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One step of a program.

    Args:
        name: name of the Keras layer.
        inputs: names of the tensors that it reads.
        output: name of the tensor that it writes.
    """

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclasses.dataclass(frozen=True, eq=False)
class Conv2D(Operation):
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

    kernel: Weights
    bias: Weights
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    groups: int = 1
    activation: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class Dense(Operation):
    """Matrix product over the last axis: y = activation(x @ kernel + bias).

    Args:
        kernel: ``(C_in, C)``.
        bias: ``(C,)``.
        activation: as in :class:`Conv2D`.
    """

    kernel: Weights
    bias: Weights
    activation: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class AveragePooling(Operation):
    """Sum over the window's pixels inside the image, divided by their number, rounded half to even.

    Args:
        window: rows and columns; of a global pooling, the whole image.
        strides: steps in rows and columns.
        padding: rows and columns around the image that no window counts.
        activation: as in :class:`Conv2D`.
    """

    window: tuple[int, int]
    strides: tuple[int, int]
    padding: Padding = NO_PADDING
    activation: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class MaxPooling(Operation):
    """Largest integer of the window's pixels inside the image.

    Args:
        window: rows and columns; of a global pooling, the whole image.
        strides: steps in rows and columns.
        padding: rows and columns around the image that no window counts.
        activation: as in :class:`Conv2D`.
    """

    window: tuple[int, int]
    strides: tuple[int, int]
    padding: Padding = NO_PADDING
    activation: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class Add(Operation):
    """Sum of tensors of one rank, shifted to their smallest exponent; axes of size 1 are repeated."""

    activation: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class Multiply(Operation):
    """Product of tensors of one rank; axes of size 1 are repeated (squeeze and excite)."""

    activation: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenate(Operation):
    """Tensors side by side, each shifted into the output's format.

    Args:
        axis: axis without the batch, 0 or more.
        activation: as in :class:`Conv2D`.
    """

    axis: int
    activation: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class Requantize(Operation):
    """The input in another format: shifted, rounded half to even, clipped."""

    activation: str = LINEAR


@dataclasses.dataclass(frozen=True, eq=False)
class LookUpTable(Operation):
    """Any function of one integer: y = table[x - smallest x].

    Args:
        table: the output integer of every input integer in ascending order: ``2**bits`` of them, one less where the
            input's range is narrow.
        function: what the table holds, e.g. ``'silu'``.
    """

    table: np.ndarray
    function: str


@dataclasses.dataclass(frozen=True, eq=False)
class Reshape(Operation):
    """The same integers in the output's shape, last axis fastest."""


@dataclasses.dataclass(frozen=True, eq=False)
class ZeroPadding(Operation):
    """Zeros around an image.

    Args:
        padding: ``((top, bottom), (left, right))``.
    """

    padding: Padding


OPERATIONS = (
    Conv2D,
    Dense,
    AveragePooling,
    MaxPooling,
    Add,
    Multiply,
    Concatenate,
    Requantize,
    LookUpTable,
    Reshape,
    ZeroPadding,
)


def output_shape(operation: Operation, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Return the shape that an operation makes of inputs of these shapes, all without the batch.

    One pixel, ``(1, 1, C)``, may also be stored as ``(C,)``.

    Raises:
        ValueError: where the inputs do not fit the operation.
    """
    first = shapes[0]
    match operation:
        case Conv2D(kernel=kernel, groups=groups):
            rows, columns, depth, channels = kernel.integers.shape
            if first[2] != depth * groups or channels % groups:
                raise ValueError(
                    f"kernel of {operation.name!r} must fit {first[2]} channels in {groups} groups. "
                    f"Received: {kernel.integers.shape}"
                )
            spans = tuple((size - 1) * step + 1 for size, step in zip((rows, columns), operation.dilation, strict=True))
            return (*_positions(first, spans, operation.strides, operation.padding), channels)
        case Dense(kernel=kernel):
            if first[-1] != kernel.integers.shape[0]:
                raise ValueError(
                    f"kernel of {operation.name!r} must fit {first[-1]} inputs. Received: {kernel.integers.shape}"
                )
            return (*first[:-1], kernel.integers.shape[1])
        case AveragePooling() | MaxPooling():
            return (*_positions(first, operation.window, operation.strides, operation.padding), first[2])
        case Add() | Multiply():
            if len({len(shape) for shape in shapes}) != 1:
                raise ValueError(f"inputs of {operation.name!r} must have one rank. Received: shapes {shapes}")
            return np.broadcast_shapes(*shapes)
        case Concatenate(axis=axis):
            joined = sum(shape[axis] for shape in shapes)
            results = {(*shape[:axis], joined, *shape[axis + 1 :]) for shape in shapes}
            if len(results) != 1:
                raise ValueError(f"inputs of {operation.name!r} must fit on axis {axis}. Received: shapes {shapes}")
            return results.pop()
        case ZeroPadding(padding=((top, bottom), (left, right))):
            return first[0] + top + bottom, first[1] + left + right, first[2]
    return first


def _positions(
    shape: tuple[int, ...], spans: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> tuple[int, ...]:
    """Return how many windows of ``spans`` pixels fit into an image, in rows and columns."""
    if min(*spans, *strides) < 1 or min(*padding[0], *padding[1]) < 0:
        raise ValueError(
            "windows and strides must be positive and padding not negative. "
            f"Received: windows {spans}, strides {strides}, padding {padding}"
        )
    return tuple(
        (size + sum(around) - span) // stride + 1
        for size, span, stride, around in zip(shape[:2], spans, strides, padding, strict=True)
    )
