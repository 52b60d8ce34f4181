"""Progress of long work: one line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from po2quant.log import CONSOLE, LOG, SHOWN

STEP_SECONDS, PLAIN_SECONDS = 5.0, 30.0
"""From one plain line to the next, at least: where a step was done, and where none was."""


class ProgressLine:
    """How far a piece of work is, and a message; this one shows nothing."""

    def update(self, completed: float | None = None, message: str | None = None) -> None:
        """Move the line to ``completed`` and change the message; None leaves either as it is."""

    def advance(self, steps: float = 1) -> None:
        """Move the line on."""


SILENT = ProgressLine()


class _Bar:
    """A line on a terminal that changes in place."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress, self._task = progress, progress.add_task(title, total=total, message="")

    def show(self, completed: float, message: str) -> None:
        self._progress.update(self._task, completed=completed, message=message)


class _Lines(ProgressLine):
    """Lines for a log, and a bar beside them where there is one."""

    def __init__(self, title: str, total: int, bar: _Bar | None) -> None:
        self._title, self._total, self._bar = title, total, bar
        self._completed, self._message = 0.0, ""
        self._written, self._written_step = time.monotonic(), 0

    def update(self, completed: float | None = None, message: str | None = None) -> None:
        self._completed = self._completed if completed is None else completed
        self._message = message or self._message
        if self._bar:
            self._bar.show(self._completed, self._message)
        is_next = int(self._completed + 1e-6) > self._written_step
        if time.monotonic() - self._written >= (STEP_SECONDS if is_next else PLAIN_SECONDS):
            self._write()

    def advance(self, steps: float = 1) -> None:
        self.update(self._completed + steps)

    def end(self) -> None:
        """Write how far the work came, unless the last line says so or it took no time."""
        if self._completed > self._written_step and time.monotonic() - self._written >= STEP_SECONDS / 5:
            self._write()

    def _write(self) -> None:
        self._written, self._written_step = time.monotonic(), int(self._completed + 1e-6)
        place = f"{round(self._completed, 1):g} of {self._total}"
        line = f"{self._title}: {place}{', ' if self._message else ''}{self._message}"
        LOG.info(line, extra=SHOWN if self._bar else None)


@contextmanager
def progress_line(title: str, total: int) -> Iterator[ProgressLine]:
    """Show progress on standard error while the block runs, and log it."""
    with contextlib.ExitStack() as stack:
        bar = None
        if sys.stderr.isatty() and not CONSOLE.is_quiet:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[message]}"),
                TimeRemainingColumn(),
            )
            progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
            bar = _Bar(progress, title, total)
        lines = _Lines(title, total, bar)
        yield lines
        lines.end()
