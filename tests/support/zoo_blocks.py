"""The table of a zoo of networks, and the blocks that many of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers


class Zoo(dict[str, Callable[[], keras.Model]]):
    """Builders of models by name."""

    def architecture(self, *shapes: tuple[int, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that adds the models that a function makes of inputs of these shapes."""

        def decorate(build: Callable[..., Any]) -> Callable[..., Any]:
            def builder() -> keras.Model:
                inputs = [keras.Input(shape, name=f"x_{number}") for number, shape in enumerate(shapes)]
                return keras.Model(inputs if len(inputs) > 1 else inputs[0], build(*inputs), name=build.__name__)

            self[build.__name__] = builder
            return build

        return decorate


def normalized(
    x: Any, filters: int, size: int = 3, strides: int = 1, activation: str | None = "relu", **options
) -> Any:
    """A convolution without bias, its BatchNormalization and its activation."""
    x = layers.Conv2D(filters, size, strides, "same", use_bias=False, **options)(x)
    x = layers.BatchNormalization()(x)
    return x if activation is None else layers.Activation(activation)(x)


def depthwise(x: Any, size: int = 3, strides: int = 1, activation: str | None = "relu") -> Any:
    """A depthwise convolution, its BatchNormalization and its activation."""
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(size, strides, "same", use_bias=False)(x))
    return x if activation is None else layers.Activation(activation)(x)


def classified(x: Any, classes: int = 5) -> Any:
    """Global pooling, a matrix product and a softmax."""
    return layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def gated(x: Any, squeezed: int, gate: str = "sigmoid") -> Any:
    """Squeeze and excitation."""
    channels = x.shape[-1]
    y = layers.Dense(squeezed, activation="relu")(layers.GlobalAveragePooling2D()(x))
    y = layers.Dense(channels, activation=gate)(y)
    return layers.Multiply()([x, layers.Reshape((1, 1, channels))(y)])
