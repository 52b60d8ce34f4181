"""Arrays in ``.npz`` files: what each declares is compared with what is expected before it is read."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.shared.archives import Archive
from benchmarks.shared.budgets import FEATURE_BYTES
from po2quant.files import one_line

HEADER_BYTES = 2**14
"""Most that stands before the numbers of an array: numpy reads no header of more than 10000 characters."""
_KINDS = {"f": "floats", "i": "integers", "U": "text"}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Expected:
    """What an array must be.

    Args:
        kind: numpy's letter: ``"f"`` for floats of any width, ``"i"`` for integers, ``"U"`` for text.
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
        sizes = len(shape) == len(self.shape) and zip(shape, self.shape, strict=True)
        return dtype.kind == self.kind and bool(sizes) and all(wanted in (None, size) for size, wanted in sizes)

    def __str__(self) -> str:
        return f"{_KINDS[self.kind]} of the shape ({', '.join('any' if n is None else str(n) for n in self.shape)})"


def read_npz(path: Path, expected: Mapping[str, Expected]) -> dict[str, np.ndarray]:
    """Return the named arrays of a ``.npz`` file, read-only; nothing is unpickled.

    Raises:
        ValueError: where the file is damaged, or an array is absent or not as expected.
    """
    limit_bytes = HEADER_BYTES + max(wanted.limit_bytes for wanted in expected.values())
    with Archive(path, limit_bytes) as archive:
        return {key: _read_npy(archive, f"{key}.npy", wanted) for key, wanted in expected.items()}


def _read_npy(archive: Archive, name: str, expected: Expected) -> np.ndarray:
    file = io.BytesIO(archive.read(name, HEADER_BYTES + expected.limit_bytes))
    try:
        shape, is_fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    except Exception as error:  # a damaged header may raise any
        reason = one_line(str(error) or type(error).__name__)
        raise ValueError(f"{name} of {archive.path} must be an array. Received: {reason}") from error
    content = file.getbuffer()[file.tell() :]
    is_whole = min(shape, default=0) >= 0 and math.prod(shape) * dtype.itemsize == len(content)
    if not expected.fits(dtype, shape) or not is_whole:
        received = one_line(f"{dtype} of {shape}, and {len(content)} bytes")
        raise ValueError(f"{name} of {archive.path} must be {expected}, whole. Received: {received}")
    codes = np.frombuffer(content, np.dtype(np.uint32).newbyteorder(dtype.byteorder)) if dtype.kind == "U" else ()
    if len(codes) and codes.max() > sys.maxunicode:  # numpy would make strings of them that crash Python
        raise ValueError(f"{name} of {archive.path} must be text. Received: the character number {codes.max():,}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
