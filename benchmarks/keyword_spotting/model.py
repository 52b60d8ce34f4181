"""The depthwise-separable CNN (DS-CNN) of keyword spotting.

Source: the MLPerf Tiny reference network (https://github.com/mlcommons/tiny, keyword spotting), with
the same layer names, so that its weights load by layer name.
"""

from __future__ import annotations

import keras

INPUT_SHAPE = (49, 10, 1)  # frames, MFCC, channel
NUM_CLASSES = 12
FILTERS = 64
NUM_BLOCKS = 4
WEIGHT_DECAY = 1e-4  # of the Conv2D kernels; depthwise and dense kernels have none


def _numbered(name: str, index: int) -> str:
    """Return ``name``, ``name_1``, ``name_2``, ... as index counts from 0."""
    return f"{name}_{index}" if index else name


def _bn_relu(x: keras.KerasTensor, index: int) -> keras.KerasTensor:
    x = keras.layers.BatchNormalization(name=_numbered("batch_normalization", index))(x)
    return keras.layers.ReLU(name=_numbered("relu", index))(x)


def conv_bn_relu(
    x: keras.KerasTensor,
    kernel_size: int | tuple[int, int],
    strides: int,
    index: int,
    bn_index: int,
) -> keras.KerasTensor:
    """Apply Conv2D, BatchNormalization and ReLU: ``(batch, h, w, c)`` to ``(batch, h', w', 64)``."""
    x = keras.layers.Conv2D(
        FILTERS,
        kernel_size,
        strides=strides,
        padding="same",
        kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY),
        name=_numbered("conv2d", index),
    )(x)
    return _bn_relu(x, bn_index)


def separable_block(x: keras.KerasTensor, block: int) -> keras.KerasTensor:
    """Apply a 3x3 depthwise and a 1x1 convolution, both with BatchNormalization and ReLU; keeps the shape."""
    name = _numbered("depthwise_conv2d", block)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name=name)(x)
    x = _bn_relu(x, 2 * block + 1)
    return conv_bn_relu(x, kernel_size=1, strides=1, index=block + 1, bn_index=2 * block + 2)


def ds_cnn() -> keras.Model:
    """Build the DS-CNN with 64 filters and four separable blocks, uncompiled and in float.

    Returns:
        A model from MFCC features ``(batch, 49, 10, 1)`` to class probabilities ``(batch, 12)``.
    """
    inputs = keras.Input(INPUT_SHAPE, name="input")
    x = conv_bn_relu(inputs, kernel_size=(10, 4), strides=2, index=0, bn_index=0)
    x = keras.layers.Dropout(0.2, name="dropout")(x)
    for block in range(NUM_BLOCKS):
        x = separable_block(x, block)
    x = keras.layers.Dropout(0.4, name="dropout_1")(x)
    x = keras.layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(NUM_CLASSES, name="dense")(x)
    outputs = keras.layers.Softmax(name="softmax")(x)
    return keras.Model(inputs, outputs, name="ds_cnn")
