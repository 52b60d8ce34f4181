"""How a run that was disturbed differs from one that was not."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from po2quant.files import read_csv
from po2quant.weight_files import read_weight_file

TABLES = ("epochs.csv", "diagnostics.csv", "trials.csv", "sensitivity.csv", "results.csv", "RESULTS.csv")
OTHERS = ("best_config.json", "scores.json", "best.weights.h5")
TIMES = {"seconds", "command", "date", "commit"}
"""Columns that two equal runs may differ in."""

Row = tuple[tuple[str, str], ...]


@dataclasses.dataclass
class Round:
    """One run that was disturbed until it was done.

    Args:
        command: one of :data:`~benchmarks.studies.robustness.kills.COMMANDS`.
        number: of the round; the moments follow from it and the seed.
        kills: how often it was ended.
        lost_rows: rows of tables that were there after a kill and are not there in the end.
        differing: files of the end that are not those of an undisturbed run, and endings without one sentence.
        seconds: wall time.
        found: what differs.
    """

    command: str
    number: int
    seed: int
    commit: str
    kills: int = 0
    lost_rows: int = 0
    differing: int = 0
    seconds: float = 0.0
    found: str = ""


def compared(result: Round, folder: Path, reference: Path, seen: list[Mapping[str, list[Row]]], start: float) -> Round:
    """Fill in what was lost and what differs."""
    end = tables(folder / "run")
    for before in seen:
        for file, rows in before.items():
            lost = [row for row in rows if row not in end.get(file, [])]
            result.lost_rows += len(lost)
            result.found += f"lost of {file}: {lost[:1]}; " if lost else ""
    differing = [file for file, rows in tables(reference).items() if sorted(rows) != sorted(end.get(file, []))]
    differing += [name for name, equal in _others(folder / "run", reference) if not equal]
    result.found += f"differs: {', '.join(differing)}" if differing else ""
    result.differing = len(differing) + result.found.count("exit code")
    result.seconds = round(time.monotonic() - start, 1)
    return result


def tables(folder: Path) -> dict[str, list[Row]]:
    """Return the rows of every table of a run by its name, without times."""
    files = [path for name in TABLES for path in sorted(folder.rglob(name))]
    return {
        str(path.relative_to(folder)): [
            tuple((name, value) for name, value in row.items() if name not in TIMES) for row in read_csv(path)
        ]
        for path in files
        if "workers" not in path.relative_to(folder).parts  # which have folders of their own
    }


def _others(folder: Path, reference: Path) -> Iterator[tuple[str, bool]]:
    """Give the other files of an undisturbed run that matter, and whether a run has the same."""
    for name in OTHERS:
        for expected in sorted(reference.rglob(name)):
            path = folder / expected.relative_to(reference)
            if "trials" in expected.relative_to(reference).parts:
                continue
            if not path.is_file():
                yield str(path), False
            elif name.endswith(".h5"):
                yield str(path), _numbers(read_weight_file(path)) == _numbers(read_weight_file(expected))
            else:
                yield str(path), _untimed(path) == _untimed(expected)


def _numbers(file: Any) -> dict[str, bytes]:
    return {
        f"{group}/{name}": array.tobytes() for group, arrays in file.groups.items() for name, array in arrays.items()
    }


def _untimed(path: Path) -> Any:
    data = json.loads(path.read_text())
    return {key: value for key, value in data.items() if key not in TIMES} if isinstance(data, dict) else data
