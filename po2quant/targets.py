"""Chips and tools that take power-of-two networks, as data: a row of :data:`TARGETS` each.

A target restricts the widths that a network may have, says where its scales and biases lie and how it rounds. Training
and the integer program follow it, so that the network that is trained is the one that is computed there. What a program
still has that a target cannot do, :func:`misfits` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from po2quant.files import one_line
from po2quant.fixed_point import FLOOR, HALF_EVEN, HALF_UP, MAX_BITS, FixedPointFormat
from po2quant.integer.checks import shown
from po2quant.integer.operations import (
    JOINS,
    MOVES,
    OPERATIONS,
    POOLINGS,
    WEIGHTED,
    Add,
    Aligned,
    Block,
    LookUpTable,
    Moving,
    Operation,
    Recurrent,
    Requantize,
    Requantizing,
    Reshape,
    Tensor,
    Weighted,
    ZeroPadding,
)
from po2quant.integer.plan import signed_bits
from po2quant.integer.program import Program

PARTS = ("kernel", "bias", "activation")
ANY_WIDTH = tuple(range(2, MAX_BITS + 1))
CHANNEL, TENSOR = "channel", "tensor"


@dataclasses.dataclass(frozen=True)
class Target:
    """What a chip, or a tool for chips, computes.

    Args:
        name: of the target.
        kernel: widths of kernels in bits, ascending.
        bias: widths of biases. One that has none of them is given the widest that is not wider.
        activation: widths of activations.
        scales: ``'channel'``: a kernel has a scale for each output channel; ``'tensor'``: it has one.
        rounding: of each tensor, one of :data:`~po2quant.fixed_point.ROUNDING_MODES`.
        roundings: of the tensors that some integer operations make, by class name, where it is another one.
        bias_bits: where biases are integers in units of the products: the bits that they may take, by the width of
            activations. Empty: a bias has a scale of its own.
        accumulator: bits of the register that sums up.
        has_unsigned: whether a tensor may be unsigned.
        full_range: whether the most negative integer of a tensor is used.
        one_width: whether kernels and activations of a layer have one width.
        right_shifts: whether products may not be coarser than what they are rounded to.
        channel_multiple: of which each layer's number of input and output channels must be a multiple; that of the
            network's inputs and outputs excepted.
        operations: integer operations by class name; empty: all.
    """

    name: str
    kernel: tuple[int, ...] = ANY_WIDTH
    bias: tuple[int, ...] = ANY_WIDTH
    activation: tuple[int, ...] = ANY_WIDTH
    scales: str = CHANNEL
    rounding: str = HALF_EVEN
    roundings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    bias_bits: Mapping[int, int] = dataclasses.field(default_factory=dict)
    accumulator: int = 64
    has_unsigned: bool = True
    full_range: bool = False
    one_width: bool = False
    right_shifts: bool = False
    channel_multiple: int = 1
    operations: frozenset[str] = frozenset()

    @property
    def bias_on_products(self) -> bool:
        """Whether biases are integers in units of the products."""
        return bool(self.bias_bits)

    def rounding_of(self, operation: str) -> str:
        """Return how the tensor is rounded that an integer operation makes.

        Args:
            operation: its class name; empty: an input of the network.
        """
        return self.roundings.get(operation, self.rounding)

    def widths(self, part: str, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Return those of some widths that a part may have.

        Args:
            part: ``'kernel'``, ``'bias'`` or ``'activation'``.
            wanted: ascending.

        Raises:
            ValueError: where none is left.

        Example:
            >>> TARGETS["tinpu"].widths("kernel", (4, 8, 16))
            (4, 8)
        """
        found = tuple(bits for bits in wanted if bits in getattr(self, part))
        if not found:
            raise self.refusal(part, ", ".join(map(str, wanted)))
        return found

    def nearest(self, part: str, bits: int) -> int:
        """Return the widest width of a part that is not above ``bits``, or the narrowest of all."""
        return max((width for width in getattr(self, part) if width <= bits), default=getattr(self, part)[0])

    def refusal(self, part: str, received: Any, where: str = "") -> ValueError:
        """Return the error of a width that a part cannot have."""
        valid = ", ".join(map(str, getattr(self, part)))
        return ValueError(
            f"{part} bits{where} must be among {valid} for target {self.name}. Received: {one_line(received)}"
        )

    def has_widths(self, layers: Mapping[str, Any]) -> bool:
        """Return whether every layer has widths of the target."""
        return next(self._others(layers), None) is None

    def check_widths(self, layers: Mapping[str, Any]) -> None:
        """Raise ValueError where a layer has a width that the target has not.

        Args:
            layers: :class:`~po2quant.bit_config.LayerBits` by layer.
        """
        for name, part, bits in self._others(layers):
            raise self.refusal(part, bits, f" of {name!r}")

    def _others(self, layers: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
        """Yield the layers and parts whose width is none of the target's, and that width."""
        for name, widths in layers.items():
            for part in PARTS:
                bits = getattr(widths, part)
                if bits is not None and bits not in getattr(self, part):
                    yield name, part, bits


GENERIC = Target("generic")


def _names(*kinds: type[Operation]) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in kinds)


