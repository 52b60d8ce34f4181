"""How a study's command ends that cannot go on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

WRONG, INTERRUPTED = 2, 130


@contextmanager
def ending_in_words(
    parser: argparse.ArgumentParser, stopped: str = "stopped; the same command goes on"
) -> Iterator[None]:
    """End the process with one sentence where the block raises ValueError or is interrupted.

    Args:
        parser: of the command.
        stopped: what is said after Ctrl-C.
    """
    try:
        yield
    except ValueError as error:
        parser.exit(WRONG, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f"{stopped}\n")
