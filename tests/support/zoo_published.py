"""The families of ``keras.applications``, at the smallest size that Keras accepts and a fraction of their width."""

from __future__ import annotations

from typing import Any

import keras

NAMES = tuple(sorted(name for name, value in vars(keras.applications).items() if name[:1].isupper()))
"""Every class of model that Keras ships."""

SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
"""Rows and columns of those that do not accept 32."""


def published(name: str, size: int | None = None) -> keras.Model:
    """Return a model of ``keras.applications`` without trained weights."""
    size = size or SMALLEST.get(name, 32)
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)


def narrow(name: str, divisor: int) -> keras.Model:
    """Return a model of ``keras.applications`` with all numbers of channels divided.

    Args:
        name: its class.
        divisor: a power of two, by which the channels of its layers can be divided.
    """

    def divided(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {inner: divided(item, inner) for inner, item in value.items() if inner != "build_config"}
        if isinstance(value, (list, tuple)):
            if key == "target_shape":
                return (*value[:-1], max(value[-1] // divisor, 1))
            return [divided(item) for item in value]
        return max(value // divisor, 1) if key in ("filters", "units") else value

    full = published(name)
    return type(full).from_config(divided(full.get_config()))
