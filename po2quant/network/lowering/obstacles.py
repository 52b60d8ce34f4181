"""Why a network cannot be quantized: all reasons at once, a sentence a layer."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """Why a layer cannot be quantized.

    Args:
        layer: its name.
        class_name: its class.
        reason: what is wrong, and what to do instead.
    """

    layer: str
    class_name: str
    reason: str

    def __str__(self) -> str:
        is_named = repr(self.layer) in self.reason
        return self.reason if is_named else f"layer {self.layer!r} ({self.class_name}): {self.reason}"

    @classmethod
    def of(cls, layer: Any, reason: str) -> Obstacle:
        """Return the obstacle that a layer or operator is."""
        return cls(layer.name, type(layer).__name__, reason)
