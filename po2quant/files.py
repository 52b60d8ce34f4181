"""Text files, JSON and CSV, that are either the old or the new one, never half of it."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put that file in the place of ``path`` once the block is done.

    The temporary path keeps the suffixes, which some writers look at. A block that raises leaves ``path`` alone.
    """
    temporary = path.with_name(f"partial-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be {content}, as JSON. Received: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} must be {content}, as a JSON object. Received: {type(data).__name__}")
    return data


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV with a header of all their keys, all or nothing."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open_replacement(path) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path, missing_ok: bool = False) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header; none, where that is said to be right, if there is no file."""
    if missing_ok and not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        try:
            return list(csv.DictReader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} must be a CSV file: {error}") from None
