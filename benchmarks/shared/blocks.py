"""What convolutional networks are made of: a convolution, its BatchNormalization and its activation."""

from __future__ import annotations

from keras import KerasTensor, layers

BATCH_NORM_MOMENTUM = 0.9  # statistics settle within an epoch of a few hundred steps


def _normalized(x: KerasTensor, activation: str | None) -> KerasTensor:
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
    return x if activation is None else layers.Activation(activation)(x)


def conv(
    x: KerasTensor,
    filters: int,
    kernel_size: int | tuple[int, int] = 3,
    strides: int = 1,
    activation: str | None = "relu",
    groups: int = 1,
) -> KerasTensor:
    """Apply Conv2D, BatchNormalization and an activation: ``(batch, h, w, c)`` to ``(batch, h', w', filters)``."""
    x = layers.Conv2D(
        filters, kernel_size, strides, "same", groups=groups, use_bias=False, kernel_initializer="he_normal"
    )(x)
    return _normalized(x, activation)


def depthwise(x: KerasTensor, kernel_size: int = 3, strides: int = 1, activation: str | None = "relu") -> KerasTensor:
    """Apply DepthwiseConv2D, BatchNormalization and an activation; keeps the number of channels."""
    return _normalized(layers.DepthwiseConv2D(kernel_size, strides, "same", use_bias=False)(x), activation)
