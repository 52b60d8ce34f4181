"""The families of ``keras.applications``, at the smallest size that Keras accepts and a fraction of their width."""

from __future__ import annotations

from typing import Any

import keras

from po2quant.compat import without_values

NAMES = tuple(sorted(name for name, value in vars(keras.applications).items() if name[:1].isupper()))
"""Every class of model that Keras ships."""

SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
"""Rows and columns of those that do not accept 32."""


def published(name: str, size: int | None = None) -> keras.Model:
    """Return a model of ``keras.applications`` without trained weights."""
    size = size or SMALLEST.get(name, 32)
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)


FAMILIES: dict[str, tuple[int, str | None]] = {
    "MobileNet": (8, None),
    "MobileNetV2": (8, "block_7_add"),
    "MobileNetV3Small": (8, None),
    "MobileNetV3Large": (8, "expanded_conv_7_add"),
    "EfficientNetB0": (8, "block4b_add"),
    "EfficientNetV2B0": (8, "block4b_add"),
    "ResNet50": (16, "conv3_block2_out"),
    "ResNet50V2": (16, "conv3_block2_out"),
    "VGG16": (16, None),
    "DenseNet121": (8, "pool3_pool"),
    "InceptionV3": (8, "mixed4"),
    "InceptionResNetV2": (8, "block35_2_ac"),
    "Xception": (16, "block6_sepconv1_act"),
    "NASNetMobile": (2, "normal_concat_0"),
}
"""By what channels are divided, and after which layer there are only blocks of a kind that was before; None: all."""


def narrow(name: str) -> keras.Model:
    """Return a model of :data:`FAMILIES`, narrow and without its last blocks."""
    divisor, end = FAMILIES[name]

    def divided(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {inner: divided(item, inner) for inner, item in value.items() if inner != "build_config"}
        if isinstance(value, (list, tuple)):
            if key == "target_shape":
                return (*value[:-1], max(value[-1] // divisor, 1))
            return [divided(item) for item in value]
        return max(value // divisor, 1) if key in ("filters", "units") else value

    with without_values():
        full = published(name)
    whole = type(full).from_config(divided(full.get_config()))
    return whole if end is None else keras.Model(whole.inputs, whole.get_layer(end).output, name=name)
