"""The fields of a request: each has a check, which every value passes, of a command line or of a file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from po2quant.benchmark import check_benchmark_name
from po2quant.bit_config import check_alpha, check_widths
from po2quant.files import one_line
from po2quant.ranges import calibration_rules
from po2quant.runs.costs import MAX_KIB, cost_name, max_flash, max_milliseconds
from po2quant.targets import target_of
from po2quant.uniform import UNIFORM_BITS, uniform_widths

MAX_SEED = MAX_COUNT = 2**31 - 1
LONGEST_TEXT = 4096

Check = Callable[[str, Any], Any]
"""Given the name of a field and its value, as Python or JSON has it, returns the value that is kept, or raises."""


def _wrong(name: str, valid: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be {valid}. Received: {name}={one_line(repr(value))}")


def text(name: str, value: Any) -> str:
    """Return a text that a file can hold."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT:
        raise _wrong(name, f"a text of 1 to {LONGEST_TEXT} characters", value)
    if any(ord(character) < 32 or character in "\x7f" or "\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(name, "text that UTF-8 can encode, without control characters", value)
    return value


def path(name: str, value: Any) -> Path:
    """Return the path of a file or folder that a file can name."""
    return Path(text(name, str(value) if isinstance(value, Path) else value))


def one_of(names: Sequence[str]) -> Check:
    """Return the check of one of several names."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise _wrong(name, f"one of {', '.join(names)}", value)
        return value

    return check


def yes_or_no(name: str, value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def seed(name: str, value: Any) -> int:
    """Return a seed that numpy and TensorFlow take."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise ValueError(f"a seed must lie in [0, {MAX_SEED}]. Received: {one_line(repr(value))}")
    return value


def count(least: int) -> Check:
    """Return the check of a number of something."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
            raise _wrong(name, f"a whole number in [{least}, {MAX_COUNT}]", value)
        return value

    return check


def kib(name: str, value: Any) -> float:
    """Return a size in KiB."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_KIB:
        raise _wrong(name, f"a finite number of KiB above 0 and at most {MAX_KIB}", value)
    return value


def flash(name: str, value: Any) -> float | str:
    """Return a size in KiB, or such a size with the core whose code counts."""
    if not isinstance(value, str):
        return kib(name, value)
    max_flash(text(name, value))
    return value if "@" in value else float(value)


def positive(name: str, value: Any) -> float:
    """Return a number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _wrong(name, "a finite number above 0", value)
    return value


def text_for(check: Callable[[str], object]) -> Check:
    """Return the check of a text that means something: what reads it raises where it does not."""

    def kept(name: str, value: Any) -> str:
        check(text(name, value))
        return value

    return kept


benchmark = text_for(check_benchmark_name)
"""The name of an installed benchmark, or ``package.module:attribute``."""
calibration = text_for(calibration_rules)
"""How activation ranges follow from data."""
target = text_for(target_of)
"""The name of a target."""
config = text_for(uniform_widths)
"""The name of bit widths, or the path of their file, which need not exist."""
cost = text_for(cost_name)
"""The name of a cost."""
time = text_for(max_milliseconds)
"""A time on a core at a clock."""


def alpha(name: str, value: Any) -> str:
    """Return a kind of scales."""
    check_alpha(value)
    return value


def widths(part: str) -> Check:
    """Return the check of the widths to choose from."""

    def check(name: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, list | tuple):
            raise _wrong(name, "widths in bits", value)
        check_widths(part, tuple(value))
        return tuple(value)

    return check


def bits(name: str, value: Any) -> int:
    """Return the width of an activation, sign included."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in UNIFORM_BITS:
        raise _wrong(name, f"a width in [{UNIFORM_BITS[0]}, {UNIFORM_BITS[-1]}]", value)
    return value


def optional(check: Check) -> Check:
    """Return a check that also takes None."""
    return lambda name, value: None if value is None else check(name, value)


def several(check: Check) -> Check:
    """Return the check of a list of values."""

    def check_all(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _wrong(name, "a list", value)
        return tuple(check(name, item) for item in value)

    return check_all


def asked(default: Any, check: Check, *, shown: bool = False, may_change: bool = False, option: str | None = "") -> Any:
    """Return a field of a request.

    Args:
        default: its value where nothing is said.
        check: of its value.
        shown: whether the command names it also where it is the default.
        may_change: whether a run that goes on may be asked for another value.
        option: of the command line, where it is not the field's name; None: there is none.
    """
    metadata = {"check": check, "shown": shown, "may_change": may_change, "option": option}
    return dataclasses.field(default=default, metadata=metadata)
