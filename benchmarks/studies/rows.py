"""A file of measured rows, each of which is run once: what tells rows apart are the values of a few columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from po2quant.files import locked, read_csv, write_csv


def key_of(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """Return what tells a row from others."""
    return tuple(row[column] for column in columns)


def has_row(path: Path, key: tuple[str, ...], columns: Sequence[str]) -> bool:
    """Return whether a results file, which may be missing, has the row of a key."""
    return any(key_of(row, columns) == key for row in read_csv(path, missing_ok=True))


def add_row(path: Path, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Bring a row into a results file that other processes may write too, in the place of the old row of its key.

    Rows are in the order of their keys.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        fresh = {name: "" if value is None else str(value) for name, value in row.items()}
        kept = [row for row in read_csv(path, missing_ok=True) if key_of(row, columns) != key_of(fresh, columns)]
        rows = [*kept, fresh]
        write_csv(path, sorted(rows, key=lambda row: key_of(row, columns)))


def replace_rows(path: Path, fresh: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Put the rows of one key into a results file, in the place of its old ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = key_of(fresh[0], columns)
    kept = [row for row in read_csv(path, missing_ok=True) if key_of(row, columns) != key]
    write_csv(path, [*kept, *fresh])
