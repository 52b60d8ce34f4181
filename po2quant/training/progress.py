"""One line of progress, quiet where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressLine:
    """A bar with a message; does nothing unless standard error is a terminal."""

    def __init__(self, progress: Progress | None, task: int | None) -> None:
        self._progress, self._task = progress, task

    def update(self, completed: float | None = None, message: str | None = None) -> None:
        """Move the bar and change the message."""
        if self._progress is not None:
            self._progress.update(self._task, completed=completed, **({"message": message} if message else {}))

    def advance(self, steps: float = 1) -> None:
        """Move the bar on."""
        if self._progress is not None:
            self._progress.advance(self._task, steps)


SILENT = ProgressLine(None, None)


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


class BatchProgress(keras.callbacks.Callback):
    """Moves a progress line by one epoch over the steps of an epoch."""

    def __init__(self, line: ProgressLine) -> None:
        super().__init__()
        self._line = line

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the line by one step."""
        self._line.advance(1.0 / max(self.params.get("steps") or 1, 1))
