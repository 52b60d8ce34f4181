"""MobileNetV3: inverted residuals with hard swish, and squeeze-and-excitation of hard sigmoids.

Source: Howard et al. 2019, "Searching for MobileNetV3", arXiv 1905.02244, Tables 1 and 2, with a bias in no convolution
that BatchNormalization follows.
"""

from __future__ import annotations

import dataclasses

import keras

RELU, HARD_SWISH = "relu", "hard_silu"
STEM_FILTERS = 16
DIVISOR = 8  # channels are multiples of it
SQUEEZE_FACTOR = 4  # expanded channels to those inside squeeze-and-excitation
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.9  # statistics settle within some dozens of steps, not the thousands of the paper's 0.999


@dataclasses.dataclass(frozen=True)
class Form:
    """Rows of a table of the paper: kernel, expanded channels, output channels, squeezes, function, strides."""

    blocks: tuple[tuple[int, int, int, bool, str, int], ...]
    head_filters: int
    hidden_units: int


SMALL = Form(
    (
        (3, 16, 16, True, RELU, 2),
        (3, 72, 24, False, RELU, 2),
        (3, 88, 24, False, RELU, 1),
        (5, 96, 40, True, HARD_SWISH, 2),
        (5, 240, 40, True, HARD_SWISH, 1),
        (5, 240, 40, True, HARD_SWISH, 1),
        (5, 120, 48, True, HARD_SWISH, 1),
        (5, 144, 48, True, HARD_SWISH, 1),
        (5, 288, 96, True, HARD_SWISH, 2),
        (5, 576, 96, True, HARD_SWISH, 1),
        (5, 576, 96, True, HARD_SWISH, 1),
    ),
    head_filters=576,
    hidden_units=1024,
)
LARGE = Form(
    (
        (3, 16, 16, False, RELU, 1),
        (3, 64, 24, False, RELU, 2),
        (3, 72, 24, False, RELU, 1),
        (5, 72, 40, True, RELU, 2),
        (5, 120, 40, True, RELU, 1),
        (5, 120, 40, True, RELU, 1),
        (3, 240, 80, False, HARD_SWISH, 2),
        (3, 200, 80, False, HARD_SWISH, 1),
        (3, 184, 80, False, HARD_SWISH, 1),
        (3, 184, 80, False, HARD_SWISH, 1),
        (3, 480, 112, True, HARD_SWISH, 1),
        (3, 672, 112, True, HARD_SWISH, 1),
        (5, 672, 160, True, HARD_SWISH, 2),
        (5, 960, 160, True, HARD_SWISH, 1),
        (5, 960, 160, True, HARD_SWISH, 1),
    ),
    head_filters=960,
    hidden_units=1280,
)


def scaled(channels: int, width: float) -> int:
    """Return a number of channels times a width multiplier, a multiple of 8 that is at most a tenth smaller."""
    wanted = channels * width
    rounded = max(DIVISOR, int(wanted + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * wanted else rounded


def _conv(x: keras.KerasTensor, filters: int, name: str, kernel_size: int = 1, strides: int = 1) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return _bn(x, name)


def _bn(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    layer = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")
    return layer(x)


def _function(x: keras.KerasTensor, function: str, name: str) -> keras.KerasTensor:
    """Apply a function of each element: a ReLU is a layer of its own, which costs integer programs nothing."""
    if function == RELU:
        return keras.layers.ReLU(name=f"{name}_relu")(x)
    return keras.layers.Activation(function, name=f"{name}_{function}")(x)


def squeeze_excite(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Scale every channel by a factor in [0, 1] from the channel means; keeps the shape ``(batch, h, w, c)``."""
    channels = x.shape[-1]
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_squeeze")(x)
    y = keras.layers.Conv2D(scaled(channels, 1 / SQUEEZE_FACTOR), 1, name=f"{name}_se_reduce")(y)
    y = keras.layers.ReLU(name=f"{name}_se_relu")(y)
    y = keras.layers.Conv2D(channels, 1, name=f"{name}_se_expand")(y)
    y = keras.layers.Activation("hard_sigmoid", name=f"{name}_se_gate")(y)
    return keras.layers.Multiply(name=f"{name}_se_excite")([x, y])


def block(
    x: keras.KerasTensor,
    kernel_size: int,
    expanded: int,
    filters: int,
    squeezes: bool,
    function: str,
    strides: int,
    name: str,
) -> keras.KerasTensor:
    """Apply one inverted residual: expansion, depthwise convolution, squeeze-and-excitation, linear projection.

    Args:
        x: feature maps, shape ``(batch, h, w, c)``.
        kernel_size: of the depthwise convolution.
        expanded: channels within the block; at ``c`` there is no expansion.
        filters: output channels.
        squeezes: whether there is squeeze-and-excitation.
        function: of the expanded channels, :data:`RELU` or :data:`HARD_SWISH`.
        strides: of the depthwise convolution; the shortcut exists at stride 1 and equal channels.
        name: of the block, the prefix of its layers.

    Returns:
        Feature maps, shape ``(batch, h / strides, w / strides, filters)``.
    """
    channels, y = x.shape[-1], x
    if expanded != channels:
        y = _function(_conv(y, expanded, f"{name}_expand"), function, f"{name}_expand")
    y = keras.layers.DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise",
    )(y)
    y = _function(_bn(y, f"{name}_depthwise"), function, f"{name}_depthwise")
    if squeezes:
        y = squeeze_excite(y, name)
    y = _conv(y, filters, f"{name}_project")
    return keras.layers.Add(name=f"{name}_add")([y, x]) if strides == 1 and channels == filters else y


def backbone(inputs: keras.KerasTensor, form: Form, width: float = 1.0, stem_strides: int = 2) -> keras.KerasTensor:
    """Return the last feature maps of a MobileNetV3, shape ``(batch, h / 32, w / 32, width * head_filters)``.

    Args:
        inputs: pictures, shape ``(batch, h, w, c)``, of any size.
        form: :data:`SMALL` or :data:`LARGE`.
        width: factor of all channels.
        stem_strides: of the first convolution; 1 leaves small pictures twice the rows and columns in every layer.
    """
    x = _conv(inputs, scaled(STEM_FILTERS, width), "stem", kernel_size=3, strides=stem_strides)
    x = _function(x, HARD_SWISH, "stem")
    for number, (kernel_size, expanded, filters, squeezes, function, strides) in enumerate(form.blocks):
        channels = scaled(expanded, width), scaled(filters, width)
        x = block(x, kernel_size, *channels, squeezes, function, strides, f"block{number}")
    return _function(_conv(x, scaled(form.head_filters, width), "head"), HARD_SWISH, "head")
