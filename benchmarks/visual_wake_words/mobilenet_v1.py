"""The MobileNetV1 0.25 of visual wake words.

Source: the MLPerf Tiny reference network (https://github.com/mlcommons/tiny, visual wake words), with
the same layer names, so that its weights load by layer name. The architecture is that of Howard et al.
2017, arXiv 1704.04861.
"""

from __future__ import annotations

import keras

INPUT_SHAPE = (96, 96, 3)
NUM_CLASSES = 2
STEM_FILTERS = 8
# (filters, strides) of each separable block
BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))
WEIGHT_DECAY = 1e-4  # of the Conv2D kernels; depthwise and dense kernels have none


def _numbered(name: str, index: int) -> str:
    """Return ``name``, ``name_1``, ``name_2``, ... as index counts from 0."""
    return f"{name}_{index}" if index else name


def _bn_relu(x: keras.KerasTensor, index: int) -> keras.KerasTensor:
    x = keras.layers.BatchNormalization(name=_numbered("batch_normalization", index))(x)
    return keras.layers.ReLU(name=_numbered("relu", index))(x)


def conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel_size: int, strides: int, index: int, bn_index: int
) -> keras.KerasTensor:
    """Apply Conv2D, BatchNormalization and ReLU: ``(batch, h, w, c)`` to ``(batch, h', w', filters)``."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY),
        name=_numbered("conv2d", index),
    )(x)
    return _bn_relu(x, bn_index)


def separable_block(x: keras.KerasTensor, filters: int, strides: int, block: int) -> keras.KerasTensor:
    """Apply a 3x3 depthwise and a 1x1 convolution, both with BatchNormalization and ReLU.

    Maps ``(batch, h, w, c)`` to ``(batch, h / strides, w / strides, filters)``.
    """
    name = _numbered("depthwise_conv2d", block)
    x = keras.layers.DepthwiseConv2D(3, strides=strides, padding="same", name=name)(x)
    x = _bn_relu(x, 2 * block + 1)
    return conv_bn_relu(x, filters, kernel_size=1, strides=1, index=block + 1, bn_index=2 * block + 2)


def mobilenet_v1() -> keras.Model:
    """Build MobileNetV1 with width 0.25, uncompiled and in float.

    Returns:
        A model from images ``(batch, 96, 96, 3)`` with values 0..1 to class probabilities ``(batch, 2)``;
        class 1 is "person".
    """
    inputs = keras.Input(INPUT_SHAPE, name="input")
    x = conv_bn_relu(inputs, STEM_FILTERS, kernel_size=3, strides=2, index=0, bn_index=0)
    for block, (filters, strides) in enumerate(BLOCKS):
        x = separable_block(x, filters, strides, block)
    x = keras.layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(NUM_CLASSES, name="dense")(x)
    outputs = keras.layers.Softmax(name="softmax")(x)
    return keras.Model(inputs, outputs, name="mobilenet_v1")
