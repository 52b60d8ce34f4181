"""Blocks of convolutional networks on one backbone, at equal multiply-accumulates.

The backbone is a 3x3 convolution with strides 2, three stages of two blocks (16 x 16, 8 x 8 and 4 x 4 pixels, each
stage with twice the channels of the one before), global pooling and a matrix product. A design is a row of
:data:`DESIGNS`: its block, and the width that brings the network to the budget. Every network is a model of
:data:`BENCHMARK`::

    po2quant finetune --benchmark benchmarks.image_classification.design_blocks:BENCHMARK --model inception ...
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import keras
from keras import KerasTensor, layers, ops

from po2quant.benchmark import NetworkSpec
from po2quant.placement import Placement
from po2quant.training.schedules import constant, cosine

from ..shared.blocks import conv, depthwise
from ..shared.few_bits import strong
from . import BENCHMARK as TASK

BUDGET = 3_000_000
"""Multiply-accumulates of a network."""
TOLERANCE = 0.05
"""Share of the budget that a network may miss it by."""
INPUT_SHAPE, CLASSES = (32, 32, 3), 10
STEM_FILTERS, BLOCKS_PER_STAGE = 16, 2
STAGES = ((1, 1), (2, 2), (4, 2))
"""Channels, in widths, and strides of each stage."""

Block = Callable[[KerasTensor, int, int], KerasTensor]
"""From feature maps ``(batch, h, w, c)``, output channels and strides to ``(batch, h / strides, w / strides, c')``."""


def plain(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    """Apply two 3x3 convolutions."""
    return conv(conv(x, filters, strides=strides), filters)


def zeros(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    """Return every ``strides``-th pixel with channels of zeros behind its own: option A of arXiv 1512.03385."""
    if strides > 1:
        x = x[:, ::strides, ::strides]
    missing = filters - x.shape[-1]
    return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing))) if missing else x


