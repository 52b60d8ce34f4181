"""Text files, JSON and CSV, that are either the old or the new one, never half of it."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LONGEST_SHOWN = 200
"""Characters of a value that an error shows."""
READ_OF_LONG_TEXT = 16
"""Of a longer text, so many times the characters that are shown are looked at: its beginning and its end."""
JSON_BYTES, JSON_DEPTH = 16 * 2**20, 64
CSV_BYTES = 64 * 2**20
"""Most that a JSON or CSV file of a run may hold."""
LARGEST_WHOLE_NUMBER = 2**63
"""JSON's whole numbers must lie below, in magnitude: what 64 bits hold."""
DISK_FULL = os.strerror(errno.ENOSPC)


def one_line(text: object, limit: int = LONGEST_SHOWN) -> str:
    r"""Return a text as one line for people: white space collapsed, unprintable characters escaped, and cut.

    Args:
        text: any text, or what ``str`` makes one of.
        limit: most characters. A longer text loses its middle: an error names its subject first, its reason last.

    Returns:
        at most ``limit`` printable characters.

    Example:
        >>> one_line("a\n\x00b"), one_line("0123456789", 7)
        ('a \\x00b', '012...9')
    """
    text = str(text)
    if len(text) > READ_OF_LONG_TEXT * limit:  # a stranger's text may have millions of characters
        text = text[: READ_OF_LONG_TEXT * limit // 2] + text[-READ_OF_LONG_TEXT * limit // 2 :]
    line = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in " ".join(text.split())
    )
    if len(line) <= limit:
        return line
    tail = max(limit - 3, 0) // 3
    return f"{line[: limit - 3 - tail]}...{line[len(line) - tail :]}"[:limit]


@contextlib.contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put that file in the place of ``path`` once the block is done.

    The temporary path keeps the suffixes, which some writers look at. A block that raises leaves ``path`` alone.

    Raises:
        OSError: what the block or the disk raises, and then it names ``path``.
    """
    temporary = path.with_name(f"partial-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        if DISK_FULL in str(error):  # HDF5 has words for it, and no number
            raise OSError(errno.ENOSPC, DISK_FULL, str(path)) from error
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # the block's own error counts
            temporary.unlink(missing_ok=True)


def require_room(path: Path, size_bytes: int) -> None:
    """Raise OSError where the disk of a file has no room for so much, as HDF5 may end the process then."""
    if shutil.disk_usage(path.parent).free < size_bytes:
        raise OSError(errno.ENOSPC, DISK_FULL, str(path))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that lock a folder waiting until the block is done; where there is no flock, do nothing."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def open_replacement(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that takes the place of ``path`` once it is on disk."""
    with replaced_whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, data: Any) -> None:
    """Write JSON, all or nothing."""
    text = json.dumps(data, indent=1) + "\n"
    with open_replacement(path) as file:
        file.write(text)


def read_json(path: Path, content: str) -> dict[str, Any]:
    """Return the JSON object of a file that should hold ``content``.

    Raises:
        ValueError: where it holds another or none.
    """
    try:
        data = parse_json(read_text(path, JSON_BYTES))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be {content}, as JSON. Received: {one_line(_reason(error))}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} must be {content}, as a JSON object. Received: {type(data).__name__}")
    return data


def parse_json(text: str) -> Any:
    """Return what JSON text says, where every reader would understand the same.

    Raises:
        ValueError: for text that is no JSON, a key that appears twice, numbers that are not finite or need more than
            64 bits, and lists and objects that lie more than :data:`JSON_DEPTH` deep in each other.
    """
    try:
        data = json.loads(
            text, object_pairs_hook=unique_keys, parse_constant=_no_number, parse_float=_finite, parse_int=_whole
        )
    except RecursionError:
        raise ValueError(f"lists and objects more than {JSON_DEPTH} deep in each other") from None
    level, depth = [data], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        if (depth := depth + 1) > JSON_DEPTH:
            raise ValueError(f"lists and objects more than {JSON_DEPTH} deep in each other")
        level = [item for box in level for item in (box.values() if isinstance(box, dict) else box)]
    return data


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's keys and values, or raise ValueError for a key that appears twice."""
    known: dict[str, Any] = {}
    for key, value in pairs:
        if key in known:
            raise ValueError(f"key {one_line(key)!r} appears twice")
        known[key] = value
    return known


def _no_number(text: str) -> float:
    raise ValueError(f"a number that is not finite: {one_line(text)}")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _whole(text: str) -> int:
    digits = len(str(LARGEST_WHOLE_NUMBER))
    if len(text.lstrip("-")) > digits or abs(int(text)) >= LARGEST_WHOLE_NUMBER:
        raise ValueError(f"a whole number of more than 64 bits: {one_line(text)}")
    return int(text)


def read_text(path: Path, limit: int) -> str:
    """Return the UTF-8 text of a plain file of at most ``limit`` bytes.

    Raises:
        ValueError: for another file; OSError where there is none or it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("a directory or device, no plain file")
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"more than {limit} bytes")
    return data.decode("utf-8")


def _reason(error: Exception) -> str:
    """Return why a file cannot be read, without its name."""
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are no UTF-8 text, at {error.start}"
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV with a header of all their keys, all or nothing."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open_replacement(path) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path, missing_ok: bool = False) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header; none, where that is said to be right, if there is no file.

    Raises:
        ValueError: where it is no CSV file, or has rows that are shorter or longer than its header.
    """
    if missing_ok and not path.exists():
        return []
    try:
        lines = csv.reader(io.StringIO(read_text(path, CSV_BYTES), newline=""), strict=True)
        header, *rows = [line for line in lines if line] or [[]]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} must be a CSV file. Received: {one_line(_reason(error))}") from None
    if ragged := [row for row in rows if len(row) != len(header)]:
        raise ValueError(
            f"{path} must be a CSV file with {len(header)} values in each row, as its header has. "
            f"Received: {len(ragged[0])}, {one_line(ragged[0])}"
        )
    return [dict(zip(header, row, strict=True)) for row in rows]
