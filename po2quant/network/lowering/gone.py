"""Layers that do nothing in inference."""

from __future__ import annotations

from typing import Any

from keras import layers

from po2quant.network.graph import Node
from po2quant.network.lowering.context import Context


def nothing(node: Node, inputs: list[Any], context: Context) -> Any:
    """Return the input."""
    return inputs[0]


EXPANSIONS = dict.fromkeys(
    (
        layers.GaussianNoise,
        layers.GaussianDropout,
        layers.AlphaDropout,
        layers.SpatialDropout1D,
        layers.ActivityRegularization,
        layers.RandomBrightness,
        layers.RandomContrast,
        layers.RandomFlip,
        layers.RandomRotation,
        layers.RandomTranslation,
        layers.RandomZoom,
    ),
    nothing,
)
