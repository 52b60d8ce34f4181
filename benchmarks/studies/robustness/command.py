"""Files and options that are wrong, by the thousand: ``python -m benchmarks.studies.robustness --minutes 10``.

Every input is made of a right one, by its class, seed and number: ``--class NAME --seed S --input N`` repeats it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.studies.provenance import command_line
from benchmarks.studies.robustness.classes import NAMES, input_class
from benchmarks.studies.robustness.judge import Finding
from benchmarks.studies.robustness.kills import COMMANDS, run_kills
from benchmarks.studies.robustness.runner import run_class
from benchmarks.studies.rows import add_row
from po2quant.files import one_line
from po2quant.runs.folder import project_commit

WORK = Path("runs/robustness")
RESULTS = Path("benchmarks/results/robustness.csv")
KEY = ("class",)
COLUMNS = ("class", "inputs", "refused", "accepted", "traceback", "over_budget", "executed", "seconds")
COLUMNS += ("slowest_seconds", "peak_mib", "kills", "lost_rows", "differing", "seed", "commit", "command")
MOST_INPUTS = 10**6
INTERRUPTED = 130


def _add(path: Path, row: dict[str, object]) -> None:
    add_row(path, {name: row.get(name, "") for name in COLUMNS}, KEY)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.robustness", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all classes; 10 by default")
    parser.add_argument("--class", dest="classes", nargs="+", default=NAMES, choices=NAMES, metavar="NAME")
    parser.add_argument("--inputs", type=int, default=MOST_INPUTS, help="most inputs of each class")
    parser.add_argument("--seed", type=int, default=0, help="of all inputs")
    parser.add_argument("--input", type=int, help="read this one only, and say what becomes of it")
    parser.add_argument("--kills", type=int, help="kill each command so often instead, and let it go on")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("--work-dir", type=Path, default=WORK, help=f"runs that are killed, {WORK} by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"CSV file, {RESULTS} by default")
    return parser


def _tell(name: str, seed: int, number: int, finding: Finding) -> None:
    sys.stdout.write(
        f"{finding.verdict}: --class {name} --seed {seed} --input {number}: {one_line(finding.text, 400)}\n"
    )
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    command = command_line("benchmarks.studies.robustness", arguments)
    try:
        if options.input is not None:
            _repeat(options)
        elif options.kills is not None:
            _kill_all(options, command)
        else:
            _run_all(options, command)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _run_all(options: argparse.Namespace, command: str) -> None:
    end = time.monotonic() + 60 * options.minutes
    for index, name in enumerate(options.classes):
        kind, start = input_class(name), time.monotonic()
        share = max(end - start, 0.0) / (len(options.classes) - index)

        def tell(number: int, finding: Finding, name: str = name) -> None:
            _tell(name, options.seed, number, finding)

        tally = run_class(kind, options.seed, 0, options.inputs, start + share, tell)
        row = {"class": name, **tally.row(), "seconds": round(time.monotonic() - start, 1)}
        _add(options.results, row | {"seed": options.seed, "commit": project_commit(), "command": command})
        sys.stdout.write(f"{name}: {', '.join(f'{key} {value}' for key, value in tally.row().items())}\n")
        sys.stdout.flush()


def _kill_all(options: argparse.Namespace, command: str) -> None:
    def tell(done: object) -> None:
        sys.stdout.write(f"{done}\n")
        sys.stdout.flush()

    commit = project_commit() or ""
    for row in run_kills(options.commands, options.kills, options.seed, options.work_dir, commit, tell):
        _add(options.results, row | {"seed": options.seed, "command": command})


def _repeat(options: argparse.Namespace) -> None:
    for name in options.classes:

        def tell(number: int, finding: Finding, name: str = name) -> None:
            _tell(name, options.seed, number, finding)

        tally = run_class(input_class(name), options.seed, options.input, 1, float("inf"), tell)
        sys.stdout.write(f"{name}: {', '.join(f'{key} {value}' for key, value in tally.row().items())}\n")


if __name__ == "__main__":
    main()
