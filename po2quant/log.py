"""What is said while work goes on: Python's logger ``po2quant``.

It writes to standard error, and what a command was asked for to standard output. A handler of your own gets everything,
and ``po2quant.log.CONSOLE.is_quiet = True`` leaves warnings and results.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

RESULT, SHOWN = {"is_result": True}, {"is_shown": True}
"""What marks a record of what was asked for, and one that a terminal has been shown in another form."""


class Console(logging.Handler):
    """Writes lines to the standard streams as they are at that moment.

    Attributes:
        is_quiet: whether results and warnings alone are shown.
        results_aside: whether results go to standard error too, since standard output is for a program to read.
    """

    is_quiet, results_aside = False, False

    def stream(self, is_result: bool) -> TextIO:
        """Return where a line goes."""
        return sys.stdout if is_result and not self.results_aside else sys.stderr

    def shows(self, is_result: bool, level: int = logging.INFO) -> bool:
        """Return whether a result, or another line, is shown."""
        return not self.is_quiet or level >= logging.WARNING or (is_result and not self.results_aside)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what goes wrong with the stream is raised."""
        is_result = getattr(record, "is_result", False)
        if getattr(record, "is_shown", False) or not self.shows(is_result, record.levelno):
            return
        stream = self.stream(is_result)
        stream.write(self.format(record) + "\n")
        stream.flush()


CONSOLE = Console(logging.INFO)
LOG = logging.getLogger("po2quant")
LOG.setLevel(logging.DEBUG)
LOG.propagate = False
LOG.addHandler(CONSOLE)


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        CONSOLE.setLevel(value) if name == "level" else setattr(CONSOLE, name, value)


@contextlib.contextmanager
def console(**settings: Any) -> Iterator[None]:
    """Change attributes of :data:`CONSOLE`, such as its level, while the block runs."""
    before = {name: getattr(CONSOLE, name) for name in settings}
    try:
        _set(settings)
        yield
    finally:
        _set(before)


@contextlib.contextmanager
def kept_in(path: Path) -> Iterator[None]:
    """Add everything that is said while the block runs to a file, with the time."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()
