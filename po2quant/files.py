"""Files that are either the old or the new one, never half of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


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
def open_replacement(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that takes the place of ``path`` once it is on disk."""
    with replaced_whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
