"""The EfficientNet-B0 of visual wake words.

Source: Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
arXiv 1905.11946, Table 1, with a bias in every convolution as in the published quantization
configuration. There is neither dropout nor stochastic depth.
"""

from __future__ import annotations

import string

import keras

INPUT_SHAPE = (96, 96, 3)
NUM_CLASSES = 2
STEM_FILTERS = 32
HEAD_FILTERS = 1280
# expansion factor, kernel size, output channels, repeats, strides of the first repeat
STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
SQUEEZE_FACTOR = 4  # channels of the block's input to those inside squeeze-and-excitation
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.9  # statistics settle within an epoch of a few thousand pictures; 0.99 needs four


def _fan_out_normal() -> keras.initializers.Initializer:
    """Return a new He initializer over the fan-out; one shared object would repeat its values."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")


def _conv(x: keras.KerasTensor, filters: int, name: str, kernel_size: int = 1, strides: int = 1) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        kernel_initializer=_fan_out_normal(),
        name=name,
    )(x)


def _bn(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")(
        x
    )


def _swish(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.Activation("swish", name=f"{name}_swish")(x)


def squeeze_excite(x: keras.KerasTensor, squeezed: int, name: str) -> keras.KerasTensor:
    """Scale every channel by a factor from the channel means; keeps the shape ``(batch, h, w, c)``."""
    se = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_squeeze")(x)
    se = _swish(_conv(se, squeezed, f"{name}_se_reduce"), f"{name}_se_reduce")
    se = _conv(se, x.shape[-1], f"{name}_se_expand")
    se = keras.layers.Activation("sigmoid", name=f"{name}_se_expand_sigmoid")(se)
    return keras.layers.Multiply(name=f"{name}_se_excite")([x, se])


def mb_conv(
    x: keras.KerasTensor, expansion: int, kernel_size: int, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    """Apply one MBConv block: expansion, depthwise, squeeze-and-excitation, projection, and a shortcut.

    Args:
        x: feature maps, shape ``(batch, h, w, c)``.
        expansion: channels of the 1x1 expansion, as a multiple of ``c``; at 1 there is no expansion.
        kernel_size: of the depthwise convolution.
        filters: output channels.
        strides: of the depthwise convolution; the shortcut exists at stride 1 and equal channels.
        name: of the block, the prefix of its layers.

    Returns:
        Feature maps, shape ``(batch, h / strides, w / strides, filters)``.
    """
    channels = x.shape[-1]
    expand, depthwise, project = f"{name}_expand_conv", f"{name}_dwconv", f"{name}_project_conv"
    y = x
    if expansion > 1:
        y = _swish(_bn(_conv(y, expansion * channels, expand), expand), expand)
    y = keras.layers.DepthwiseConv2D(
        kernel_size, strides=strides, padding="same", depthwise_initializer=_fan_out_normal(), name=depthwise
    )(y)
    y = _swish(_bn(y, depthwise), depthwise)
    y = squeeze_excite(y, channels // SQUEEZE_FACTOR, name)
    y = _bn(_conv(y, filters, project), project)
    if strides == 1 and channels == filters:
        y = keras.layers.Add(name=f"{name}_add")([y, x])
    return y


def efficientnet_b0() -> keras.Model:
    """Build EfficientNet-B0, uncompiled and in float.

    Returns:
        A model from images ``(batch, 96, 96, 3)`` with values 0..1 to class probabilities ``(batch, 2)``;
        class 1 is "person".
    """
    inputs = keras.Input(INPUT_SHAPE, name="input")
    x = _conv(inputs, STEM_FILTERS, "stem_conv", kernel_size=3, strides=2)
    x = _swish(_bn(x, "stem_conv"), "stem_conv")
    for stage, (expansion, kernel_size, filters, repeats, strides) in enumerate(STAGES, start=1):
        for repeat, letter in enumerate(string.ascii_lowercase[:repeats]):
            block_strides = strides if repeat == 0 else 1
            x = mb_conv(x, expansion, kernel_size, filters, block_strides, f"block{stage}{letter}")
    x = _swish(_bn(_conv(x, HEAD_FILTERS, "top_conv"), "top_conv"), "top_conv")
    x = keras.layers.GlobalAveragePooling2D(name="top_pool")(x)
    x = keras.layers.Dense(NUM_CLASSES, name="predictions")(x)
    outputs = keras.layers.Softmax(name="softmax")(x)
    return keras.Model(inputs, outputs, name="efficientnet_b0")
