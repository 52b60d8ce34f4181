"""Names of costs and limits, read before TensorFlow is there; ``po2quant.search.costs`` computes what they name.

A name is a kind, or a kind and what it is for: ``bits``, ``instructions:m4``, ``energy:stm32u385``.
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

from po2quant.export.cores.rates import CODE_FILE, rates
from po2quant.files import one_line

BITS: Final = "bits"
FLASH: Final = "flash"
RAM: Final = "ram"
BOPS: Final = "bops"
ENERGY: Final = "energy"
INSTRUCTIONS: Final = "instructions"
COST_KINDS = (BITS, FLASH, RAM, BOPS, ENERGY, INSTRUCTIONS)
BOARDS = ("stm32u385", "gap9")
FOR = {FLASH: ("", *rates(CODE_FILE)), ENERGY: ("", *BOARDS), INSTRUCTIONS: tuple(rates())}
"""What a kind may be for; the others stand alone."""

UNITS = {BITS: "bits", FLASH: "bytes", RAM: "bytes", BOPS: "bit operations", ENERGY: "pJ", INSTRUCTIONS: "instructions"}
BYTES_PER_KIB, MAX_KIB = 1024, 2**40
_TIME = re.compile(r"(?P<ms>[0-9.]+)@(?P<core>\w+):(?P<mhz>[0-9.]+)MHz")


class CostName(NamedTuple):
    """A cost: its kind, and the core or board that it is for, empty where it is for none."""

    kind: str
    target: str = ""

    def __str__(self) -> str:
        """Return the name as it is written."""
        return f"{self.kind}:{self.target}" if self.target else self.kind


class MaxCost(NamedTuple):
    """The most of a cost that a network may have."""

    cost: CostName
    maximum: float


def cost_name(text: str) -> CostName:
    """Read the name of a cost.

    Raises:
        ValueError: for an unknown kind, core or board.

    Example:
        >>> cost_name("instructions:m4")
        CostName(kind='instructions', target='m4')
    """
    kind, _, target = text.partition(":") if isinstance(text, str) else ("", "", "")
    if kind not in COST_KINDS or target not in FOR.get(kind, ("",)) or (":" in str(text) and not target):
        valid = [str(CostName(kind, target)) for kind in COST_KINDS for target in FOR.get(kind, ("",))]
        raise ValueError(f"a cost must be one of {', '.join(valid)}. Received: {text!r}")
    return CostName(kind, target)


def max_flash(value: float | str) -> MaxCost:
    """Read a limit of flash: KiB of constants, or ``KIB@CORE``, of constants and the code of a core.

    Raises:
        ValueError: for another form, or an unknown core.

    Example:
        >>> max_flash("64@m4")
        MaxCost(cost=CostName(kind='flash', target='m4'), maximum=65536.0)
    """
    number, has_core, core = str(value).partition("@")
    try:
        kib = float(number)
    except ValueError:
        kib = math.nan
    if isinstance(value, bool) or not 0.0 < kib <= MAX_KIB or bool(has_core) != bool(core):
        raise ValueError(
            f"a limit of flash must be a finite number of KiB above 0 and at most {MAX_KIB}, of constants, or read "
            f"like 64@m4, with the code of a core. Received: {one_line(repr(value))}"
        )
    return MaxCost(cost_name(f"{FLASH}:{core}" if core else FLASH), kib * BYTES_PER_KIB)


def max_milliseconds(text: str) -> MaxCost:
    """Read a limit of time, ``MILLISECONDS@CORE:CLOCKMHz``, as one of instructions, one a cycle.

    Raises:
        ValueError: for another form, or an unknown core.

    Example:
        >>> max_milliseconds("50@m4:120MHz")
        MaxCost(cost=CostName(kind='instructions', target='m4'), maximum=6000000.0)
    """
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    try:
        numbers = (float(found["ms"]), float(found["mhz"])) if found else (math.nan, math.nan)
    except ValueError:
        numbers = (math.nan, math.nan)
    if found is None or not all(0.0 < number < math.inf for number in numbers):
        raise ValueError(f"a time must read like 50@m4:120MHz, milliseconds on a core at a clock. Received: {text!r}")
    milliseconds, mhz = numbers
    return MaxCost(cost_name(f"{INSTRUCTIONS}:{found['core']}"), milliseconds * mhz * 1000.0)
