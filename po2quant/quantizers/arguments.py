"""Checks of quantizers' arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from po2quant import scale as po2
from po2quant.bit_config import POWERS_OF_TWO
from po2quant.files import one_line
from po2quant.fixed_point import MAX_BITS, check_bits

INTEGER_RANGE = range(po2.MIN_EXPONENT + MAX_BITS, po2.MAX_EXPONENT + 1)
"""Positions of the binary point whose step is a normal number at every width."""

AXES = range(-8, 8)
"""Axes of the largest tensors that TensorFlow computes with."""

LONGEST_SHOWN = 100
"""Characters of an argument that an error shows."""


def check_flag(name: str, value: Any) -> bool:
    """Return an argument that is 0 or 1, or raise ValueError."""
    if not isinstance(value, (int, float, np.bool_, np.number)) or value not in (0, 1):
        raise ValueError(f"{name} must be 0 or 1. Received: {name}={shown(value)}")
    return bool(value)


def check_numbers(name: str, value: Any, low: float = -np.inf, high: float = np.inf, is_one: bool = False) -> Any:
    """Return a number, or lists of numbers, as floats, or raise ValueError.

    Args:
        name: of the argument.
        value: what must be finite numbers.
        low: the least that is valid.
        high: the largest that is valid.
        is_one: whether lists are refused.
    """
    try:
        numbers = np.asarray(value, float)
        is_valid = bool(numbers.size) and np.asarray(value).dtype.kind in "biuf" and not (is_one and numbers.ndim)
    except (ValueError, OverflowError):
        is_valid = False
    if not is_valid or not np.all(np.isfinite(numbers) & (low <= numbers) & (numbers <= high)):
        limits = "finite numbers" if np.isinf([low, high]).all() else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {limits}. Received: {name}={shown(value)}")
    return numbers.tolist()


def shown(value: Any) -> str:
    """Return an argument as an error shows it: in one line, and cut where it is long."""
    return one_line(repr(value), LONGEST_SHOWN)


def check_width(bits: Any, signed: bool) -> int:
    """Return a width that is one, or raise ValueError; one bit with a sign is another quantizer."""
    if signed and isinstance(bits, (int, np.integer)) and bits == 1:
        raise ValueError(
            "bits must be in [2, 32] where values have a sign: for one bit use qkeras.binary, or keep_negative=0. "
            f"Received: bits={shown(bits)}"
        )
    return check_bits(bits, signed)


def _is_exponent(value: Any) -> bool:
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return is_integer and po2.MIN_EXPONENT <= value <= po2.MAX_EXPONENT


def is_axis(scale_axis: Any) -> bool:
    """Return whether it is None, an axis or several."""
    axes = scale_axis if isinstance(scale_axis, (tuple, list)) else (scale_axis,)
    return scale_axis is None or all(type(axis) is int and axis in AXES for axis in axes)


def check_exponents(smallest: Any, largest: Any) -> None:
    """Raise ValueError where limits of exponents are none."""
    for name, exponent in (("min_po2_exponent", smallest), ("max_po2_exponent", largest)):
        if exponent is not None and not _is_exponent(exponent):
            limits = f"[{po2.MIN_EXPONENT}, {po2.MAX_EXPONENT}]"
            raise ValueError(f"{name} must be None or an integer in {limits}. Received: {name}={shown(exponent)}")
    if smallest is not None and largest is not None and smallest > largest:
        raise ValueError(
            "min_po2_exponent must not exceed max_po2_exponent. "
            f"Received: min_po2_exponent={smallest}, max_po2_exponent={largest}"
        )


def check_scale(name: str, scale: Any, unit: float, alpha: Any) -> Any:
    """Return the value of one LSB that a scale in some unit means, as floats, or raise ValueError."""
    if not isinstance(alpha, str):
        raise ValueError(f"{name} needs alpha='auto', 'auto_po2' or 'learned_po2'. Received: alpha={alpha!r}")
    scale = np.asarray(check_numbers(name, scale, 0.0))
    lsb = scale * unit
    if alpha in POWERS_OF_TWO:
        if np.any(np.frexp(scale)[0] != 0.5):
            raise ValueError(f"{name} must be powers of two with alpha={alpha!r}. Received: {scale.tolist()}")
        smallest, largest = 2.0**po2.MIN_EXPONENT, 2.0**po2.MAX_EXPONENT
        if not np.all((smallest <= lsb) & (lsb <= largest)):
            limits = f"[{smallest / unit:.3g}, {largest / unit:.3g}]"
            raise ValueError(f"{name} must lie in {limits}. Received: {scale.tolist()}")
    return lsb.tolist()
