"""How the range of an activation follows from data; least squared error, which needs a grid, is the quantizer's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from po2quant.files import one_line

MSE, MAX, PERCENTILE, ENTROPY = CALIBRATIONS = ("mse", "max", "percentile", "entropy")
"""How the range of an activation follows from data: least squared error, all values, all but the farthest ones, and the
distribution."""
DEFAULT_PERCENTAGE = 99.99

SEARCHED_FRACTIONS = tuple(2.0 ** (-step / 4) for step in range(13))
"""Fractions of the observed range that calibration tries for ``alpha='auto'``: 1 down to 1/8."""
CALIBRATION_CANDIDATES = 16
"""Exponents that calibration tries for powers of two; activations have farther outliers than weights."""

Range = tuple[float, float]
BINS, BULK = 2048, 0.999
"""Bins of the histogram up to the magnitude that this share of the values that are not zero stays below."""

MOST_VALUES = 2**17
"""Of a tensor, that are looked at for outliers."""
MANY_TAIL_BITS = 4.0
"""Bits of a range beyond which it serves outliers."""


def check_calibration(rule: str) -> None:
    """Raise ValueError unless ``rule`` is one of :data:`CALIBRATIONS`; ``percentile:99.9`` says which percentile."""
    name, colon, argument = rule.partition(":") if isinstance(rule, str) else ("", "", "")
    if name not in CALIBRATIONS or (colon and (name != PERCENTILE or not 50.0 <= percentage(argument) <= 100.0)):
        raise ValueError(
            f"calibration must be one of {', '.join(CALIBRATIONS)}, or percentile:50 to percentile:100. "
            f"Received: {one_line(repr(rule))}"
        )


def percentage(text: str) -> float:
    """Return the number of a percentile in per cent, NaN for what is none; :data:`DEFAULT_PERCENTAGE` for no text."""
    try:
        return float(text) if text else DEFAULT_PERCENTAGE
    except ValueError:
        return math.nan


def calibration_rules(text: str) -> tuple[str, dict[str, str]]:
    """Return the rule of all activations and those of single ones.

    Args:
        text: a rule, followed by those of single activation quantizers, separated by commas.

    Example:
        >>> calibration_rules("percentile:99.9,activation_3=max")
        ('percentile:99.9', {'activation_3': 'max'})
    """
    first, *others = text.split(",")
    rules = {name: rule for name, _, rule in (other.partition("=") for other in others)}
    for rule in (first, *rules.values()):
        check_calibration(rule)
    return first, rules


def range_by(rule: str, x: np.ndarray, candidates: Sequence[Range], levels: int) -> Range:
    """Return the range of values that a rule has a quantizer hold.

    Args:
        rule: see :func:`check_calibration`; not ``'mse'``.
        x: values, at least one of them.
        candidates: ranges that the quantizer may have, the widest first.
        levels: integers of one sign.
    """
    name, _, argument = rule.partition(":")
    return RANGE_RULES[name](x, argument, candidates, levels)


def _of_all(x: np.ndarray, argument: str, candidates: Sequence[Range], levels: int) -> Range:
    return float(x.min()), float(x.max())


def _of_most(x: np.ndarray, argument: str, candidates: Sequence[Range], levels: int) -> Range:
    share = percentage(argument) / 100.0
    low, high = float(x.min()), float(x.max())
    limit = float(np.quantile(np.abs(x), share))
    return max(low, -limit), min(high, limit)


def _of_least_divergence(x: np.ndarray, argument: str, candidates: Sequence[Range], levels: int) -> Range:
    """Return the candidate whose levels tell most of the distribution of magnitudes; the widest of equals.

    Equation:
        argmin over t of KL(P || Q): P is the histogram of |x|, and in Q the count of each level of a range up to t is
        spread evenly over those of its bins that are not empty. All magnitudes beyond t belong to the last level.

    Reference:
        After Migacz, "8-bit inference with TensorRT", GTC 2017. Bins are as wide here however far the largest value
        lies, and what is clipped counts as merged with the last level.
    """
    magnitudes = np.abs(x[x != 0.0]).astype(np.float64)
    if not len(magnitudes):
        return 0.0, 0.0
    width = float(np.quantile(magnitudes, BULK)) / BINS
    bins, counts = np.unique(np.floor(magnitudes / width), return_counts=True)

    def divergence(candidate: Range) -> float:
        bins_in_range = max(np.ceil(max(-candidate[0], candidate[1]) / width), 1.0)
        level = np.floor(np.minimum(bins, bins_in_range - 1.0) * min(levels / bins_in_range, 1.0))
        _, group, bins_of_level = np.unique(level, return_inverse=True, return_counts=True)
        spread = np.bincount(group, counts)[group] / bins_of_level[group]
        return float(np.sum(counts * np.log(counts / spread)))

    return min(candidates, key=divergence)


RANGE_RULES: dict[str, Callable[[np.ndarray, str, Sequence[Range], int], Range]] = {
    MAX: _of_all,
    PERCENTILE: _of_most,
    ENTROPY: _of_least_divergence,
}
"""All values, all but the farthest ones, and what keeps most of the distribution."""


def tail_bits(x: np.ndarray, limit: float) -> float | None:
    """Return how many bits of a range hardly any value needs.

    Equation:
        log2(limit / q), where q is the magnitude that :data:`BULK` of the values other than zero stay below; None
        without such values.

    Args:
        x: values; :data:`MOST_VALUES` of them, evenly spread, are looked at.
        limit: largest value of the range.

    Example:
        >>> tail_bits(np.array([-1.0, 0.5, 1.0]), 8.0)
        3.0
    """
    sample = x.ravel()[:: max(-(-x.size // MOST_VALUES), 1)]
    magnitudes = np.abs(sample[sample != 0.0])
    if not magnitudes.size or not limit:
        return None
    return math.log2(limit / float(np.quantile(magnitudes, BULK)))
