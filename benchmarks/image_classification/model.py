"""The ResNet8 of image classification.

Source: the MLPerf Tiny reference network (https://github.com/mlcommons/tiny, image classification),
with the same layer names, so that its weights load by layer name.
"""

from __future__ import annotations

import keras

INPUT_SHAPE = (32, 32, 3)
NUM_CLASSES = 10
STEM_FILTERS = 16
STACKS = ((16, 1), (32, 2), (64, 2))  # (filters, strides) of each residual stack
WEIGHT_DECAY = 1e-4  # of the Conv2D kernels; the dense kernel has none


def _numbered(name: str, index: int) -> str:
    """Return ``name``, ``name_1``, ``name_2``, ... as index counts from 0."""
    return f"{name}_{index}" if index else name


def _conv(x: keras.KerasTensor, filters: int, kernel_size: int, strides: int, index: int) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY),
        name=_numbered("conv2d", index),
    )(x)


def conv_bn(x: keras.KerasTensor, filters: int, strides: int, index: int, bn_index: int) -> keras.KerasTensor:
    """Apply a 3x3 Conv2D and BatchNormalization: ``(batch, h, w, c)`` to ``(batch, h', w', filters)``."""
    x = _conv(x, filters, kernel_size=3, strides=strides, index=index)
    return keras.layers.BatchNormalization(name=_numbered("batch_normalization", bn_index))(x)


def residual_stack(x: keras.KerasTensor, filters: int, strides: int, stack: int, index: int) -> keras.KerasTensor:
    """Apply two 3x3 convolutions and add the input to the result.

    Args:
        x: feature maps, shape ``(batch, h, w, c)``.
        filters: output channels.
        strides: of the first convolution; above 1, a 1x1 convolution (without BatchNormalization)
            brings the shortcut to the same shape.
        stack: number of the stack, from 0.
        index: number of the first convolution.

    Returns:
        Feature maps, shape ``(batch, h / strides, w / strides, filters)``.
    """
    y = conv_bn(x, filters, strides, index, bn_index=2 * stack + 1)
    y = keras.layers.ReLU(name=_numbered("relu", 2 * stack + 1))(y)
    y = conv_bn(y, filters, 1, index + 1, bn_index=2 * stack + 2)
    if strides > 1:
        x = _conv(x, filters, kernel_size=1, strides=strides, index=index + 2)
    y = keras.layers.Add(name=_numbered("add", stack))([y, x])
    return keras.layers.ReLU(name=_numbered("relu", 2 * stack + 2))(y)


def resnet8() -> keras.Model:
    """Build ResNet8, uncompiled and in float.

    Returns:
        A model from images ``(batch, 32, 32, 3)`` with raw values 0..255 to class probabilities
        ``(batch, 10)``.
    """
    inputs = keras.Input(INPUT_SHAPE, name="input")
    x = conv_bn(inputs, STEM_FILTERS, strides=1, index=0, bn_index=0)
    x = keras.layers.ReLU(name="relu")(x)
    index = 1
    for stack, (filters, strides) in enumerate(STACKS):
        x = residual_stack(x, filters, strides, stack, index)
        index += 3 if strides > 1 else 2
    x = keras.layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(NUM_CLASSES, kernel_initializer="he_normal", name="dense")(x)
    outputs = keras.layers.Softmax(name="softmax")(x)
    return keras.Model(inputs, outputs, name="resnet8")
