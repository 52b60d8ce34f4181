"""The classifier of three traits: MobileNetV3, with a branch for key points or without."""

from __future__ import annotations

import keras

from ..shared.mobilenet_v3 import HARD_SWISH, LARGE, SMALL, Form, backbone, scaled
from .anatomy import TRAITS
from .data import SIZE
from .key_points import CODE

WIDTH = 0.5
FORMS = {"small": SMALL, "large": LARGE}
BACKBONE_END = "head_hard_silu"
"""The layer of the last feature maps."""
TRAITS_HEAD, POINTS_HEAD = "traits", "points"
"""First words of the names of the layers after the backbone."""
POINT_UNITS = 128


def traits_network(
    form: Form, with_key_points: bool, width: float = WIDTH, size: int | None = SIZE, dropout: float = 0.2
) -> keras.Model:
    """Build a classifier, uncompiled and in float.

    Args:
        form: of MobileNetV3.
        with_key_points: whether there is a branch for key points.
        width: factor of all channels.
        size: rows and columns of pictures; None: any, for training.
        dropout: rate before both heads.

    Returns:
        A model from pictures ``(batch, size, size, 3)`` in 0..1 to ``(batch, 12)``, traits and code, or ``(batch, 3)``.
    """
    inputs = keras.Input((size, size, 3), name="input")
    features = backbone(inputs, form, width)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    traits = _head(features, TRAITS_HEAD, scaled(form.hidden_units, width), len(TRAITS), dropout)
    if not with_key_points:
        return keras.Model(inputs, traits, name="traits")
    points = _head(features, POINTS_HEAD, POINT_UNITS, len(CODE), dropout)
    outputs = keras.layers.Concatenate(name="outputs")([traits, points])
    return keras.Model(inputs, outputs, name="traits_with_key_points")


def _head(x: keras.KerasTensor, name: str, units: int, outputs: int, dropout: float) -> keras.KerasTensor:
    x = keras.layers.Dense(units, name=f"{name}_hidden")(x)
    x = keras.layers.Activation(HARD_SWISH, name=f"{name}_{HARD_SWISH}")(x)
    x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    x = keras.layers.Dense(outputs, name=f"{name}_logits")(x)
    return keras.layers.Activation("sigmoid", name=name)(x)


def mobilenet_v3_small() -> keras.Model:
    """Build the small form with key points, half as wide, for 80 x 80 pixels."""
    return traits_network(SMALL, with_key_points=True)


def mobilenet_v3_small_plain() -> keras.Model:
    """Build the small form without key points."""
    return traits_network(SMALL, with_key_points=False)


def mobilenet_v3_large() -> keras.Model:
    """Build the large form with key points, half as wide, for 80 x 80 pixels."""
    return traits_network(LARGE, with_key_points=True)


def mobilenet_v3_large_plain() -> keras.Model:
    """Build the large form without key points."""
    return traits_network(LARGE, with_key_points=False)
