"""Progress of long work: one line on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 30.0
"""Between two plain lines; work that ends before writes none."""


class ProgressLine:
    """How far a piece of work is, and a message; this one shows nothing."""

    def update(self, completed: float | None = None, message: str | None = None) -> None:
        """Move the line to ``completed`` and change the message; None leaves either as it is."""

    def advance(self, steps: float = 1) -> None:
        """Move the line on."""


SILENT = ProgressLine()


class _Bar(ProgressLine):
    """A line on a terminal that changes in place."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress, self._task = progress, progress.add_task(title, total=total, message="")

    def update(self, completed: float | None = None, message: str | None = None) -> None:
        if message:
            self._progress.update(self._task, message=message)
        self._progress.update(self._task, completed=completed)

    def advance(self, steps: float = 1) -> None:
        self._progress.advance(self._task, steps)


class _PlainLines(ProgressLine):
    """Lines for a log: one every :data:`PLAIN_SECONDS`."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._completed, self._message = title, total, 0.0, ""
        self._written = time.monotonic()

    def update(self, completed: float | None = None, message: str | None = None) -> None:
        self._completed = self._completed if completed is None else completed
        self._message = message or self._message
        if time.monotonic() - self._written >= PLAIN_SECONDS:
            self._written = time.monotonic()
            place = f"{round(self._completed, 1):g} of {self._total}"
            sys.stderr.write(f"{self._title}: {place} {self._message}".rstrip() + "\n")
            sys.stderr.flush()

    def advance(self, steps: float = 1) -> None:
        self.update(self._completed + steps)


@contextmanager
def progress_line(title: str, total: int) -> Iterator[ProgressLine]:
    """Show progress on standard error while the block runs."""
    if not sys.stderr.isatty():
        yield _PlainLines(title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[message]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, title, total)
