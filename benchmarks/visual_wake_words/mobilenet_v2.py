"""The MobileNetV2 1.0 of visual wake words.

Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381,
Table 2, with three choices of the published quantization configuration: the first bottleneck (t = 1)
keeps its 1x1 expansion convolution, every convolution has a bias, and a 1x1 convolution classifies.
There is no dropout before the classifier.
"""

from __future__ import annotations

import keras

INPUT_SHAPE = (96, 96, 3)
NUM_CLASSES = 2
STEM_FILTERS = 32
HEAD_FILTERS = 1280
# t, c, n, s of the paper: expansion factor, output channels, repeats, strides of the first repeat
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
BATCH_NORM_EPSILON = 1e-3


def _numbered(name: str, index: int) -> str:
    """Return ``name``, ``name_1``, ``name_2``, ... as index counts from 0."""
    return f"{name}_{index}" if index else name


def _fan_out_normal() -> keras.initializers.Initializer:
    """Return a new He initializer over the fan-out; one shared object would repeat its values."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")


def _bn(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")(x)


def _bn_relu6(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu6")(_bn(x, name))


def _conv(x: keras.KerasTensor, filters: int, name: str, kernel_size: int = 1, strides: int = 1) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        kernel_initializer=_fan_out_normal(),
        name=name,
    )(x)


def inverted_residual(
    x: keras.KerasTensor, expansion: int, filters: int, strides: int, block: int
) -> keras.KerasTensor:
    """Apply one bottleneck: 1x1 expansion, 3x3 depthwise, linear 1x1 projection, and a shortcut.

    Args:
        x: feature maps, shape ``(batch, h, w, c)``.
        expansion: channels of the expansion, as a multiple of ``c``.
        filters: output channels.
        strides: of the depthwise convolution; the shortcut exists at stride 1 and equal channels.
        block: number of the bottleneck, from 0.

    Returns:
        Feature maps, shape ``(batch, h / strides, w / strides, filters)``.
    """
    expand = f"conv2d_{2 * block + 1}"
    depthwise = _numbered("depthwise_conv2d", block)
    project = f"conv2d_{2 * block + 2}"
    y = _bn_relu6(_conv(x, expansion * x.shape[-1], expand), expand)
    y = keras.layers.DepthwiseConv2D(
        3, strides=strides, padding="same", depthwise_initializer=_fan_out_normal(), name=depthwise
    )(y)
    y = _bn_relu6(y, depthwise)
    y = _bn(_conv(y, filters, project), project)
    if strides == 1 and x.shape[-1] == filters:
        y = keras.layers.Add(name=f"{project}_add")([y, x])
    return y


def mobilenet_v2() -> keras.Model:
    """Build MobileNetV2 with width 1.0, uncompiled and in float.

    Returns:
        A model from images ``(batch, 96, 96, 3)`` with values 0..1 to class probabilities ``(batch, 2)``;
        class 1 is "person".
    """
    inputs = keras.Input(INPUT_SHAPE, name="input")
    x = _bn_relu6(_conv(inputs, STEM_FILTERS, "conv2d", kernel_size=3, strides=2), "conv2d")
    block = 0
    for expansion, filters, repeats, strides in BOTTLENECKS:
        for repeat in range(repeats):
            x = inverted_residual(x, expansion, filters, strides if repeat == 0 else 1, block)
            block += 1
    head, classifier = f"conv2d_{2 * block + 1}", f"conv2d_{2 * block + 2}"
    x = _bn_relu6(_conv(x, HEAD_FILTERS, head), head)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = keras.layers.Conv2D(NUM_CLASSES, 1, padding="same", name=classifier)(x)
    x = keras.layers.Reshape((NUM_CLASSES,), name="reshape")(x)
    outputs = keras.layers.Activation("softmax", name="softmax")(x)
    return keras.Model(inputs, outputs, name="mobilenet_v2")
