"""The three float networks of visual wake words, all from ``(batch, 96, 96, 3)`` to ``(batch, 2)``."""

from .efficientnet_b0 import efficientnet_b0
from .mobilenet_v1 import mobilenet_v1
from .mobilenet_v2 import mobilenet_v2

__all__ = ["efficientnet_b0", "mobilenet_v1", "mobilenet_v2"]
