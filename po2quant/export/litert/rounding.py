"""What LiteRT's kernels, biases and sums cannot hold to the last bit, and how much that changes outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from po2quant.export.exchange import check_8_bits
from po2quant.fixed_point import FixedPointFormat, magnitude_bits
from po2quant.integer.checks import shown
from po2quant.integer.operations import Weighted, Weights
from po2quant.integer.program import Program

INT8 = np.iinfo(np.int8)
NARROW_BITS, WIDE_BITS = 8, 16
"""Widths of tensors; sums that are not finished have the second."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """The type of all tensors of a file: int8, or int16 where one has more than 8 bits.

    Args:
        bits: 8 or 16.
    """

    bits: int

    @classmethod
    def of(cls, program: Program) -> Storage:
        """Return how a program is stored.

        Raises:
            ValueError: for a tensor that 16 bits do not hold with a sign.
        """
        for tensor in program.tensors:
            format = tensor.format
            if format.bit_width + (not format.signed) > WIDE_BITS and format.bit_width > NARROW_BITS:
                raise ValueError(
                    f"tensor {shown(tensor.name)} must have at most {WIDE_BITS} bits, sign included, for LiteRT. "
                    f"Received: {format.bit_width} bits{'' if format.signed else ', unsigned'}"
                )
        widest = max(tensor.format.bit_width for tensor in program.tensors)
        return cls(NARROW_BITS if widest <= NARROW_BITS else WIDE_BITS)

    @property
    def is_wide(self) -> bool:
        """Whether tensors have 16 bits, and biases 64."""
        return self.bits == WIDE_BITS

    @property
    def kind(self) -> Any:
        """The type of the integers."""
        return np.int16 if self.is_wide else np.int8

    @property
    def limits(self) -> Any:
        """Smallest and largest integer, as numpy has them."""
        return np.iinfo(self.kind)

    def zero_point(self, format: FixedPointFormat) -> int:
        """Return the integer that stands for 0: LiteRT's integer = the program's integer + zero point."""
        return 0 if format.signed or self.is_wide else INT8.min


def filled(operation: Weighted) -> Weights:
    """Return the kernel with each channel's integers as large as int8 holds, so that its bias is rounded the least.

    LiteRT's kernels stop at -127.
    """
    kernel = operation.kernel
    check_8_bits(f"kernel of {shown(operation.name)}", kernel.bit_width)
    if kernel.integers.min(initial=0) == INT8.min:
        raise ValueError(f"kernel of {shown(operation.name)} must be in [-127, 127] for LiteRT. Received: -128")
    largest = np.abs(kernel.integers).reshape(-1, kernel.exponents.size).max(axis=0)
    places = np.array([7 - integer.bit_length() if integer else 0 for integer in largest.tolist()])
    return Weights(kernel.integers << places, kernel.exponents - places, 8)


def rounded_bias(
    operation: Weighted, exponents: np.ndarray, output_exponent: int, bits: int = 32
) -> tuple[np.ndarray, Fraction]:
    """Return a bias in units of the products, rounded half to even, and what that changes, in units of the output.

    Where the products are no coarser than the output, it changes less than LiteRT's own rounding, which counts as 0.
    """
    name, bias = operation.name, operation.bias
    factors = [Fraction(2) ** places for places in (bias.exponents - exponents).tolist()]
    exact = [integer * factor for integer, factor in zip(bias.integers.tolist(), factors, strict=True)]
    rounded = [round(term) for term in exact]
    largest = max(map(abs, rounded))
    if largest >= 2 ** (bits - 1):
        raise ValueError(
            f"bias of {shown(name)} must fit {bits} bits in units of its products for LiteRT. "
            f"Received: {largest.bit_length() + 1} bits"
        )
    errors = [
        abs(term - integer) * Fraction(2) ** (exponent - output_exponent)
        for term, integer, exponent in zip(exact, rounded, exponents.tolist(), strict=True)
        if exponent > output_exponent
    ]
    return np.array(rounded, np.int64), max(errors, default=Fraction(0))


def sum_format(terms: Sequence[FixedPointFormat], output: FixedPointFormat) -> tuple[FixedPointFormat, Fraction]:
    """Return the format in which tensors are added two at a time, and what it costs at most, in units of the output.

    It is that of the finest term, or the finest that holds every sum.
    """
    exponents = [term.exponent for term in terms]
    largest = sum(Fraction(2) ** (term.exponent + magnitude_bits(term.bit_width, term.signed)) for term in terms)
    fraction, power = math.frexp(largest)
    needed = power - (fraction == 0.5) - magnitude_bits(WIDE_BITS)  # -2**15 is the one 16-bit integer of 2**15
    wide = FixedPointFormat(WIDE_BITS, max(min(exponents), needed))
    rounded = sum(exponent < wide.exponent for exponent in exponents)
    return wide, rounded * Fraction(2) ** (wide.exponent - 1 - output.exponent)
