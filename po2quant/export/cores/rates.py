"""What one of each part of the work, or of the code, costs on a core: rows of tables that were fitted once."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections import Counter
from collections.abc import Mapping

INSTRUCTIONS_FILE, CODE_FILE = "instructions.csv", "code.csv"

Parts = Counter[str]
"""How often each part is there."""


def priced(core: str, parts: Mapping[str, float], file: str) -> float:
    """Return what all parts cost on a core together.

    Raises:
        ValueError: for a core without rates.
    """
    return sum(amount * rate_of(core, part, file) for part, amount in parts.items())


@functools.cache
def rates(file: str = INSTRUCTIONS_FILE) -> dict[str, dict[str, float]]:
    """Return the rate of each part by core."""
    found: dict[str, dict[str, float]] = {}
    text = importlib.resources.files(__package__).joinpath(file).read_text(encoding="ascii")
    for row in csv.DictReader(text.splitlines()):
        found.setdefault(row["core"], {})[row["part"]] = float(row["rate"])
    return found


@functools.cache
def rate_of(core: str, part: str, file: str) -> float:
    """Return what a core needs for one of a part: what was measured, or the dearest whose name begins alike."""
    if core not in rates(file):
        raise ValueError(f"core must be one of {', '.join(rates(file))}. Received: {core!r}")
    own, words = rates(file)[core], part.split(" ")
    if part in own:
        return own[part]
    for length in range(len(words) - 1, 0, -1):
        start = " ".join(words[:length])
        if alike := [rate for name, rate in own.items() if name == start or name.startswith(f"{start} ")]:
            return max(alike)
    return 0.0
