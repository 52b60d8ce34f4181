"""What the recipes for few bits have in common."""

from __future__ import annotations

import dataclasses
from typing import Any

from po2quant.benchmark import Recipe
from po2quant.bit_config import LEARNED_PO2
from po2quant.training.schedules import cosine


def strong(recipe: Recipe, **changes: Any) -> Recipe:
    """Return a recipe with a cosine after a warm-up, learned thresholds of activations and averaged weights.

    Args:
        recipe: where all else comes from.
        changes: further fields.
    """
    steps = {"annealing": cosine(warm_up=0.1), "activation_alpha": LEARNED_PO2, "averaging": 0.5}
    return dataclasses.replace(recipe, **{**steps, **changes})
