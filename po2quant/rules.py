"""The rules by which scales and ranges follow from values: their names, which are checked before anything is loaded."""

from __future__ import annotations

import math
from typing import Any

LONGEST_SHOWN = 80

MSE, MAX, PERCENTILE, ENTROPY = CALIBRATIONS = ("mse", "max", "percentile", "entropy")
"""How the range of an activation follows from data: least squared error, all values, all but the farthest ones, and the
distribution."""
NEAREST, STOCK = "nearest", "stock"
SCALE_RULE_NAMES = (MSE, MAX, NEAREST, STOCK)
"""How the power-of-two scale of a weight follows from its values; :data:`po2quant.quantizers.SCALE_RULES` has them."""
DEFAULT_PERCENTAGE = 99.99


def check_scale_rule(rule: str) -> None:
    """Raise ValueError unless ``rule`` names a way to choose the scale of a weight."""
    if not isinstance(rule, str) or rule not in SCALE_RULE_NAMES:
        valid = ", ".join(SCALE_RULE_NAMES)
        raise ValueError(f"scale_rule must be one of {valid}. Received: scale_rule={shown(rule)}")


def check_calibration(rule: str) -> None:
    """Raise ValueError unless ``rule`` is one of :data:`CALIBRATIONS`; ``percentile:99.9`` says which percentile."""
    name, colon, argument = rule.partition(":") if isinstance(rule, str) else ("", "", "")
    if name not in CALIBRATIONS or (colon and (name != PERCENTILE or not 50.0 <= percentage(argument) <= 100.0)):
        raise ValueError(
            f"calibration must be one of {', '.join(CALIBRATIONS)}, or percentile:50 to percentile:100. "
            f"Received: {shown(rule)}"
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


def shown(value: Any) -> str:
    """Return a value as an error shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
