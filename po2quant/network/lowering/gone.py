"""Layers that do nothing in inference."""

from __future__ import annotations

from typing import Any

from keras import layers

from po2quant.network.graph import Node
from po2quant.network.lowering.context import Context


def nothing(node: Node, inputs: list[Any], context: Context) -> Any:
    """Return the input."""
    return inputs[0]


AUGMENTATIONS = (
    "AugMix",
    "CutMix",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
)
"""Layers that change images in training alone; not all versions of Keras have all of them."""

EXPANSIONS = dict.fromkeys(
    (
        layers.GaussianNoise,
        layers.GaussianDropout,
        layers.AlphaDropout,
        layers.SpatialDropout1D,
        layers.ActivityRegularization,
        *(getattr(layers, name) for name in AUGMENTATIONS if hasattr(layers, name)),
    ),
    nothing,
)
