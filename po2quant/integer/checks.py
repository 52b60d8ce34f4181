"""Checks of the fields of a program: each raises one sentence that says what is wrong, what is right and what came."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection
from typing import Any

import numpy as np

from po2quant.files import one_line

INT32_MAX = 2**31 - 1
"""Largest size, step and number of elements: the C kernels count in 32 bits."""

MAX_NAME_LENGTH = 256
MAX_RANK = 8
"""Axes of a tensor without the batch, at most; LiteRT and C loops stop near there."""

LONGEST_SHOWN = 100

Shape = tuple[int, ...]
Padding = tuple[tuple[int, int], tuple[int, int]]


def shown(value: Any) -> str:
    """Return a value as an error shows it: on one line and cut."""
    return one_line(reprlib.repr(value), LONGEST_SHOWN)


def invalid(subject: str, valid: str, value: Any) -> ValueError:
    """Return the error that says what a subject must be."""
    return ValueError(f"{subject} must be {valid}. Received: {shown(value)}")


def checked_type(subject: str, value: Any, kind: type) -> Any:
    """Return a value of a type."""
    if not isinstance(value, kind):
        raise invalid(subject, f"a {kind.__name__}", value)
    return value


def checked_name(subject: str, value: Any) -> str:
    """Return a name that is printable text of a bounded length."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_LENGTH or not value.isprintable():
        raise invalid(subject, f"1 to {MAX_NAME_LENGTH} printable characters", value)
    return value


def checked_choice(subject: str, value: Any, choices: Collection[str]) -> str:
    """Return a text that is one of a few."""
    if not isinstance(value, str) or value not in choices:
        raise invalid(subject, f"one of {', '.join(choices)}", value)
    return value


def checked_integer(subject: str, value: Any, low: int, high: int = INT32_MAX) -> int:
    """Return an integer of a range."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise invalid(subject, f"an integer in [{low}, {high}]", value)
    return int(value)


def checked_integers(subject: str, values: Any, low: int, count: int) -> tuple[int, ...]:
    """Return a tuple of so many integers, each ``low`` or more."""
    if not isinstance(values, tuple) or len(values) != count:
        raise invalid(subject, f"a tuple of {count} integers", values)
    return tuple(checked_integer(subject, value, low) for value in values)


def checked_shape(subject: str, shape: Any) -> Shape:
    """Return sizes of axes whose product is below 2**31."""
    if not isinstance(shape, tuple) or not 1 <= len(shape) <= MAX_RANK:
        raise invalid(subject, f"a tuple of 1 to {MAX_RANK} sizes", shape)
    sizes = tuple(checked_integer(subject, size, 1) for size in shape)
    check_elements(subject, sizes)
    return sizes


def check_elements(subject: str, *shapes: Shape) -> None:
    """Raise ValueError unless shapes have fewer than 2**31 elements in all."""
    elements = sum(map(math.prod, shapes))
    if elements > INT32_MAX:
        raise invalid(subject, f"at most {INT32_MAX} elements", elements)


def checked_padding(subject: str, padding: Any) -> Padding:
    """Return ``((top, bottom), (left, right))``, each 0 or more."""
    if not isinstance(padding, tuple) or len(padding) != 2:
        raise invalid(subject, "two pairs of integers", padding)
    rows, columns = (checked_integers(subject, around, 0, 2) for around in padding)
    return (rows[0], rows[1]), (columns[0], columns[1])


def checked_array(subject: str, values: Any, low: int, high: int) -> np.ndarray:
    """Return a copy of integers of a range, as int64.

    Args:
        subject: what they are, for errors.
        values: an array, or what makes one.
        low: smallest valid integer.
        high: largest valid integer.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or not array.size:
        raise ValueError(f"{subject} must be integers. Received: {array.dtype.name} of shape {shown(array.shape)}")
    check_elements(subject, array.shape)
    smallest, largest = int(array.min()), int(array.max())
    if smallest < low or largest > high:
        raise ValueError(f"{subject} must be in [{low}, {high}]. Received: {smallest} to {largest}")
    return array.astype(np.int64)