def projection(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    """Return a linear 1x1 convolution of every ``strides``-th pixel: option C of arXiv 1512.03385."""
    return conv(x, filters, 1, strides, activation=None)


def identity(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    """Return the input, projected where its shape would not fit: option B of arXiv 1512.03385."""
    return x if strides == 1 and x.shape[-1] == filters else projection(x, filters, strides)


def residual(x: KerasTensor, filters: int, strides: int, shortcut: Block = identity) -> KerasTensor:
    """Add a shortcut to two 3x3 convolutions: arXiv 1512.03385, figure 2."""
    y = conv(conv(x, filters, strides=strides), filters, activation=None)
    return layers.ReLU()(layers.Add()([y, shortcut(x, filters, strides)]))


def bottleneck(x: KerasTensor, filters: int, strides: int, shortcut: Block = identity) -> KerasTensor:
    """Add a shortcut to a 3x3 convolution of a quarter of the channels, between two 1x1 ones: figure 5 there."""
    y = conv(conv(x, filters // 4, 1), filters // 4, 3, strides)
    return layers.ReLU()(layers.Add()([conv(y, filters, 1, activation=None), shortcut(x, filters, strides)]))


def two_3x3(x: KerasTensor, filters: int, between: str | None = "relu") -> KerasTensor:
    """Apply two 3x3 convolutions, which see the same pixels as a 5x5 one: arXiv 1512.00567, figure 1."""
    return conv(conv(x, filters, activation=between), filters)


def row_and_column(x: KerasTensor, filters: int, size: int) -> KerasTensor:
    """Apply a convolution along the rows and one along the columns: arXiv 1512.00567, figure 3."""
    return conv(conv(x, filters, (1, size)), filters, (size, 1))


def inception(
    x: KerasTensor,
    filters: int,
    strides: int,
    three: Callable[[KerasTensor, int], KerasTensor] = conv,
    five: Callable[[KerasTensor, int], KerasTensor] = functools.partial(conv, kernel_size=5),
) -> KerasTensor:
    """Join 1x1, 3x3 and 5x5 convolutions and a pooling: arXiv 1409.4842, figure 2b.

    They have 1/4, 1/2, 1/8 and 1/8 of the channels, as GoogLeNet's first module; 1x1 convolutions leave 3/8 before the
    3x3 convolution and 1/16 before the 5x5 one. Strides are a max pooling before the block.

    Args:
        x: feature maps.
        filters: output channels.
        strides: of the block.
        three: the 3x3 convolution.
        five: the 5x5 convolution.
    """
    if strides > 1:
        x = layers.MaxPooling2D(3, strides, "same")(x)
    eighth = filters // 8
    return layers.Concatenate()(
        [
            conv(x, filters - 6 * eighth, 1),
            three(conv(x, 3 * eighth, 1), 4 * eighth),
            five(conv(x, max(1, eighth // 2), 1), eighth),
            conv(layers.MaxPooling2D(3, 1, "same")(x), eighth, 1),
        ]
    )


def grouped(x: KerasTensor, filters: int, strides: int, groups: int = 4) -> KerasTensor:
    """Apply a 1x1 convolution, and a 3x3 one in groups of channels: arXiv 1610.02357, figure 3."""
    return conv(conv(x, filters, 1), filters, 3, strides, groups=groups)


def channel_wise(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    """Apply a 1x1 convolution, and a 3x3 one of each channel: the extreme Inception of arXiv 1610.02357, figure 4."""
    return depthwise(conv(x, filters, 1), strides=strides)


def separable(
    x: KerasTensor, filters: int, strides: int, between: str | None = "relu", after: str | None = "relu"
) -> KerasTensor:
    """Apply a 3x3 convolution of each channel and a 1x1 one: arXiv 1704.04861, figure 3.

    Args:
        x: feature maps.
        filters: output channels.
        strides: of the depthwise convolution.
        between: activation before the 1x1 convolution.
        after: activation after it.
    """
    return conv(depthwise(x, strides=strides, activation=between), filters, 1, activation=after)


def xception(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
    """Add two separable convolutions, a ReLU before each and none within, to a shortcut: arXiv 1610.02357, figure 5."""
    y = x
    for stride in (1, strides):
        y = separable(layers.ReLU()(y), filters, stride, between=None, after=None)
    return layers.Add()([y, identity(x, filters, strides)])


def inverted_residual(
    x: KerasTensor, filters: int, strides: int, activation: str = "relu6", after: str | None = None
) -> KerasTensor:
    """Widen six times, convolve each channel, narrow, and add the input where the shape stays: arXiv 1801.04381.

    Args:
        x: feature maps.
        filters: output channels.
        strides: of the depthwise convolution.
        activation: of the wide layers.
        after: activation of the narrow one; None: a linear bottleneck.
    """
    y = conv(x, 6 * x.shape[-1], 1, activation=activation)
    y = conv(depthwise(y, strides=strides, activation=activation), filters, 1, activation=after)
    return layers.Add()([y, x]) if y.shape == x.shape else y


@dataclasses.dataclass(frozen=True)
class Design:
    """A network of the comparison.

    Args:
        block: what the stages are made of.
        width: channels of the first stage, which are rounded to ``unit`` in each stage.
        unit: what numbers of channels must be multiples of.
        resolution: of the pictures after an average pooling, a divisor of 32.
        share: of the budget.
    """

    block: Block
    width: float
    unit: int = 2
    resolution: int = 32
    share: float = 1.0

    @property
    def filters(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.unit * max(1, round(self.width * times / self.unit)) for times, _ in STAGES)

    def build(self, name: str = "design") -> keras.Model:
        """Return the network, from pictures ``(batch, 32, 32, 3)`` with values 0..255 to probabilities."""
        inputs = keras.Input(INPUT_SHAPE, name="input")
        factor = INPUT_SHAPE[0] // self.resolution
        x = layers.AveragePooling2D(factor)(inputs) if factor > 1 else inputs
        x = conv(x, min(STEM_FILTERS, self.filters[0]), strides=2)
        for filters, (_, strides) in zip(self.filters, STAGES, strict=True):
            for number in range(BLOCKS_PER_STAGE):
                x = self.block(x, filters, 1 if number else strides)
        x = layers.GlobalAveragePooling2D()(x)
        outputs = layers.Dense(CLASSES, activation="softmax", name="dense")(x)
        return keras.Model(inputs, outputs, name=name)


def macs_of(model: keras.Model) -> int:
    """Return the multiply-accumulates of a network's convolutions and matrix products, padding included."""
    return sum(
        math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
        for layer in model.layers
        if hasattr(layer, "kernel")
    )


def with_budget(design: Design, budget: float = BUDGET, step: float = 0.25) -> Design:
    """Return a design with the width, a multiple of ``step``, whose MACs come closest to its share of a budget."""

    def missed(steps: int) -> float:
        return macs_of(dataclasses.replace(design, width=steps * step).build()) - budget * design.share

    low, high = 1, math.ceil(256 / step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if missed(middle) < 0 else (low, middle)
    return dataclasses.replace(design, width=step * min((low, high), key=lambda steps: abs(missed(steps))))


_with = functools.partial

DESIGNS: dict[str, Design] = {
    "plain": Design(plain, 10.75),
    "residual_identity": Design(residual, 10.75),
    "residual_zeros": Design(_with(residual, shortcut=zeros), 10.75),
    "residual_projection": Design(_with(residual, shortcut=projection), 10.75),
    "bottleneck_identity": Design(bottleneck, 37.25, 4),
    "bottleneck_zeros": Design(_with(bottleneck, shortcut=zeros), 41.25, 4),
    "bottleneck_projection": Design(_with(bottleneck, shortcut=projection), 31, 4),
    "inception": Design(inception, 29.25, 4),
    "inception_3x3": Design(_with(inception, five=two_3x3), 29.25, 4),
    "inception_3x3_linear": Design(_with(inception, five=_with(two_3x3, between=None)), 29.25, 4),
    "inception_1xn": Design(
        _with(inception, three=_with(row_and_column, size=3), five=_with(row_and_column, size=5)), 30.75, 4
    ),
    "grouped": Design(grouped, 22.75, 4),
    "channel_wise": Design(channel_wise, 37),
    "separable_both": Design(separable, 48.75),
    "separable_before": Design(_with(separable, after=None), 48.75),
    "separable_after": Design(_with(separable, between=None), 48.75),
    "xception": Design(xception, 25.25),
    "inverted_linear": Design(inverted_residual, 11.5),
    "inverted_relu6": Design(_with(inverted_residual, after="relu6"), 11.5),
    "inverted_linear_relu": Design(_with(inverted_residual, activation="relu"), 11.5),
    "separable_wide_16px": Design(separable, 103, resolution=16),
    "separable_half_width": Design(separable, 20.5, share=0.25),
    "separable_16px": Design(separable, 48.75, resolution=16, share=0.25),
}
"""What is compared. The ReLU of ``separable_before`` stands before the pointwise convolution alone."""

PRESET, EPOCHS, FLOAT_EPOCHS = "small", 2, 4
_annealed = cosine(warm_up=0.1)
RECIPE = strong(
    TASK.recipe_of("resnet8", PRESET),
    epochs=EPOCHS,
    float_epochs=FLOAT_EPOCHS,
    batch_size=64,
    learning_rate=constant(0.0002),
    float_learning_rate=lambda epoch: 0.003 * _annealed((epoch + 0.5) / FLOAT_EPOCHS),
)
"""Adam, a warm-up and a cosine. The rate of fine-tuning is small since inputs are pixels of 0..255."""

BENCHMARK = dataclasses.replace(
    TASK,
    name="design_blocks",
    networks={
        name: NetworkSpec(
            functools.partial(design.build, name), Placement(signed_input=False), recipes={PRESET: RECIPE}
        )
        for name, design in DESIGNS.items()
    },
)
