"""Fixed-point formats, integer ranges, named rounding modes and shifts, in numpy only.

A fixed-point tensor is an integer tensor ``q`` and an exponent ``e``; its value is
``q * 2**e``. Everything that an integer engine does is defined here, once.
"""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any

import numpy as np

HALF_UP = "half_up"
HALF_EVEN = "half_even"
HALF_AWAY = "half_away"
FLOOR = "floor"
ROUNDING_MODES = (HALF_UP, HALF_EVEN, HALF_AWAY, FLOOR)

MIN_BITS, MAX_BITS = 1, 32
MAX_SHIFT = 62
MIN_SCALE_EXPONENT, MAX_SCALE_EXPONENT = -126, 96
"""A stored scale lies between these powers of two: it is a normal float32 number then, and so is 2**31 times it, beyond
which no integer of 32 bits lies."""
MAX_EXPONENT = 960
"""Largest exponent of a format, in magnitude: its integers, and half a step of them, are then normal float64."""


def check_bits(bits: int, signed: bool = True) -> int:
    """Return ``bits`` as an int, or raise ValueError where no format has that width.

    A signed symmetric format needs 2 bits: with one, zero is its only value.
    """
    lowest = 2 if signed else MIN_BITS
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not lowest <= bits <= MAX_BITS:
        kind = "signed" if signed else "unsigned"
        raise ValueError(
            f"bits of a {kind} format must be an integer in [{lowest}, {MAX_BITS}]. Received: bits={reprlib.repr(bits)}"
        )
    return int(bits)


def magnitude_bits(bits: int, signed: bool = True) -> int:
    """Return the bits that hold the magnitude: one less than ``bits`` when a sign takes one."""
    return bits - int(signed)


def check_scales(scales: np.ndarray, powers_of_two: bool = False) -> np.ndarray:
    """Return scales as float64, or raise ValueError where one is none that a quantizer stores.

    Args:
        scales: values of one LSB, any shape.
        powers_of_two: whether only ``2**e`` with an integer e will do.

    Example:
        >>> check_scales([0.5, 0.25], powers_of_two=True)
        array([0.5 , 0.25])
    """
    scales = np.asarray(scales, np.float64)
    limits = np.ldexp(1.0, [MIN_SCALE_EXPONENT, MAX_SCALE_EXPONENT])
    is_valid = (limits[0] <= scales) & (scales <= limits[1])
    if powers_of_two:
        is_valid &= np.frexp(scales)[0] == 0.5
    if not np.all(is_valid):
        kind = "powers of two" if powers_of_two else "numbers"
        raise ValueError(
            f"scales must be {kind} from 2**{MIN_SCALE_EXPONENT} to 2**{MAX_SCALE_EXPONENT}. "
            f"Received: {scales[~is_valid].flat[0]:.9g}"
        )
    return scales


def scale_exponents(scales: np.ndarray) -> np.ndarray:
    """Return the exponents of scales that are powers of two, int64; others are refused as by :func:`check_scales`."""
    return np.frexp(check_scales(scales, powers_of_two=True))[1].astype(np.int64) - 1


def integer_range(bits: int, signed: bool = True, narrow_range: bool = False) -> tuple[int, int]:
    """Return the smallest and the largest integer of a format.

    Args:
        bits: width in bits, sign included.
        signed: two's complement when true, else ``[0, 2**bits - 1]``.
        narrow_range: drop the most negative integer, so that the range is symmetric.
            Unsigned formats ignore it.

    Returns:
        ``(min, max)``, e.g. ``(-127, 127)`` for 8 bits, signed, narrow.

    Example:
        >>> integer_range(4), integer_range(4, narrow_range=True), integer_range(4, signed=False)
        ((-8, 7), (-7, 7), (0, 15))
    """
    bits = check_bits(bits, signed)
    largest = 2 ** magnitude_bits(bits, signed) - 1
    if not signed:
        return 0, largest
    return -largest - (not narrow_range), largest


def check_rounding(rounding: str) -> None:
    """Raise ValueError unless a rounding mode is one of :data:`ROUNDING_MODES`."""
    if not isinstance(rounding, str) or rounding not in ROUNDING_MODES:
        raise ValueError(
            f"rounding must be one of {', '.join(ROUNDING_MODES)}. Received: rounding={reprlib.repr(rounding)}"
        )


def round_to_integer(x: np.ndarray, rounding: str = HALF_EVEN) -> np.ndarray:
    """Round real values to integers (returned in the dtype of ``x``).

    ======== ===== ===== ===== ===== ===== =====
    mode     -2.5  -1.5  -0.5   0.5   1.5   2.5
    ======== ===== ===== ===== ===== ===== =====
    half_up    -2    -1     0     1     2     3
    half_even  -2    -2     0     0     2     2
    half_away  -3    -2    -1     1     2     3
    floor      -3    -2    -1     0     1     2
    ======== ===== ===== ===== ===== ===== =====

    Raises:
        ValueError: for an unknown mode.
    """
    check_rounding(rounding)
    x = np.asarray(x)
    if rounding == HALF_EVEN:
        return np.rint(x)
    if rounding == HALF_AWAY:
        magnitude = np.abs(x)
        floor = np.floor(magnitude)
        return np.copysign(floor + (magnitude - floor >= 0.5), x)
    floor = np.floor(x)
    return floor if rounding == FLOOR else floor + (x - floor >= 0.5)


