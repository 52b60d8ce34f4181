"""The C integers that hold tensors, and how integers are written in C."""

from __future__ import annotations

import numpy as np

from po2quant.integer.operations import Tensor

DTYPES = tuple(map(np.dtype, ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")))


def smallest_dtype(low: int, high: int) -> np.dtype:
    """Return the smallest C integer that holds a range; of one size, the signed one if it does."""
    return next(dtype for dtype in DTYPES if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max)


def tensor_dtype(tensor: Tensor) -> np.dtype:
    """Return the C integer that holds a tensor."""
    return smallest_dtype(tensor.format.min_int, tensor.format.max_int)


def short_name(dtype: np.dtype) -> str:
    """Return the name of a type in the kernels, e.g. ``'u8'``."""
    return f"{dtype.kind}{8 * dtype.itemsize}"


def c_integer(value: int) -> str:
    """Return a constant that C reads as this integer, in parentheses where it is negative.

    Example:
        >>> c_integer(7), c_integer(-7), c_integer(-(2**31)), c_integer(2**31)
        ('7', '(-7)', '(-2147483647 - 1)', 'INT64_C(2147483648)')
    """
    if value < 0:
        smallest = -(2**63) if value < -(2**31) else -(2**31)
        return f"({c_integer(value + 1)[1:-1]} - 1)" if value == smallest else f"(-{c_integer(-value)})"
    return str(value) if value < 2**31 else f"INT64_C({value})"
