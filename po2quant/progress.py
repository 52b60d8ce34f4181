"""One line of progress, quiet where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class ProgressLine:
    """A bar with a message; does nothing unless standard error is a terminal."""

    def __init__(self, progress: Progress | None = None, task: TaskID = TaskID(0)) -> None:
        self._progress, self._task = progress, task

    def update(self, completed: float | None = None, message: str | None = None) -> None:
        """Move the bar and change the message."""
        if self._progress is None:
            return
        if message:
            self._progress.update(self._task, message=message)
        self._progress.update(self._task, completed=completed)

    def advance(self, steps: float = 1) -> None:
        """Move the bar on."""
        if self._progress is not None:
            self._progress.advance(self._task, steps)


SILENT = ProgressLine()


@contextmanager
def progress_line(title: str, total: int) -> Iterator[ProgressLine]:
    """Show a progress line on standard error while the block runs."""
    if not sys.stderr.isatty():
        yield SILENT
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[message]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield ProgressLine(progress, progress.add_task(title, total=total, message=""))
