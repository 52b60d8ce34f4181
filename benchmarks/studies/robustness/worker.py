"""A process that reads wrong inputs of one class and tells what became of each, one line of JSON an input."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import warnings

from benchmarks.studies.robustness.classes import input_class
from benchmarks.studies.robustness.judge import judge, limited_memory, watch_execution

READING = b"reading\n"
"""What it tells before a reader gets an input; until then, that is being made, which may end the process too."""


def main() -> None:
    """Read ``class seed first last`` from the command line, and those inputs."""
    name, *numbers = sys.argv[1:]
    seed, first, last = map(int, numbers)
    kind = input_class(name)
    told = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    warnings.simplefilter("ignore")
    cases = kind.cases()
    for case in cases[: kind.warm_ups]:
        with contextlib.suppress(Exception):
            judge(kind, case)
    watch_execution()
    with limited_memory():
        for number in range(first, last):
            case = kind.mutated(cases, seed, number)
            os.write(told, READING)
            finding = judge(kind, case)
            os.write(told, json.dumps({"number": number} | dataclasses.asdict(finding)).encode() + b"\n")


if __name__ == "__main__":
    main()
