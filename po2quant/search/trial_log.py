"""``trials.csv``: one row per finished trial, on disk before the next trial starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from pathlib import Path

from po2quant.files import read_csv, write_csv

COMPLETED, FAILED = "completed", "failed"


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """What a finished trial leaves.

    Args:
        trial_id: Keras Tuner's id.
        status: ``"completed"`` or ``"failed"``.
        score: metric times the factor of its cost; what the search maximises.
        metric: best validation value over the trial's epochs.
        size_bits: size of the trial's configuration.
        size_ratio: its cost over the reference's, which is the ratio of their sizes where size is what it costs.
        seconds: wall time.
        error: what went wrong, empty where nothing did.
        standard_error: of the metric, where it is known.
        repeats: how often it was trained; then metric and score are means.
    """

    trial_id: str
    status: str
    score: float | None
    metric: float | None
    size_bits: int
    size_ratio: float
    seconds: float
    error: str = ""
    standard_error: float | None = None
    repeats: int = 1

    @property
    def rank(self) -> float:
        """The score, below all others where there is none."""
        return -math.inf if self.score is None else self.score


class TrialLog:
    """The rows of ``trials.csv``; the file is rewritten whole after each trial, so it is never half a row.

    Args:
        path: the file.
        known: ids of the trials that the oracle knows; rows of others, of a search before this one, are dropped.
    """

    def __init__(self, path: Path, known: Collection[str]) -> None:
        self._path = path
        self.rows = [row for row in _read(path) if row.trial_id in known]

    def append(self, row: TrialRow) -> None:
        """Add a row and write the file."""
        self.rows.append(row)
        self._write()

    def _write(self) -> None:
        write_csv(self._path, [dataclasses.asdict(row) for row in self.rows])

    def ranked(self) -> list[TrialRow]:
        """Return the completed trials: repeated ones first, then highest score first, the earliest of equals first."""
        completed = [row for row in self.rows if row.status == COMPLETED]
        return sorted(completed, key=lambda row: (row.repeats > 1, row.rank), reverse=True)

    def replace(self, rows: Sequence[TrialRow]) -> None:
        """Put rows in the place of those of the same trials, and write the file."""
        new = {row.trial_id: row for row in rows}
        self.rows = [new.get(row.trial_id, row) for row in self.rows]
        self._write()

    def best(self) -> TrialRow | None:
        """Return the completed trial of highest score."""
        return next(iter(self.ranked()), None)


def _read(path: Path) -> list[TrialRow]:
    if not path.exists():
        return []

    def number(text: str) -> float | None:
        if not text:
            return None
        if not math.isfinite(float(text)):
            raise ValueError(f"a score must be finite. Received: {text}")
        return float(text)

    try:
        return [
            TrialRow(
                row["trial_id"],
                row["status"],
                number(row["score"]),
                number(row["metric"]),
                int(row["size_bits"]),
                float(row["size_ratio"]),
                float(row["seconds"]),
                row["error"],
                number(row.get("standard_error", "")),
                int(row.get("repeats") or 1),
            )
            for row in read_csv(path)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be the trials of a search: {error!r}") from None
