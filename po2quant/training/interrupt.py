"""Ctrl-C that does not get lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

REPEAT_SECONDS = 5.0


@contextlib.contextmanager
def insistent_interrupt(repeat_seconds: float = REPEAT_SECONDS) -> Iterator[None]:
    """Raise KeyboardInterrupt at Ctrl-C, and again after a while as long as the block goes on.

    Python drops an exception that comes up in a finalizer, and TensorFlow has many of them: a single one may get lost
    and the training go on.

    Args:
        repeat_seconds: time to leave the block; longer than what its ``finally`` clauses need.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return

    def interrupt(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, repeat_seconds)
        raise KeyboardInterrupt

    handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
