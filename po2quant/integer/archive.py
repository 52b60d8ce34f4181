"""Files of integer arrays and one JSON text: ``.npz`` without pickles, whose sizes are checked before they are read.

The array ``json`` holds the text's bytes.
"""

from __future__ import annotations

import json
import math
import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.files import one_line, parse_json, replaced_whole

MAX_INTEGERS = 2**25
"""Integers in all arrays of a file, at most: 33 million weights, far beyond a microcontroller."""

MAX_ARRAYS = 2**14
"""Arrays of a file, at most: four of each of 4096 operations."""

MAX_JSON_BYTES = 8 * 2**20
MAX_HEADER_BYTES = 2**10
"""Largest head of an array, which numpy pads to 64 or 128 bytes."""
MAX_FILE_BYTES = 8 * MAX_INTEGERS + 2 * MAX_JSON_BYTES
"""Bytes of all members, unpacked, at most; the second JSON's worth is for heads."""

INTEGER_TYPES: tuple[Any, ...] = tuple(map(np.dtype, (np.int8, np.int16, np.int32, np.int64)))
JSON, JSON_TYPE = "json", np.dtype(np.uint8)

_DAMAGES: tuple[type[Exception], ...] = (OSError, EOFError, TypeError, ValueError, OverflowError, MemoryError)
_DAMAGES += (RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)


def write_archive(path: Path, data: Any, arrays: dict[str, np.ndarray]) -> None:
    """Write JSON data and arrays to a file, which is either the old or the new one, never half of it.

    Each array is stored in the smallest signed type that holds it.

    Raises:
        ValueError: for more than a reader would take.
    """
    text = json.dumps(data).encode()
    _check_sizes(len(text), sum(array.size for array in arrays.values()))
    stored: dict[str, Any] = {name: array.astype(_smallest_type(array)) for name, array in arrays.items()}
    with replaced_whole(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, json=np.frombuffer(text, JSON_TYPE), **stored)


def read_archive(path: str | os.PathLike[str], content: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the JSON data and the integer arrays of a file.

    Args:
        path: of the file.
        content: what it should be, for errors.

    Raises:
        ValueError: where it is missing, damaged, or larger than :data:`MAX_INTEGERS` and :data:`MAX_JSON_BYTES`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if len(members) != len(archive.infolist()) or JSON not in members or len(members) > MAX_ARRAYS + 1:
                raise ValueError(
                    f"arrays must be at most {MAX_ARRAYS}, have different names, and be accompanied by {JSON!r}. "
                    f"Received: {len(archive.infolist())} members"
                )
            if (declared := sum(member.file_size for member in members.values())) > MAX_FILE_BYTES:
                raise ValueError(f"arrays must have at most {MAX_FILE_BYTES} bytes in all. Received: {declared}")
            heads = {name: _head(archive, member) for name, member in members.items()}
            for name, (_, dtype) in heads.items():
                if (dtype != JSON_TYPE) if name == JSON else (dtype not in INTEGER_TYPES):
                    raise ValueError(f"arrays must be signed integers. Received: {dtype.name} in {one_line(name)}")
            sizes = {name: math.prod(shape) for name, (shape, _) in heads.items()}
            _check_sizes(sizes.pop(JSON), sum(sizes.values()))
            arrays = {name: _array(archive, member) for name, member in members.items()}
        return parse_json(arrays.pop(JSON).tobytes().decode()), arrays
    except _DAMAGES as error:
        raise damaged(path, content, error) from None


def damaged(path: str | os.PathLike[str], content: str, error: Exception) -> ValueError:
    """Return the error of a file that is not what it should be."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ValueError(f"{one_line(path)} is not {content}: {one_line(reason)}")


def _check_sizes(json_bytes: int, integers: int) -> None:
    if json_bytes > MAX_JSON_BYTES:
        raise ValueError(f"the JSON text must have at most {MAX_JSON_BYTES} bytes. Received: {json_bytes}")
    if integers > MAX_INTEGERS:
        raise ValueError(f"arrays must hold at most {MAX_INTEGERS} integers in all. Received: {integers}")


def _head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and type that a member declares, once its declared size agrees with them."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"arrays must be stored or deflated. Received: method {member.compress_type}")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"arrays must be of version 1.0 or 2.0. Received: {version}")
        shape, _, dtype = read_header(stream, max_header_size=MAX_HEADER_BYTES)
        size_bytes = stream.tell() + math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or dtype.hasobject or member.file_size != size_bytes:
        raise ValueError(
            f"an array must be plain and as large as it says, {size_bytes} bytes, no object or pickle. "
            f"Received: {member.file_size} bytes"
        )
    return shape, dtype


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _smallest_type(array: np.ndarray) -> np.dtype:
    low, high = array.min(initial=0), array.max(initial=0)
    return next(kind for kind in INTEGER_TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