_IMAGES = (*WEIGHTED, *POOLINGS, Add, Reshape)
_SHIFTED = [kind for kind in OPERATIONS if issubclass(kind, (Aligned, Requantizing))]
_ESP32_P4 = Target(
    "esp32-p4",
    kernel=(8, 16),
    activation=(8, 16),
    bias_bits={8: 32, 16: 40},
    has_unsigned=False,
    full_range=True,
    one_width=True,
    right_shifts=True,
    operations=_names(*_IMAGES, *JOINS, LookUpTable, *MOVES),
)

TARGETS = {
    target.name: target
    for target in (
        GENERIC,
        Target("cortex-m", kernel=tuple(range(2, 17)), activation=tuple(range(2, 17)), accumulator=32),
        _ESP32_P4,
        dataclasses.replace(_ESP32_P4, name="esp32-s3", scales=TENSOR, rounding=HALF_UP, bias_bits={8: 20, 16: 40}),
        Target(
            "tinpu",
            kernel=(2, 4, 8),
            activation=(8,),
            rounding=FLOOR,
            bias_bits={8: 32},
            accumulator=32,
            channel_multiple=4,
            operations=_names(*_IMAGES, Requantize),
        ),
        Target(
            "max78000",
            kernel=(2, 4, 8),
            bias=(8,),
            activation=(8,),
            scales=TENSOR,
            rounding=HALF_UP,
            accumulator=32,
            full_range=True,
            has_unsigned=False,
            operations=_names(*_IMAGES),
        ),
        Target(
            "hls4ml",
            kernel=tuple(range(2, 17)),
            activation=tuple(range(2, 17)),
            operations=_names(*_IMAGES, *JOINS, Requantize, ZeroPadding),
        ),
        Target(
            "litert",
            kernel=tuple(range(2, 9)),
            activation=tuple(range(2, 9)),
            roundings=dict.fromkeys(_names(*_SHIFTED), HALF_UP),
            bias_bits=dict.fromkeys(range(2, 9), 32),
            accumulator=32,
            full_range=True,
        ),
        Target(
            "litert-int16",
            kernel=tuple(range(2, 9)),
            activation=tuple(range(9, 17)),
            rounding=HALF_UP,
            bias_bits=dict.fromkeys(range(9, 17), 40),
            has_unsigned=False,
            full_range=True,
        ),
    )
}
"""The targets by name.

- ``cortex-m``: the generated C, on cores that sum 64 bits slowly.
- ``esp32-p4``, ``esp32-s3``: Espressif's ESP-DL. The S3 has one scale a kernel and 20 bits for a bias of 8-bit layers.
- ``tinpu``: Texas Instruments' NPU. It shifts without rounding: a half, where one is wanted, is a part of the bias,
  which training finds.
- ``max78000``: Analog Devices' MAX78000 and MAX78002, whose kernels of 1 bit are left out.
- ``hls4ml``: what its QONNX front end takes.
- ``litert``: LiteRT's int8 kernels as XNNPACK computes them, which rounds sums and changes of a format half up.
- ``litert-int16``: LiteRT's kernels of int16 activations and int8 weights, those for microcontrollers too.
"""


def target_of(name: str) -> Target:
    """Return a target by name.

    Raises:
        ValueError: for an unknown one.
    """
    if name not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}. Received: {one_line(repr(name))}")
    return TARGETS[name]


