"""Arrays in ``.npz`` files: what each declares is compared with what is expected before it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from po2quant import archives
from po2quant.data.budgets import FEATURE_BYTES

HEADER_BYTES = 2**14
"""Most that stands before the numbers of an array: numpy reads no header of more than 10000 characters."""
_KINDS = {"f": "floats", "i": "integers", "u": "unsigned integers", "U": "text"}


@dataclass(frozen=True)
class Expected:
    """What an array must be.

    Args:
        kind: numpy's letter: ``"f"`` for floats of any width, ``"i"`` for integers, ``"u"`` for unsigned ones, ``"U"``
            for text.
        shape: a size for each axis; None leaves it open.
        limit_bytes: most that the array may take.
    """

    kind: str
    shape: tuple[int | None, ...]
    limit_bytes: int = FEATURE_BYTES

    @classmethod
    def like(cls, shape: tuple[int, ...], dtype: type) -> Expected:
        """Return the expectation of an array of one shape, with room for one type."""
        return cls(np.dtype(dtype).kind, shape, math.prod(shape) * np.dtype(dtype).itemsize)

    def fits(self, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
        """Return whether an array of a type and a shape is expected."""
        is_wanted = len(shape) == len(self.shape) and all(map(_is_size, shape, self.shape))
        return dtype.kind == self.kind and is_wanted and math.prod(shape) * dtype.itemsize <= self.limit_bytes

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{_KINDS[self.kind]} of the shape ({sizes}) in at most {self.limit_bytes:,} bytes"


def _is_size(size: int, wanted: int | None) -> bool:
    return size >= 0 and wanted in (None, size)


def read_npz(path: Path, expected: Mapping[str, Expected]) -> dict[str, np.ndarray]:
    """Return the named arrays of a ``.npz`` file; nothing is unpickled.

    Raises:
        ValueError: where the file is damaged, or an array is absent or not as expected.
    """

    def check(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        if name in expected and not expected[name].fits(dtype, shape):
            raise ValueError(f"{name} must be {expected[name]}, not {dtype} of {shape}")

    budget = sum(HEADER_BYTES + wanted.limit_bytes for wanted in expected.values())
    what = f"arrays must be {' and '.join(expected)}, whole. Received: {path}"
    arrays = archives.read_npz(path, check, budget, what)
    if missing := [name for name in expected if name not in arrays]:
        raise ValueError(f"{what} without {missing[0]}")
    return {name: arrays[name] for name in expected}
