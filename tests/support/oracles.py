"""Independent oracles for the quantizers: numpy in float64, Fractions and Python integers, no product code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

SEARCH_DEPTH = 13
"""Exponents that a brute-force search tries: the one that clips nothing and the twelve below it."""

NEAR_TIE = 1.0 + 1e-5
"""Errors that differ by less than the rounding of a float32 sum of some thousand squares are ties."""

EXPONENT_BOUNDS = (-126, 126)
"""Exponents e for which ``2**e`` and ``2**-e`` are normal float32 numbers."""


def largest_magnitude(bits: int, signed: bool = True) -> int:
    """Return the largest integer of a format of ``bits`` bits, sign included."""
    return 2 ** (bits - 1) - 1 if signed else 2**bits - 1


def smallest_exponent(value: float, largest: int) -> int:
    """Return the smallest e with ``value <= largest * 2**e``, by exact comparisons."""
    value, exponent = Fraction(float(value)), 0
    while value > largest * Fraction(2) ** exponent:
        exponent += 1
    while value <= largest * Fraction(2) ** (exponent - 1):
        exponent -= 1
    return exponent


def quantize(x: np.ndarray, exponent: np.ndarray, low: int, high: int) -> np.ndarray:
    """Round to multiples of ``2**exponent``, ties to even, and clip, in float64."""
    x = np.asarray(x, np.float64)
    return np.ldexp(np.clip(np.rint(np.ldexp(x, -exponent)), low, high), exponent)


def quantize_to_steps(x: np.ndarray, step: np.ndarray | float, bits: int, signed: bool = True) -> np.ndarray:
    """Round to multiples of any ``step``, ties to even, and clip symmetrically, or to 0 and above."""
    largest = largest_magnitude(bits, signed)
    return np.clip(np.rint(x / step), -largest if signed else 0, largest) * step


def squared_error(
    x: np.ndarray, exponent: np.ndarray, bits: int, axes: tuple[int, ...], signed: bool = True
) -> np.ndarray:
    """Return the sum over ``axes`` of the squared errors of symmetric (or unsigned) quantization."""
    high = largest_magnitude(bits, signed)
    error = np.asarray(x, np.float64) - quantize(x, exponent, -high if signed else 0, high)
    return np.sum(np.square(error), axis=axes, keepdims=True)


def never_clipping_exponent(x: np.ndarray, bits: int, axes: tuple[int, ...], signed: bool = True) -> np.ndarray:
    """Return the smallest exponent at which nothing is clipped; of zeros, that of 1.0."""
    max_abs = np.max(np.abs(x), axis=axes, keepdims=True)
    largest = largest_magnitude(bits, signed)
    exponents = [
        smallest_exponent(value if value >= np.finfo(np.float32).tiny else 1.0, largest) for value in max_abs.flat
    ]
    return np.clip(np.reshape(exponents, max_abs.shape), *EXPONENT_BOUNDS)


def least_squared_error(x: np.ndarray, bits: int, axes: tuple[int, ...], signed: bool = True) -> np.ndarray:
    """Return the least squared error of all exponents, by trying every one."""
    top = never_clipping_exponent(x, bits, axes, signed)
    return np.min([squared_error(x, top - k, bits, axes, signed) for k in range(SEARCH_DEPTH)], axis=0)


def relative_rmse(x: np.ndarray, y: np.ndarray) -> float:
    """Return the root mean square error of ``y`` over that of zeros."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return float(np.sqrt(np.mean(np.square(x - y)) / np.mean(np.square(x))))