def shift_right(q: np.ndarray, shift: int | np.ndarray, rounding: str = HALF_EVEN) -> np.ndarray:
    """Return ``round(q / 2**shift)`` with integer operations only; a negative shift goes left.

    Args:
        q: integers of any signed dtype; computed in int64.
        shift: places to the right, in ``[-62, 62]``; broadcasts against ``q``.
        rounding: one of :data:`ROUNDING_MODES`.

    Returns:
        int64 array. Overflow on a left shift is the caller's to exclude.

    Example:
        >>> shift_right(np.array([-5, 5, 6, 7]), 1).tolist()
        [-2, 2, 3, 4]
    """
    check_rounding(rounding)
    q, shift = np.asarray(q), np.asarray(shift)
    for name, values in (("q", q), ("shift", shift)):
        if values.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers. Received: {values.dtype.name}")
    out_of_range = (shift > MAX_SHIFT) | (shift < -MAX_SHIFT)
    if np.any(out_of_range):
        first = int(shift[out_of_range].flat[0])
        raise ValueError(f"shift must be in [-{MAX_SHIFT}, {MAX_SHIFT}]. Received: shift={first}")
    q, shift = np.broadcast_arrays(q.astype(np.int64), shift.astype(np.int64))
    right = np.maximum(shift, 0)
    floor = q >> right
    remainder = q - (floor << right)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), np.int64(1))
    return np.where(shift >= 0, floor + _rounds_up(floor, remainder - half, rounding), q << np.maximum(-shift, 0))


def round_ratio(numerator: Any, denominator: Any, rounding: str = HALF_EVEN) -> Any:
    """Return ``round(numerator / denominator)``, exact, of integers in an array, of Python integers or fractions.

    Args:
        numerator: any sign; arrays are int64.
        denominator: above 0; broadcasts against the numerator.
        rounding: one of :data:`ROUNDING_MODES`.

    Example:
        >>> [round_ratio(-3, 2, rounding) for rounding in ROUNDING_MODES]
        [-1, -2, -2, -2]
    """
    check_rounding(rounding)
    floor = numerator // denominator
    return floor + _rounds_up(floor, 2 * (numerator - floor * denominator) - denominator, rounding)


def _rounds_up(floor: Any, above_half: Any, rounding: str) -> Any:
    """Return whether the next integer is the rounded one.

    Args:
        floor: largest integer that is not above the number.
        above_half: by how much its fraction exceeds a half, in any unit: 0 at a tie.
        rounding: one of :data:`ROUNDING_MODES`.
    """
    if rounding == FLOOR:
        return False
    tie: Any = {HALF_UP: True, HALF_EVEN: floor % 2 != 0, HALF_AWAY: floor >= 0}[rounding]
    return (above_half > 0) | ((above_half == 0) & tie)


@dataclasses.dataclass(frozen=True)
class FixedPointFormat:
    """The type of an integer tensor: width, exponent, sign, and how values between its integers are rounded.

    value = q * 2**exponent with q in ``[min_int, max_int]``.

    Args:
        bit_width: bits of the integer, sign included.
        exponent: power of two of one LSB.
        signed: two's complement or unsigned.
        narrow_range: symmetric range without the most negative integer.
        rounding: one of :data:`ROUNDING_MODES`.

    Raises:
        ValueError: for a field of another type or range.

    Example:
        >>> f = FixedPointFormat(8, exponent=-7)
        >>> f.to_int(np.array([0.5, 3.0])).tolist(), f.max_value
        ([64, 127], 0.9921875)
    """

    bit_width: int
    exponent: int = 0
    signed: bool = True
    narrow_range: bool = False
    rounding: str = HALF_EVEN

    def __post_init__(self) -> None:
        for name in ("signed", "narrow_range"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False. Received: {name}={reprlib.repr(getattr(self, name))}")
            object.__setattr__(self, name, bool(getattr(self, name)))
        object.__setattr__(self, "bit_width", check_bits(self.bit_width, self.signed))
        exponent = self.exponent
        is_integer = isinstance(exponent, (int, np.integer)) and not isinstance(exponent, bool)
        if not is_integer or abs(int(exponent)) > MAX_EXPONENT:
            raise ValueError(
                f"exponent must be an integer in [-{MAX_EXPONENT}, {MAX_EXPONENT}]. "
                f"Received: exponent={reprlib.repr(exponent)}"
            )
        object.__setattr__(self, "exponent", int(exponent))
        check_rounding(self.rounding)

    @property
    def min_int(self) -> int:
        """Smallest integer."""
        return integer_range(self.bit_width, self.signed, self.narrow_range)[0]

    @property
    def max_int(self) -> int:
        """Largest integer."""
        return integer_range(self.bit_width, self.signed, self.narrow_range)[1]

    @property
    def scale(self) -> float:
        """Value of one LSB, ``2**exponent``."""
        return float(np.ldexp(1.0, self.exponent))

    @property
    def min_value(self) -> float:
        """Smallest value."""
        return self.min_int * self.scale

    @property
    def max_value(self) -> float:
        """Largest value."""
        return self.max_int * self.scale

    def to_int(self, x: np.ndarray) -> np.ndarray:
        """Quantize real values: ``clip(round(x / 2**exponent), min_int, max_int)``, int64."""
        x = np.asarray(x, np.float64)
        if np.any(np.isnan(x)):
            raise ValueError("values must be numbers. Received: NaN")
        scaled = np.ldexp(x, -self.exponent)
        vanished = (scaled == 0) & (x != 0)  # too small for float64 now, yet floor asks for the sign
        scaled = np.where(vanished, np.copysign(np.finfo(np.float64).tiny, x), scaled)
        return np.clip(round_to_integer(scaled, self.rounding), self.min_int, self.max_int).astype(np.int64)

    def to_float(self, q: np.ndarray) -> np.ndarray:
        """Return the values ``q * 2**exponent`` as float64 (exact up to 53 bits)."""
        return np.ldexp(np.asarray(q, np.float64), self.exponent)
