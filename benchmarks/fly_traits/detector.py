"""Where the flies are: a detector of the EfficientDet-Lite kind, sized for one core.

The backbone has inverted residual blocks with ReLU6 and no squeeze-and-excitation; two BiFPN layers of separable
convolutions join three resolutions by addition, nearest upsampling and max pooling; two heads, the same at every
resolution, give a logit and the code of a box for each anchor. Their outputs are one tensor, so that a loss and a file
of weights see one output.

Sources: Tan et al. 2020, "EfficientDet", arXiv 1911.09070; Lin et al. 2017, "Focal Loss", arXiv 1708.02002. Unlike
theirs, the heads have no BatchNorm: one that is shared would see other statistics at every resolution.
"""

from __future__ import annotations

import math

import keras
from keras import layers

from .boxes import ASPECTS, LEVELS

INPUT_SIZE = 256
STEM_FILTERS = 16
STAGES = ((1, 16, 3, 2, 1), (4, 16, 3, 1, 1), (4, 24, 3, 2, 2), (4, 40, 5, 2, 2), (4, 64, 5, 2, 1))
"""Expansion, filters, kernel, stride of the first block, and blocks of each stage."""
CHANNELS = 32  # of every feature map of BiFPN and heads
FUSIONS = 2
HEAD_LAYERS = 2
BOX_CODE = 4
MOMENTUM = 0.9  # of the running statistics: an epoch has some sixty steps
PRIOR = 0.01
"""Share of anchors that an untrained network takes for a fly: a larger one lets the first steps diverge."""


def _normalized(x: keras.KerasTensor, name: str, is_active: bool = True) -> keras.KerasTensor:
    x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if is_active else x


def _inverted_residual(
    x: keras.KerasTensor, expansion: int, filters: int, kernel: int, strides: int, name: str
) -> keras.KerasTensor:
    shortcut, channels = x, x.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(expansion * channels, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _normalized(x, f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel, strides, "same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _normalized(x, f"{name}_depthwise")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = _normalized(x, f"{name}_project", is_active=False)
    return layers.Add(name=f"{name}_add")([shortcut, x]) if strides == 1 and channels == filters else x


def _backbone(x: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Return the last feature map of each stride in :data:`LEVELS`."""
    size = x.shape[1]
    x = layers.Conv2D(STEM_FILTERS, 3, 2, "same", use_bias=False, name="stem")(x)
    x, maps = _normalized(x, "stem"), {}
    for stage, (expansion, filters, kernel, strides, blocks) in enumerate(STAGES, 1):
        for block in range(blocks):
            step = strides if block == 0 else 1
            x = _inverted_residual(x, expansion, filters, kernel, step, f"stage{stage}_{block + 1}")
        maps[size // x.shape[1]] = x
    return [maps[stride] for stride in LEVELS]


def _fused(parts: list[keras.KerasTensor], name: str) -> keras.KerasTensor:
    """Add feature maps two at a time, then ReLU6, a separable convolution and BatchNorm."""
    x = parts[0]
    for index, part in enumerate(parts[1:], 1):
        x = layers.Add(name=f"{name}_add{index}")([x, part])
    x = layers.ReLU(6.0, name=f"{name}_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = layers.Conv2D(CHANNELS, 1, use_bias=False, name=f"{name}_pointwise")(x)
    return _normalized(x, name, is_active=False)


def _bifpn(maps: list[keras.KerasTensor], name: str) -> list[keras.KerasTensor]:
    """Pass maps down from the coarsest and up again: a BiFPN layer."""
    down = [maps[-1]]
    for level in range(len(maps) - 2, -1, -1):
        coarser = layers.UpSampling2D(interpolation="nearest", name=f"{name}_up{level}")(down[0])
        down.insert(0, _fused([maps[level], coarser], f"{name}_down{level}"))
    up = [down[0]]
    for level in range(1, len(maps)):
        finer = layers.MaxPooling2D(name=f"{name}_pool{level}")(up[-1])
        own = [maps[level]] if level == len(maps) - 1 else [maps[level], down[level]]
        up.append(_fused([*own, finer], f"{name}_out{level}"))
    return up


def _head(maps: list[keras.KerasTensor], size: int, bias: float, name: str) -> list[keras.KerasTensor]:
    """Return ``(anchors, size)`` of each map, of layers that all maps share."""
    shared = []
    for index in range(HEAD_LAYERS):
        shared += [
            layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}{index}_depthwise"),
            layers.Conv2D(CHANNELS, 1, name=f"{name}{index}_pointwise"),
            layers.ReLU(6.0, name=f"{name}{index}_relu"),
        ]
    shared.append(
        layers.Conv2D(len(ASPECTS) * size, 1, bias_initializer=keras.initializers.Constant(bias), name=f"{name}_output")
    )
    outputs = []
    for level, x in enumerate(maps):
        for layer in shared:
            x = layer(x)
        outputs.append(layers.Reshape((-1, size), name=f"{name}_reshape{level}")(x))
    return outputs


def efficientdet(size: int = INPUT_SIZE) -> keras.Model:
    """Build the detector, uncompiled and in float.

    Args:
        size: rows and columns of a picture, a multiple of 32.

    Returns:
        A model from pictures ``(batch, size, size, 3)`` with values 0..1 to ``(batch, anchors, 5)``: the logit of a fly
        and the code of its box for each of :func:`~benchmarks.fly_traits.boxes.anchors`.
    """
    inputs = keras.Input((size, size, 3), name="picture")
    maps = []
    for level, x in enumerate(_backbone(inputs)):
        x = layers.Conv2D(CHANNELS, 1, use_bias=False, name=f"lateral{level}")(x)
        maps.append(_normalized(x, f"lateral{level}", is_active=False))
    for fusion in range(FUSIONS):
        maps = _bifpn(maps, f"bifpn{fusion + 1}")
    logits = _head(maps, 1, -math.log((1 - PRIOR) / PRIOR), "class")
    codes = _head(maps, BOX_CODE, 0.0, "box")
    levels = [
        layers.Concatenate(name=f"anchors{level}")(pair) for level, pair in enumerate(zip(logits, codes, strict=True))
    ]
    return keras.Model(inputs, layers.Concatenate(axis=1, name="anchors")(levels), name="efficientdet")
