"""Zip archives and the arrays in them, read within a budget that is known before memory is taken."""

from __future__ import annotations

import collections
import contextlib
import io
import itertools
import math
import mmap
import os
import re
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from po2quant.files import one_line

SMALL_BYTES, EXPANSION, LARGEST_BYTES = 64 * 2**20, 4, 2**30
"""What a file unpacks to: see :func:`memory_budget`."""
LARGEST_MEMBERS = 2**16
"""Members of an archive, each of which takes memory before any is read."""
DAMAGES = (
    *(OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError),
    *(MemoryError, SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What the parsers of zip, npy and HDF5 files raise for damaged ones."""

_EXPLAINED = (ValueError, OSError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
_ENCRYPTED = 1
_ENTRY_SIGNATURE = b"PK\x01\x02"
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def memory_budget(path: Path) -> int:
    """Return the bytes that a file's arrays may take in memory.

    Equation:
        min(max(4 * size, 64 MiB), 1 GiB), with the size of the file: trained weights hardly compress, so that a small
        file that claims more holds nothing of use.
    """
    return min(max(EXPANSION * os.path.getsize(path), SMALL_BYTES), LARGEST_BYTES)


def check_member_count(path: Path, most: int) -> None:
    """Raise ValueError where a zip archive has more members than ``most``; ``zipfile`` would list them all first."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        entries = re.finditer(re.escape(_ENTRY_SIGNATURE), content)
        count = sum(1 for _ in itertools.islice(entries, most + 1))
        del entries  # it holds the map open
    if count > most:
        raise ValueError(f"it has more than {most} members")


@contextlib.contextmanager
def open_zip(path: Path, budget: int) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive of at most :data:`LARGEST_MEMBERS` differently named members, within a budget in bytes.

    Raises:
        ValueError: for another one; what :data:`DAMAGES` lists for a damaged file.
    """
    check_member_count(path, LARGEST_MEMBERS)
    with zipfile.ZipFile(path) as archive:
        name, count = max(collections.Counter(archive.namelist()).items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            raise ValueError(f"{name!r} is in it twice")
        claimed = sum(info.file_size for info in archive.infolist())
        if claimed > budget:
            raise ValueError(f"its members claim {claimed} bytes, more than the {budget} that they may take")
        yield archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the content of a member of an archive that :func:`open_zip` opened; it has as many bytes as it claims.

    Raises:
        ValueError: for one that is encrypted or packed in an unusual way; what :data:`DAMAGES` lists for a missing or
            damaged one.
    """
    info = archive.getinfo(name)
    if info.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name!r} in it is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} in it must be stored or deflated. Received: compression {info.compress_type}")
    with archive.open(info) as file:
        return file.read(info.file_size)  # without a size, it would unpack all that there is, whatever it claims


Check = Callable[[str, tuple[int, ...], np.dtype], None]


def read_npz(
    path: Path, check: Check | None = None, budget: int | None = None, what: str | None = None
) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.npz`` file; nothing in it is unpickled.

    Args:
        path: the file.
        check: is given name, shape and dtype of each array before it is read, and raises ValueError for a wrong one.
        budget: bytes that all arrays together may take; by default :func:`memory_budget`.
        what: what an error says before the reason, with the file's name; by default that it must be such a file.

    Returns:
        booleans, numbers or text by name.

    Raises:
        ValueError: in one line that names the file, where it is missing, damaged or not as said above.
    """
    try:
        with open_zip(path, memory_budget(path) if budget is None else budget) as archive:
            members = {name: read_member(archive, name) for name in archive.namelist()}
        return {name: _array(name, members.pop(f"{name}.npy"), check) for name in map(_stem, list(members))}
    except DAMAGES as error:
        what = what or f"{path} must be a .npz file of arrays"
        raise ValueError(f"{what}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """Return why a file cannot be read, in one line."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else getattr(error, "strerror", None) or error
    says_why = isinstance(error, _EXPLAINED) and not isinstance(error, RecursionError)
    return (one_line(text) if says_why else "") or f"damage ({type(error).__name__})"


def _stem(name: str) -> str:
    if not name.endswith(".npy"):
        raise ValueError(f"{name!r} in it, which is no array")
    return name.removesuffix(".npy")


def _array(name: str, data: bytes, check: Check | None) -> np.ndarray:
    file = io.BytesIO(data)
    try:
        if (version := np.lib.format.read_magic(file)) not in _HEADER_READERS:
            raise ValueError(f"format {version}")
        shape, _, dtype = _HEADER_READERS[version](file)
    except DAMAGES as error:
        raise ValueError(f"array {name!r} in it has a header that cannot be read: {reason(error)}") from None
    if dtype.kind not in "biufU":
        raise ValueError(f"array {name!r} in it must hold numbers or text. Received: dtype={dtype}")
    if check is not None:
        check(name, shape, dtype)
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"array {name!r} in it claims the shape {shape} of {dtype}, which its size contradicts")
    if dtype.kind == "U":
        codes = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder), offset=file.tell())
        if codes.max(initial=0) > sys.maxunicode:  # numpy would make strings of them that crash Python
            raise ValueError(f"array {name!r} in it must hold text. Received: the character number {codes.max()}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
