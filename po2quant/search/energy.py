"""Energy of one inference, by published figures."""

from __future__ import annotations

import dataclasses
import math

from po2quant.export.cores.instructions import instructions, work_of
from po2quant.integer.operations import Add, AveragePooling, Multiply, Operation, Weighted
from po2quant.integer.program import Program

FLOATING = {16: (1.1, 0.4), 32: (3.7, 0.9)}
"""Picojoules of a product and of a sum of floating-point numbers at 45 nm."""
SRAM, DRAM, FIXED = MEMORIES = ("sram", "dram", "fixed")


@dataclasses.dataclass(frozen=True)
class EnergyModel:
    """Arithmetic and memory at 45 nm, by the rules of QKeras' QTools.

    Equation:
        E = sum over layers of MACs * (multiply(max(b_w, b_x)) + add(b_w + b_x + ceil(log2 K)))
        + read(kernel) + read(bias) + read(inputs), in pJ, where multiply(b) = 0.002994791667 b^2 + 0.001041666667 b,
        add(b) = 0.003125 b, K is the number of products in a sum, and a tensor of n bits is read from SRAM by words of
        64 bits at 0.02455 L^2 - 0.2656 L + 0.8661 each, L = log2(max(n, min_sram_size)), or from DRAM at 20.3125 a bit.

    Args:
        parameters: where kernels and biases lie: ``'sram'``, ``'dram'``, or ``'fixed'``, which costs nothing.
        activations: where tensors lie.
        min_sram_size: bits of the smallest SRAM.
        floating: 16 or 32: all numbers are floating-point ones of so many bits, whatever the widths; 0: integers.

    Reference:
        Horowitz, "Computing's energy problem", ISSCC 2014; QKeras 0.9.0, ``qtools/qenergy`` and ``qtools/settings``.
    """

    parameters: str = SRAM
    activations: str = SRAM
    min_sram_size: float = 0.0
    floating: int = 0

    def __post_init__(self) -> None:
        for name in ("parameters", "activations"):
            if getattr(self, name) not in MEMORIES:
                raise ValueError(f"{name} must be one of {', '.join(MEMORIES)}. Received: {getattr(self, name)!r}")
        if self.floating and self.floating not in FLOATING:
            raise ValueError(f"floating must be 0, 16 or 32. Received: {self.floating}")

    def __call__(self, program: Program, operation: Operation) -> float:
        """Return the picojoules of one operation."""
        formats = program.formats_of(operation)
        read = sum(
            self.read(self.activations, tensor.size * (self.floating or tensor.format.bit_width))
            for tensor in program.inputs_of(operation)
        )
        outputs, widest = program.output_of(operation).size, max(format.bit_width for format in formats)
        if isinstance(operation, Weighted):
            kernel, bias = operation.kernel, operation.bias
            stored = (part.integers.size * (self.floating or part.bit_width) for part in (kernel, bias))
            read += sum(self.read(self.parameters, size) for size in stored)
            products = math.prod(kernel.integers.shape[:-1])
            accumulator = kernel.bit_width + widest + math.ceil(math.log2(products))
            one = self.multiplication(max(kernel.bit_width, widest)) + self.addition(accumulator)
            return read + program.counts(operation).macs * one
        if isinstance(operation, Add | Multiply):
            combined = self.addition(widest + 1) if isinstance(operation, Add) else self.multiplication(widest)
            return read + (len(operation.inputs) - 1) * outputs * combined
        if isinstance(operation, AveragePooling):
            return read + program.inputs_of(operation)[0].size * self.addition(widest + 8)
        return read

    def multiplication(self, bits: int) -> float:
        """Return the picojoules of a product."""
        return FLOATING[self.floating][0] if self.floating else multiplication(bits)

    def addition(self, bits: int) -> float:
        """Return the picojoules of a sum."""
        return FLOATING[self.floating][1] if self.floating else addition(bits)

    def read(self, memory: str, bits: float) -> float:
        """Return the picojoules of reading so many bits."""
        if memory == FIXED or not bits:
            return 0.0
        if memory == DRAM:
            return 20.3125 * bits
        length = math.log2(max(bits, self.min_sram_size))
        return math.ceil(bits / 64) * max(0.02455 * length**2 - 0.2656 * length + 0.8661, 0.0)


def multiplication(bits: int) -> float:
    """Return the picojoules of a product of integers at 45 nm."""
    return 0.002994791667 * bits**2 + 0.001041666667 * bits


def addition(bits: int) -> float:
    """Return the picojoules of a sum of integers at 45 nm."""
    return 0.003125 * bits


@dataclasses.dataclass(frozen=True)
class Board:
    """What was measured on a board.

    Args:
        pj_per_mac: picojoules of one MAC of 8 bits, all else of the inference included.
        core: whose instructions say how other widths compare; empty: the MACs in a cycle of a mixed-precision core do.
    """

    pj_per_mac: float
    core: str = ""

    def __call__(self, program: Program, operation: Operation) -> float:
        """Return the picojoules of one operation."""
        if self.core:
            work = instructions(self.core, work_of(program, operation))
            return self.pj_per_mac / INSTRUCTIONS_PER_MAC * work
        if not isinstance(operation, Weighted):
            return 0.0
        (x,) = program.formats_of(operation)
        weight, value = (
            4 if bits <= 4 else 8 if bits <= 8 else 16 for bits in (operation.kernel.bit_width, x.bit_width)
        )
        fewer = MACS_PER_CYCLE[8, 8] / MACS_PER_CYCLE[max(weight, value), min(weight, value)]
        return self.pj_per_mac * fewer * program.counts(operation).macs


MACS_PER_CYCLE = {(8, 8): 2.1, (8, 4): 2.3, (4, 4): 3.5, (16, 16): 1.0, (16, 8): 1.0, (16, 4): 1.0}
"""Of a RISC-V core with dot products of mixed precision, by the wider and narrower operand; of 16 bits assumed."""

INSTRUCTIONS_PER_MAC = 1.68
"""Of the M4 at flat 8: geometric mean of MLPerf Tiny's four networks in benchmarks/results/microcontroller.csv."""

BOARD_ENERGY = {"stm32u385": Board(87.8, "m4"), "gap9": Board(6.4)}
"""Geometric means of microjoules over MACs of MLPerf Tiny v1.2's four networks: 31.8, 966, 245, 519 on an STM32U385 and
5.3, 27.7, 18.6, 40.8 on a GAP9 for 264192, 12501632, 2656768, 7489664 MACs. Single networks lie within a factor of
1.4 and 3.1 of them."""
