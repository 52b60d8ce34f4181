"""Wrong inputs by the thousand, in processes that may die of them."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.studies.robustness.cases import InputClass
from benchmarks.studies.robustness.judge import ACCEPTED, OVER_BUDGET, REFUSED, TRACEBACK, VERDICTS, Finding
from benchmarks.studies.robustness.worker import READING

START_SECONDS, PATIENCE = 900, 15
"""Wall time until a process is ready, and how many times its processor time an input may take of it."""

MEMORY_DISK = Path("/dev/shm")
ROOT = Path(__file__).parents[3]


@dataclasses.dataclass
class Tally:
    """What became of the inputs of a class.

    Args:
        counts: inputs by verdict.
        slowest_seconds: processor time of the slowest.
        peak_bytes: most memory that one took.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    slowest_seconds: float = 0.0
    peak_bytes: int = 0

    def add(self, finding: Finding) -> None:
        """Count an input."""
        self.counts[finding.verdict] += 1
        self.slowest_seconds = max(self.slowest_seconds, finding.seconds)
        self.peak_bytes = max(self.peak_bytes, finding.memory_bytes)

    def row(self) -> dict[str, object]:
        """Return the numbers by the names of their columns."""
        counts = {verdict: self.counts[verdict] for verdict in VERDICTS}
        return {"inputs": self.counts.total(), **counts} | {
            "slowest_seconds": round(self.slowest_seconds, 2),
            "peak_mib": self.peak_bytes // 2**20,
        }


def run_class(
    kind: InputClass,
    seed: int,
    first: int,
    inputs: int,
    deadline: float,
    tell: Callable[[int, Finding], None],
) -> Tally:
    """Read wrong inputs until they or the time are up.

    Args:
        kind: their class.
        seed: of all of them.
        first: number of the first.
        inputs: how many.
        deadline: as :func:`time.monotonic` tells it.
        tell: is given the number of each that was neither refused nor accepted, and what became of it.
    """
    tally, following, end = Tally(), first, first + inputs
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as scratch:
        while following < end and time.monotonic() < deadline:
            last = min(following + kind.batch, end)
            for number, finding in _batch(kind, seed, following, last, deadline, Path(scratch)):
                following = number + 1
                if finding is None:
                    continue
                tally.add(finding)
                if finding.verdict not in (REFUSED, ACCEPTED):
                    tell(number, finding)
    return tally


def _batch(
    kind: InputClass, seed: int, first: int, last: int, deadline: float, scratch: Path
) -> Iterator[tuple[int, Finding | None]]:
    """Give the findings of one process, and of the input that it dies of or never ends; None for one not made."""
    words = [sys.executable, "-m", "benchmarks.studies.robustness.worker", kind.name, *map(str, (seed, first, last))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(scratch)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=scratch, env=environment)
    following, is_ready, is_reading = first, False, False
    try:
        for line in _lines(process, PATIENCE * kind.seconds, deadline):
            is_ready, is_reading = True, line == READING.strip()
            if not is_reading:
                fields = json.loads(line)
                following = fields.pop("number") + 1
                yield following - 1, Finding(**fields)
        if following == last or time.monotonic() >= deadline:
            return
        if not is_ready:
            raise RuntimeError(f"the process that reads inputs of class {kind.name} does not start")
        if not is_reading:
            yield following, None
        elif process.poll() is None:
            yield following, Finding(OVER_BUDGET, f"not done after {PATIENCE * kind.seconds:.0f} s")
        else:
            yield following, Finding(TRACEBACK, f"the process ended with exit code {process.returncode}")
    finally:
        process.kill()
        process.wait()


def _lines(process: subprocess.Popen[bytes], seconds: float, deadline: float) -> Iterator[bytes]:
    """Give the lines of a process as they come, until its end or until none has come for too long."""
    buffer, wait = b"", START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(min(wait, max(deadline - time.monotonic(), 0.0))):
            chunk = os.read(process.stdout.fileno(), 2**16)
            if not chunk:
                process.wait()
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            yield from lines
            wait = seconds
