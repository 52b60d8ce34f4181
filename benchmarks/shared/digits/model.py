"""A small depthwise-separable CNN for 8x8 digits.

It has the structure of the MLPerf Tiny keyword-spotting network (https://github.com/mlcommons/tiny)
with fewer filters, and neither dropout nor weight decay.
"""

from __future__ import annotations

import keras

INPUT_SHAPE = (8, 8, 1)
NUM_CLASSES = 10
STEM_FILTERS = 16
BLOCKS = ((32, 2), (32, 1))  # (filters, strides) of each separable block


def _numbered(name: str, index: int) -> str:
    """Return ``name``, ``name_1``, ``name_2``, ... as index counts from 0."""
    return f"{name}_{index}" if index else name


def _bn_relu(x: keras.KerasTensor, index: int) -> keras.KerasTensor:
    x = keras.layers.BatchNormalization(name=_numbered("batch_normalization", index))(x)
    return keras.layers.ReLU(name=_numbered("relu", index))(x)


def conv_bn_relu(x: keras.KerasTensor, filters: int, kernel_size: int, index: int, bn_index: int) -> keras.KerasTensor:
    """Apply Conv2D, BatchNormalization and ReLU: ``(batch, h, w, c)`` to ``(batch, h, w, filters)``."""
    name = _numbered("conv2d", index)
    x = keras.layers.Conv2D(filters, kernel_size, padding="same", name=name)(x)
    return _bn_relu(x, bn_index)


def separable_block(x: keras.KerasTensor, filters: int, strides: int, block: int) -> keras.KerasTensor:
    """Apply a 3x3 depthwise and a 1x1 convolution, both with BatchNormalization and ReLU.

    Maps ``(batch, h, w, c)`` to ``(batch, h / strides, w / strides, filters)``.
    """
    name = _numbered("depthwise_conv2d", block)
    x = keras.layers.DepthwiseConv2D(3, strides=strides, padding="same", name=name)(x)
    x = _bn_relu(x, 2 * block + 1)
    return conv_bn_relu(x, filters, kernel_size=1, index=block + 1, bn_index=2 * block + 2)


def ds_cnn() -> keras.Model:
    """Build the digits network, uncompiled and in float.

    Returns:
        A model from images ``(batch, 8, 8, 1)`` to class probabilities ``(batch, 10)``.
    """
    inputs = keras.Input(INPUT_SHAPE, name="input")
    x = conv_bn_relu(inputs, STEM_FILTERS, kernel_size=3, index=0, bn_index=0)
    for block, (filters, strides) in enumerate(BLOCKS):
        x = separable_block(x, filters, strides, block)
    x = keras.layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(NUM_CLASSES, name="dense")(x)
    outputs = keras.layers.Softmax(name="softmax")(x)
    return keras.Model(inputs, outputs, name="digits_ds_cnn")
