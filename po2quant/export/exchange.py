"""What the writers of exchange files share: what float32 can add, and packages that may be absent."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from types import ModuleType

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.checks import shown
from po2quant.integer.operations import Block, Operation, Weighted, channel_terms
from po2quant.integer.program import Program
from po2quant.integer.rewrites import jammed_bias

EXACT_FLOAT32_BITS = 25
"""Width, sign included, up to which float32 adds integers without rounding."""


def require(module: str, purpose: str) -> ModuleType:
    """Return an optional module.

    Raises:
        ValueError: where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise ValueError(f"{purpose} needs {package}: pip install 'po2quant[exchange]'. Received: {error}") from None


def check_8_bits(subject: str, bits: int) -> None:
    """Raise ValueError where a tensor or kernel has more bits than an 8-bit format."""
    if bits > 8:
        raise ValueError(f"{subject} must have at most 8 bits for this format. Received: {bits} bits")


def check_rounding(format: FixedPointFormat, name: str, reader: str, known: Collection[str]) -> None:
    """Raise ValueError unless a tensor is rounded as a reader of files can."""
    if format.rounding not in known:
        raise ValueError(
            f"tensor {shown(name)} must be rounded {' or '.join(known)} for {reader}. Received: {format.rounding}"
        )


def float32_scales(exponents: int | np.ndarray, bits: int = 1) -> np.ndarray:
    """Return powers of two as float32.

    Args:
        exponents: of the powers.
        bits: of the integers that they scale.

    Raises:
        ValueError: where a float32 has no such normal number, or not the largest scaled integer.
    """
    low, high, highest = np.min(exponents), np.max(exponents), 128 - bits
    if low < -126 or high > highest:
        raise ValueError(f"exponents must be in [-126, {highest}] for float32. Received: {low} to {high}")
    return np.ldexp(1.0, exponents).astype(np.float32)


def inexact_in_float32(program: Program) -> tuple[str, ...]:
    """Return the names of the operations whose sums may need more bits than a float32 has."""
    blocks = program.blocks
    steps = ((operation.name, _sum_bits(block, operation)) for block in blocks for operation in block.operations)
    return tuple(dict.fromkeys(name for name, bits in steps if bits > EXACT_FLOAT32_BITS))


def _sum_bits(program: Block, operation: Operation) -> int:
    """Return the width of an operation's widest sum as a float32 computes it, with the jammed bias, sign included."""
    if isinstance(operation, Weighted):
        x, y = program.inputs_of(operation)[0].format, program.output_of(operation).format
        bias = jammed_bias(operation, x, y)
        return max(_weighted_bits(*channel) for channel in channel_terms(operation.kernel, bias, x))
    plan = program.plan(operation)
    if plan is None:
        return 0
    widest = max(plan.exact_bits, plan.sum_bits)
    return widest + 1 if plan.is_mean else widest


def _weighted_bits(limits: tuple[int, int], exponent: int, bias: int, bias_exponent: int) -> int:
    """Return the width of the sums of a channel and of their parts, in units of the finer exponent."""
    if limits == (0, 0):
        return bias.bit_length() + 1
    unit = min(exponent, bias_exponent) if bias else exponent
    low, high = (limit << exponent - unit for limit in limits)
    aligned = bias << bias_exponent - unit if bias else 0
    largest = max(high + max(aligned, 0), -low - min(aligned, 0), abs(aligned))
    return (largest - 1).bit_length() + 1
