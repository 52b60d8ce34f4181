"""Twelve families of convolutional networks, in small forms for digits of 28 x 28 pixels.

Each has the blocks of its paper in their order. Widths and depths are cut down to 0.3 to 4 million
multiply-accumulates, and strides are left out where feature maps would vanish. LeNet has ReLU and max pooling, no
network has local response normalization, GoogLeNet has no auxiliary classifiers, and all but LeNet and AlexNet have
BatchNormalization.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
from keras import KerasTensor, layers, ops

from ..shared.blocks import conv, depthwise

INPUT_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
DROPOUT = 0.2

Body = Callable[[KerasTensor], KerasTensor]


def classifier(body: Body) -> Callable[[], keras.Model]:
    """Turn a function from pictures to logits into a builder of its network, uncompiled and in float.

    The network is named after the function and maps pictures ``(batch, 28, 28, 1)`` with values 0..1 to class
    probabilities ``(batch, 10)``.
    """

    def build() -> keras.Model:
        inputs = keras.Input(INPUT_SHAPE, name="input")
        return keras.Model(inputs, layers.Softmax(name="softmax")(body(inputs)), name=body.__name__)

    build.__name__, build.__doc__ = body.__name__, body.__doc__
    return build


def logits(x: KerasTensor) -> KerasTensor:
    """Average each channel over the picture, drop some, and apply a dense layer: to ``(batch, 10)``."""
    return layers.Dense(NUM_CLASSES)(layers.Dropout(DROPOUT)(layers.GlobalAveragePooling2D()(x)))


def dense(x: KerasTensor, units: Sequence[int]) -> KerasTensor:
    """Flatten, then dense layers with ReLU, each behind a dropout, and one that gives ``(batch, 10)``."""
    x = layers.Flatten()(x)
    for count in units:
        x = layers.Dense(count, activation="relu")(layers.Dropout(DROPOUT)(x))
    return layers.Dense(NUM_CLASSES)(x)


@classifier
def lenet(x: KerasTensor) -> KerasTensor:
    """LeNet-5 with ReLU, max pooling and dropout: 44,426 parameters.

    Reference: LeCun et al. 1998, "Gradient-based learning applied to document recognition".
    """
    for filters in (6, 16):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 5, activation="relu")(x))
    return dense(x, (120, 84))


@classifier
def alexnet(x: KerasTensor) -> KerasTensor:
    """Five convolutions with overlapping max pooling after the first, second and fifth, and three dense layers.

    Reference: Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks".
    """
    for filters, kernel_size, is_pooled in (
        (12, 5, True),
        (24, 5, True),
        (32, 3, False),
        (32, 3, False),
        (24, 3, True),
    ):
        x = layers.Conv2D(filters, kernel_size, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        if is_pooled:
            x = layers.MaxPooling2D(3, 2, "same")(x)
    return dense(x, (128, 128))


@classifier
def vgg11(x: KerasTensor) -> KerasTensor:
    """Eight 3x3 convolutions and three dense layers; the last four convolutions share one size of 3 x 3.

    Reference: Simonyan & Zisserman 2014, arXiv 1409.1556, configuration A.
    """
    for widths in ((12,), (24,), (40, 40), (64, 64, 64, 64)):
        for filters in widths:
            x = conv(x, filters)
        x = layers.MaxPooling2D()(x)
    return dense(x, (64, 64))


def inception(x: KerasTensor, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> KerasTensor:
    """Concatenate 1x1, 3x3 and 5x5 convolutions and a max pooling.

    Args:
        x: feature maps, shape ``(batch, h, w, c)``.
        one: filters of the 1x1 convolution.
        three: filters of a 1x1 convolution and of the 3x3 one behind it.
        five: the same before the 5x5 one.
        pooled: filters of the 1x1 convolution behind the pooling.

    Returns:
        Feature maps, shape ``(batch, h, w, one + three[1] + five[1] + pooled)``.
    """
    branches = [conv(x, one, 1), conv(conv(x, three[0], 1), three[1], 3), conv(conv(x, five[0], 1), five[1], 5)]
    return layers.Concatenate()([*branches, conv(layers.MaxPooling2D(3, 1, "same")(x), pooled, 1)])


@classifier
def googlenet(x: KerasTensor) -> KerasTensor:
    """A stem and five Inception blocks in three sizes.

    Reference: Szegedy et al. 2014, arXiv 1409.4842, without auxiliary classifiers.
    """
    x = layers.MaxPooling2D(3, 2, "same")(conv(x, 12))
    x = inception(x, 6, (6, 10), (2, 4), 4)
    x = layers.MaxPooling2D(3, 2, "same")(inception(x, 8, (8, 16), (3, 6), 6))
    x = inception(x, 16, (12, 24), (4, 8), 8)
    x = layers.MaxPooling2D(3, 2, "same")(inception(x, 16, (12, 24), (4, 8), 8))
    return logits(inception(x, 24, (16, 32), (6, 12), 12))


def basic_block(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    """Add the input, projected where the shape changes, to two 3x3 convolutions of it."""
    y = conv(conv(x, filters, strides=strides), filters, activation=None)
    shortcut = x if strides == 1 else conv(x, filters, 1, strides, activation=None)
    return layers.Activation("relu")(layers.Add()([y, shortcut]))


@classifier
def resnet18(x: KerasTensor) -> KerasTensor:
    """A stem and four stages of two residual blocks: 18 layers with weights on the longest way.

    Reference: He et al. 2015, arXiv 1512.03385, Table 1.
    """
    x = layers.MaxPooling2D(3, 2, "same")(conv(x, 8))
    for filters, strides in ((8, 1), (16, 2), (32, 2), (64, 2)):
        x = basic_block(basic_block(x, filters, strides), filters, 1)
    return logits(x)


def fire(x: KerasTensor, squeezed: int, expanded: int) -> KerasTensor:
    """Squeeze by a 1x1 convolution, then concatenate a 1x1 and a 3x3 one of ``expanded`` filters each."""
    x = conv(x, squeezed, 1)
    return layers.Concatenate()([conv(x, expanded, 1), conv(x, expanded, 3)])


@classifier
def squeezenet(x: KerasTensor) -> KerasTensor:
    """A stem, eight fire modules, and a convolution whose channels are averaged: there is no dense layer.

    Reference: Iandola et al. 2016, arXiv 1602.07360, with the early pooling of version 1.1.
    """
    x = layers.MaxPooling2D(3, 2, "same")(conv(x, 12))
    for modules in (((6, 12),) * 2, ((8, 16),) * 2, ((12, 24), (12, 24), (16, 32), (16, 32))):
        for squeezed, expanded in modules:
            x = fire(x, squeezed, expanded)
        if modules[-1] != (16, 32):
            x = layers.MaxPooling2D(3, 2, "same")(x)
    x = layers.Conv2D(NUM_CLASSES, 1)(layers.Dropout(DROPOUT)(x))
    return layers.GlobalAveragePooling2D()(x)


@classifier
def mobilenet_v1(x: KerasTensor) -> KerasTensor:
    """A stem and seven depthwise-separable blocks.

    Reference: Howard et al. 2017, arXiv 1704.04861, Table 1.
    """
    x = conv(x, 16)
    for filters, strides in ((32, 2), (48, 2), (48, 1), (64, 2), (64, 1), (64, 1), (128, 1)):
        x = conv(depthwise(x, strides=strides), filters, 1)
    return logits(x)


def channel_shuffle(x: KerasTensor, groups: int) -> KerasTensor:
    """Deal the channels of ``groups`` equal groups out in turn: channel ``g * n + i`` goes to ``i * groups + g``."""
    height, width, channels = x.shape[1:]
    x = layers.Reshape((height, width, groups, channels // groups))(x)
    return layers.Reshape((height, width, channels))(layers.Permute((1, 2, 4, 3))(x))


def shuffle_unit(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    """Convolve one half of the channels, keep the other, and shuffle; with strides, both are convolved from all."""
    if strides == 1:
        kept, x = ops.split(x, 2, axis=-1)
    else:
        kept = conv(depthwise(x, strides=strides, activation=None), filters // 2, 1)
    x = depthwise(conv(x, filters // 2, 1), strides=strides, activation=None)
    return channel_shuffle(layers.Concatenate()([kept, conv(x, filters // 2, 1)]), 2)


@classifier
def shufflenet_v2(x: KerasTensor) -> KerasTensor:
    """A stem and two stages of shuffle units.

    Reference: Ma et al. 2018, arXiv 1807.11164, Table 5.
    """
    x = layers.MaxPooling2D(3, 2, "same")(conv(x, 16))
    for filters, repeats in ((48, 3), (96, 3)):
        for repeat in range(repeats):
            x = shuffle_unit(x, filters, 1 if repeat else 2)
    return logits(conv(x, 128, 1))


class Stage(NamedTuple):
    """Inverted residuals of one kind.

    Args:
        expansion: channels of the expansion, as a multiple of the input's; at 1 there is none.
        kernel_size: of the depthwise convolution.
        filters: output channels.
        repeats: blocks, of which the first has the strides.
        strides: of the first block.
        squeeze: channels of the block's input to those inside squeeze-and-excitation; 0: there is none.
        activation: after expansion and depthwise convolution.
    """

    expansion: int
    kernel_size: int
    filters: int
    repeats: int
    strides: int
    squeeze: int = 0
    activation: str = "relu"


def squeeze_excite(x: KerasTensor, squeezed: int, activation: str, gate: str) -> KerasTensor:
    """Scale every channel by a factor from the channel means; keeps the shape ``(batch, h, w, c)``.

    Reference: Hu, Shen & Sun 2017, arXiv 1709.01507.
    """
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Activation(activation)(layers.Conv2D(squeezed, 1)(y))
    y = layers.Activation(gate)(layers.Conv2D(x.shape[-1], 1)(y))
    return layers.Multiply()([x, y])


def inverted_residual(x: KerasTensor, stage: Stage, strides: int) -> KerasTensor:
    """Expand, convolve each channel, weigh the channels, project linearly, and add the input where shapes agree.

    Returns:
        Feature maps, shape ``(batch, h / strides, w / strides, stage.filters)``.
    """
    channels, y = x.shape[-1], x
    if stage.expansion > 1:
        y = conv(y, stage.expansion * channels, 1, activation=stage.activation)
    y = depthwise(y, stage.kernel_size, strides, stage.activation)
    if stage.squeeze:
        is_swish = stage.activation == "silu"
        inside, gate = ("silu", "sigmoid") if is_swish else ("relu", "hard_sigmoid")
        y = squeeze_excite(y, max(channels // stage.squeeze, 4), inside, gate)
    y = conv(y, stage.filters, 1, activation=None)
    return layers.Add()([y, x]) if strides == 1 and channels == stage.filters else y


def inverted_residuals(x: KerasTensor, stem: int, stages: Sequence[Stage], head: int, activation: str) -> KerasTensor:
    """Apply a stem, stages of inverted residuals, and a 1x1 convolution.

    Args:
        x: pictures, shape ``(batch, 28, 28, 1)``.
        stem: filters of the 3x3 convolution.
        stages: what follows.
        head: filters of the 1x1 convolution.
        activation: of stem and head.
    """
    x = conv(x, stem, activation=activation)
    for stage in stages:
        for repeat in range(stage.repeats):
            x = inverted_residual(x, stage, 1 if repeat else stage.strides)
    return conv(x, head, 1, activation=activation)


@classifier
def mobilenet_v2(x: KerasTensor) -> KerasTensor:
    """Linear bottlenecks with ReLU6.

    Reference: Sandler et al. 2018, arXiv 1801.04381, Table 2.
    """
    rows = ((1, 3, 8, 1, 2), (6, 3, 12, 1, 2), (6, 3, 16, 2, 1), (6, 3, 24, 2, 2), (6, 3, 32, 2, 1), (6, 3, 48, 1, 1))
    return logits(inverted_residuals(x, 12, [Stage(*row, activation="relu6") for row in rows], 128, "relu6"))


@classifier
def mobilenet_v3(x: KerasTensor) -> KerasTensor:
    """The small form: squeeze-and-excitation, kernels of 5 x 5 and, in the later stages, hard-swish.

    Reference: Howard et al. 2019, arXiv 1905.02244, Table 2.
    """
    stages = (
        Stage(1, 3, 12, 1, 2, 4),
        Stage(4, 3, 16, 2, 2),
        Stage(4, 5, 24, 2, 2, 4, "hard_silu"),
        Stage(4, 5, 32, 2, 1, 4, "hard_silu"),
    )
    x = layers.GlobalAveragePooling2D()(inverted_residuals(x, 12, stages, 96, "hard_silu"))
    x = layers.Dropout(DROPOUT)(layers.Dense(128, activation="hard_silu")(x))
    return layers.Dense(NUM_CLASSES)(x)


@classifier
def efficientnet_b0(x: KerasTensor) -> KerasTensor:
    """Squeeze-and-excitation and swish in every block.

    Reference: Tan & Le 2019, arXiv 1905.11946, Table 1.
    """
    rows = ((1, 3, 8, 1, 2), (6, 3, 12, 1, 2), (6, 5, 16, 2, 1), (6, 3, 24, 1, 2), (6, 5, 32, 2, 1), (6, 3, 48, 1, 1))
    return logits(inverted_residuals(x, 12, [Stage(*row, 4, "silu") for row in rows], 128, "silu"))


@classifier
def mnasnet(x: KerasTensor) -> KerasTensor:
    """Kernels of two sizes, with squeeze-and-excitation in some stages.

    Reference: Tan et al. 2018, arXiv 1807.11626, Figure 7 (MnasNet-A1).
    """
    stages = (
        Stage(1, 3, 8, 1, 2),
        Stage(6, 3, 12, 1, 2),
        Stage(3, 5, 16, 2, 1, 4),
        Stage(6, 3, 24, 2, 2),
        Stage(6, 3, 32, 1, 1, 4),
        Stage(6, 5, 40, 1, 1, 4),
    )
    return logits(inverted_residuals(x, 12, stages, 128, "relu"))
