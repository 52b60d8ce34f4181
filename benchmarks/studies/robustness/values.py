"""Values that readers of files meet when somebody means harm, or a disk does."""

from __future__ import annotations

import random
from typing import Any

CANARY = "pwned"
"""A file of this name, or a command that names it, tells that something of an input was run."""

MODULE = "evilmod"
INJECTED_C = f"""0)
#include <stdlib.h>
static void p(void) __attribute__((constructor));
static void p(void){{system("touch {CANARY}");}}
#define D (0"""
TEXTS = (
    INJECTED_C,
    f"__import__('os').system('touch {CANARY}')",
    f"quantized_bits(__import__('os').system('touch {CANARY}'))",
    f"$(touch {CANARY})",
    f"{MODULE}:X",
    "../../outside",
    "/etc/passwd",
    "",
    " ",
    "\x00" * 300,
    "x" * 3000,
    "a\nb\r\t\x1b[2J",
    "\u202eabc",
    "flat\uff18",
    "flat08",
    "\u0661\u0662",
    "%s%n{0}",
    "*/",
    "1e400",
    "NaN",
    "None",
    "no",
    "auto",
    "float32",
    "learned_po2",
    "relu6",
    "x",
    "y",
)
WHOLE = (
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    255,
    256,
    46341,
    2**31 - 1,
    2**31,
    2**32,
    3 * 10**9,
    2**62,
    -(2**62),
    2**63,
    2**64,
    10**30,
)
REAL = (0.5, -0.0, 1e308, 5e-324, 2.0**120, 2.0**-140, float("nan"), float("inf"), float("-inf"))
DEPTHS = (3, 40, 300, 3000)


def any_value(rng: random.Random) -> Any:
    """Return a value that JSON can write: of any type, any size, or meant to be run."""
    kind = rng.choice("ttnnnrblod")
    match kind:
        case "t":
            return rng.choice(TEXTS)
        case "n":
            return rng.choice(WHOLE)
        case "r":
            return rng.choice(REAL)
        case "b":
            return rng.choice((None, True, False))
        case "l":
            return [rng.choice(WHOLE) for _ in range(rng.choice((0, 1, 2, 3, 4, 1000)))]
        case "o":
            return rng.choice(({}, {"class": "Program"}, {"array": "array_0"}, {"a": {"b": []}}))
    return nested(rng.choice(DEPTHS))


def nested(depth: int) -> list[Any]:
    """Return lists inside each other."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value
