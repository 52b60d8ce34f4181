"""The three float networks of visual wake words, all from ``(batch, 96, 96, 3)`` to ``(batch, 2)``."""

from benchmarks.visual_wake_words.efficientnet_b0 import efficientnet_b0
from benchmarks.visual_wake_words.mobilenet_v1 import mobilenet_v1
from benchmarks.visual_wake_words.mobilenet_v2 import mobilenet_v2

__all__ = ["efficientnet_b0", "mobilenet_v1", "mobilenet_v2"]