def misfits(program: Program, target: Target) -> list[str]:
    """Return what of a program a target cannot compute, one sentence for each obstacle.

    Example:
        >>> misfits(program, TARGETS["esp32-s3"])  # doctest: +SKIP
        ["operation 'dense' sums up to 21 bits of bias, and esp32-s3 has 20"]
    """
    found: list[str] = []
    for block in program.blocks:
        ends = {*program.inputs, *(output.tensor for output in program.outputs)}
        for tensor in block.tensors:
            found += (f"tensor {shown(tensor.name)} {what}" for what in _misfits_of_format(tensor.format, target))
        for operation in block.operations:
            found += (
                f"operation {shown(operation.name)} {what}" for what in _misfits_of(block, operation, ends, target)
            )
    return list(dict.fromkeys(found))


def _misfits_of_format(format: FixedPointFormat, target: Target) -> Iterator[str]:
    name = target.name
    if format.bit_width not in target.activation:
        yield f"has {format.bit_width} bits, and {name} has {_listed(target.activation)}"
    if not format.signed and not target.has_unsigned:
        yield f"is unsigned, and {name} has signed tensors alone"
    if format.signed and format.narrow_range and target.full_range:
        yield f"stops at {format.min_int}, and {name} goes on to {format.min_int - 1}"


def _misfits_of(block: Block, operation: Operation, ends: set[str], target: Target) -> Iterator[str]:
    kind, name = type(operation).__name__, target.name
    if target.operations and kind not in target.operations:
        yield f"is {kind}, which {name} has not"
    plan, inputs, output = block.plan(operation), block.inputs_of(operation), block.output_of(operation)
    rounding = target.rounding_of(kind)
    if output.format.rounding != rounding and not isinstance(operation, Moving | Recurrent):
        yield f"rounds {output.format.rounding}, and {name} rounds {rounding}"
    if plan is not None and max(plan.accumulator_register, plan.sum_register) > target.accumulator:
        yield f"sums up to {max(plan.accumulator_bits, plan.sum_bits)} bits, and {name} has {target.accumulator}"
    if isinstance(operation, Weighted):
        yield from _misfits_of_weights(operation, inputs[0], output, target)
        odd = [t for t in (inputs[0], output) if t.name not in ends and t.shape[-1] % target.channel_multiple]
        for tensor in odd:
            multiple = target.channel_multiple
            yield f"has {tensor.shape[-1]} channels in {shown(tensor.name)}, and {name} takes multiples of {multiple}"


def _misfits_of_weights(operation: Weighted, x: Tensor, output: Tensor, target: Target) -> Iterator[str]:
    kernel, bias, name = operation.kernel, operation.bias, target.name
    width = kernel.bit_width
    if width not in target.kernel:
        yield f"has a kernel of {width} bits, and {name} has {_listed(target.kernel)}"
    if target.one_width and {width, x.format.bit_width, output.format.bit_width} != {width}:
        yield f"has other widths of kernel and activations, and {name} has one for both"
    if target.scales == TENSOR and len(set(kernel.exponents.tolist())) > 1:
        yield f"has scales for each channel of its kernel, and {name} has one a kernel"
    products = kernel.exponents + x.format.exponent
    if target.right_shifts and (products > output.format.exponent).any():
        yield f"has products coarser than its output, and {name} shifts to the right alone"
    if not target.bias_on_products:
        if bias.integers.any() and bias.bit_width not in target.bias:
            yield f"has a bias of {bias.bit_width} bits, and {name} has {_listed(target.bias)}"
        return
    places = (bias.exponents - products).tolist()
    units = [integer * Fraction(2) ** place for integer, place in zip(bias.integers.tolist(), places, strict=True)]
    bits, limit = signed_bits((int(min(units)), int(max(units)))), target.bias_bits.get(x.format.bit_width, MAX_BITS)
    if any(unit.denominator > 1 for unit in units):
        yield f"has a bias finer than its products, and {name} has it in their units"
    elif bits > limit:
        yield f"has a bias of {bits} bits in units of its products, and {name} has {limit}"


def _listed(widths: tuple[int, ...]) -> str:
    """Return widths as a sentence has them."""
    is_range = len(widths) > 2 and widths == tuple(range(widths[0], widths[-1] + 1))
    return f"{widths[0]} to {widths[-1]}" if is_range else " or ".join(map(str, widths))
