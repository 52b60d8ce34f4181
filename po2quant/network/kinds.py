"""The core vocabulary: one table of the layer kinds that a lowered network consists of, a row a kind.

Placement, accounting, folding, quantization, diagnostics and the building of integer programs all read it. To add a
kind is to add a row.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import qkeras
from keras import layers

from po2quant.cost import INPUT, SOFTMAX, WEIGHTS
from po2quant.layers import Elementwise, Rearrange, Recurrent

if TYPE_CHECKING:
    from po2quant.network.graph import Node

Size2D = tuple[int, ...]
"""Rows and columns."""

COMPUTE_DTYPES = ("float32", "float64")


class Role(enum.Enum):
    """What a kind is for the placement of activation quantizers."""

    INPUT = "an input of the model: quantized"
    WEIGHTED = "has a kernel and a bias: quantized, after its ReLU where one follows"
    SUM = "adds tensors: quantized, after its ReLU where one follows; its shortcut may have a quantizer of its own"
    JOIN = "joins tensors: quantized"
    POOLING = "summarizes windows: quantized"
    MOVING = "moves integers unchanged: never quantized"
    RECURRENT = "runs a network for each step: quantized inside"
    TRANSPARENT = "does nothing in inference: never quantized"
    FUNCTION = "an activation function: see FUNCTIONS"
    NORMALIZATION = "folded into the weighted layer before it, and gone"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What a weighted kind is beside its role.

    Args:
        quantized: its QKeras class.
        prefix: what Keras' arguments for the kernel begin with.
        channel_axes: the kernel's last axes, which together count the output channels; one scale for each channel.
        arguments: constructor arguments, beside those that every weighted layer has.
        units: attribute with the number that QKeras prints; None: it prints none.
        unit_label: how QKeras labels that number: ``"f"`` for filters or ``"u"`` for units.
        product: given layer, input and kernel, returns the layer's output before its bias.
    """

    quantized: type[keras.layers.Layer]
    prefix: str
    channel_axes: tuple[int, ...]
    arguments: tuple[str, ...]
    units: str | None
    unit_label: str
    product: Callable[[keras.layers.Layer, keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads one input channel."""
        return len(self.channel_axes) > 1


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of core layer.

    Args:
        layer: Keras class, and no subclass: it may compute something else.
        role: what it is for placement.
        operation: class in :mod:`po2quant.integer.operations` of what it becomes; empty where it becomes none.
        keeps_sign: whether its output is negative only where an input is. Otherwise it can always be negative; of a
            recurrent layer its cell says it.
        counted: what the bit accounting counts it as, see :class:`~po2quant.cost.LayerShape`; None: not at all.
        kernel: of weighted kinds.
        attributes: given a call of the layer, returns what the operation is made with, beside its weights.
    """

    layer: type[keras.layers.Layer]
    role: Role
    operation: str = ""
    keeps_sign: bool = True
    counted: str | None = None
    kernel: Kernel | None = None
    attributes: Callable[[Node], dict[str, Any]] = lambda node: {}

    @property
    def quantized(self) -> type[keras.layers.Layer]:
        """Class of the layer in a quantized network."""
        return self.layer if self.kernel is None else self.kernel.quantized


def _convolution(layer: keras.layers.Layer, x: keras.KerasTensor, kernel: keras.KerasTensor) -> keras.KerasTensor:
    return layer.convolution_op(x, kernel)


def _depthwise_convolution(
    layer: keras.layers.Layer, x: keras.KerasTensor, kernel: keras.KerasTensor
) -> keras.KerasTensor:
    return keras.ops.depthwise_conv(x, kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate)


def _matrix_product(layer: keras.layers.Layer, x: keras.KerasTensor, kernel: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.matmul(x, kernel)


def _padding(layer: keras.layers.Layer, image: Size2D, window: Size2D, dilation: Size2D) -> tuple[Size2D, ...]:
    """Return the rows and columns that TensorFlow adds around an image; of an odd number, the most after it."""
    if layer.padding == "valid":
        return (0, 0), (0, 0)
    totals = [
        max((-(-size // stride) - 1) * stride + (taps - 1) * step + 1 - size, 0)
        for size, stride, taps, step in zip(image, layer.strides, window, dilation, strict=True)
    ]
    return tuple((total // 2, total - total // 2) for total in totals)


def _of_convolution(node: Node) -> dict[str, Any]:
    layer, (rows, columns, channels) = node.layer, node.inputs[0].fixed_shape
    return {
        "strides": tuple(layer.strides),
        "dilation": tuple(layer.dilation_rate),
        "padding": _padding(layer, (rows, columns), layer.kernel_size, layer.dilation_rate),
        "groups": channels if kernel_facts(layer).is_depthwise else layer.groups,
    }


def _of_pooling(node: Node) -> dict[str, Any]:
    layer, image = node.layer, node.inputs[0].fixed_shape[:2]
    if not hasattr(layer, "pool_size"):
        return {"window": image, "strides": (1, 1)}
    padding = _padding(layer, image, layer.pool_size, (1, 1))
    return {"window": tuple(layer.pool_size), "strides": tuple(layer.strides), "padding": padding}


def _of_concatenation(node: Node) -> dict[str, Any]:
    return {"axis": node.layer.axis % (len(node.shape) + 1) - 1}


def _of_rearranging(node: Node) -> dict[str, Any]:
    return {name: getattr(node.layer, name) for name in ("sizes", "strides", "offset")}


def _of_recurrence(node: Node) -> dict[str, Any]:
    return {"steps": node.inputs[0].fixed_shape[0], "return_sequences": node.layer.return_sequences}


def _of_zero_padding(node: Node) -> dict[str, Any]:
    return {"padding": tuple(map(tuple, node.layer.padding))}


_WINDOW = ("kernel_size", "strides", "padding", "data_format", "dilation_rate")

_FULL = Kernel(qkeras.QConv2D, "kernel", (3,), (*_WINDOW, "filters", "groups"), "filters", "f", _convolution)
_DEPTHWISE = Kernel(
    qkeras.QDepthwiseConv2D, "depthwise", (2, 3), (*_WINDOW, "depth_multiplier"), None, "f", _depthwise_convolution
)
_DENSE = Kernel(qkeras.QDense, "kernel", (1,), ("units",), "units", "u", _matrix_product)

KINDS = (
    Kind(layers.InputLayer, Role.INPUT, counted=INPUT),
    Kind(layers.Conv2D, Role.WEIGHTED, "Conv2D", False, WEIGHTS, _FULL, _of_convolution),
    Kind(layers.DepthwiseConv2D, Role.WEIGHTED, "Conv2D", False, WEIGHTS, _DEPTHWISE, _of_convolution),
    Kind(layers.Dense, Role.WEIGHTED, "Dense", False, WEIGHTS, _DENSE),
    Kind(layers.BatchNormalization, Role.NORMALIZATION),
    Kind(layers.Activation, Role.FUNCTION, counted=SOFTMAX),  # QKeras charges a softmax of this class alone
    Kind(layers.ReLU, Role.FUNCTION),
    Kind(layers.LeakyReLU, Role.FUNCTION),
    Kind(layers.ELU, Role.FUNCTION),
    Kind(layers.Rescaling, Role.FUNCTION),
    Kind(Elementwise, Role.FUNCTION),
    Kind(layers.Softmax, Role.FUNCTION),
    Kind(layers.Add, Role.SUM, "Add"),
    Kind(layers.Multiply, Role.JOIN, "Multiply"),
    Kind(layers.Maximum, Role.JOIN, "Maximum"),
    Kind(layers.Minimum, Role.JOIN, "Minimum"),
    Kind(layers.Concatenate, Role.JOIN, "Concatenate", attributes=_of_concatenation),
    Kind(layers.AveragePooling2D, Role.POOLING, "AveragePooling", attributes=_of_pooling),
    Kind(layers.MaxPooling2D, Role.POOLING, "MaxPooling", attributes=_of_pooling),
    Kind(layers.GlobalAveragePooling2D, Role.POOLING, "AveragePooling", attributes=_of_pooling),
    Kind(layers.GlobalMaxPooling2D, Role.POOLING, "MaxPooling", attributes=_of_pooling),
    Kind(layers.Flatten, Role.MOVING, "Reshape"),
    Kind(layers.Reshape, Role.MOVING, "Reshape"),
    Kind(Rearrange, Role.MOVING, "Rearrange", attributes=_of_rearranging),
    Kind(layers.ZeroPadding2D, Role.MOVING, "ZeroPadding", attributes=_of_zero_padding),
    Kind(Recurrent, Role.RECURRENT, "Recurrent", False, attributes=_of_recurrence),
    Kind(layers.Dropout, Role.TRANSPARENT),
    Kind(layers.SpatialDropout2D, Role.TRANSPARENT),
    Kind(layers.Identity, Role.TRANSPARENT),
)


class Form(enum.Enum):
    """What an activation function becomes in integers."""

    NOTHING = "its input as it is: never quantized"
    CLIP = "limits of the operation before it, which it shares a quantizer with"
    TABLE = "a look-up table: quantized before and after"
    HOST = "left to the host, at the end: never quantized"


@dataclasses.dataclass(frozen=True)
class Function:
    """An activation function.

    Args:
        form: what it becomes in integers.
        is_nonnegative: whether no output is negative, whatever the input.
        keeps_sign: whether its output is negative only where the input is.
    """

    form: Form
    is_nonnegative: bool = False
    keeps_sign: bool = False


FUNCTIONS = {
    "linear": Function(Form.NOTHING),
    "relu": Function(Form.CLIP, is_nonnegative=True),
    "relu6": Function(Form.CLIP, is_nonnegative=True),
    "silu": Function(Form.TABLE),
    "sigmoid": Function(Form.TABLE, is_nonnegative=True),
    "softmax": Function(Form.HOST, is_nonnegative=True),
    "leaky_relu": Function(Form.TABLE, keeps_sign=True),
    "elu": Function(Form.TABLE, keeps_sign=True),
    "celu": Function(Form.TABLE, keeps_sign=True),
    "selu": Function(Form.TABLE, keeps_sign=True),
    "gelu": Function(Form.TABLE, keeps_sign=True),
    "mish": Function(Form.TABLE, keeps_sign=True),
    "tanh": Function(Form.TABLE, keeps_sign=True),
    "hard_tanh": Function(Form.TABLE, keeps_sign=True),
    "softsign": Function(Form.TABLE, keeps_sign=True),
    "hard_silu": Function(Form.TABLE, keeps_sign=True),
    "hard_sigmoid": Function(Form.TABLE, is_nonnegative=True),
    "softplus": Function(Form.TABLE, is_nonnegative=True),
    "exponential": Function(Form.TABLE, is_nonnegative=True),
}
"""Activation functions by Keras' names."""

LAYER_FUNCTIONS = {
    "clipped_relu": Function(Form.TABLE, is_nonnegative=True),
    "sloped_relu": Function(Form.TABLE, keeps_sign=True),
    "scaling": Function(Form.TABLE, keeps_sign=True),
    "rescaling": Function(Form.TABLE),
    "clip": Function(Form.TABLE, keeps_sign=True),
    "clip_beside_zero": Function(Form.TABLE),
    "absolute": Function(Form.TABLE, is_nonnegative=True),
    "square": Function(Form.TABLE, is_nonnegative=True),
    "approximate_gelu": Function(Form.TABLE, keeps_sign=True),
}
"""Functions that only layers with parameters have, by names of our own."""

ALIASES = {"swish": "silu"}

_KIND_OF_CLASS = {cls: kind for kind in KINDS for cls in (kind.layer, kind.quantized)}


def find_kind(layer: keras.layers.Layer) -> Kind | None:
    """Return the kind of a layer, as it is in a float or in a quantized network; None for a layer outside the core."""
    return _KIND_OF_CLASS.get(type(layer))


def kind_of(layer: keras.layers.Layer) -> Kind:
    """Return the kind of a layer of the core, or raise ValueError."""
    kind = find_kind(layer)
    if kind is None:
        raise ValueError(f"layer {layer.name!r} must be of a core kind. Received: {type(layer).__name__}")
    return kind


def is_weighted(layer: keras.layers.Layer) -> bool:
    """Return whether a layer has a kernel that is quantized."""
    kind = find_kind(layer)
    return kind is not None and kind.kernel is not None


def kernel_facts(layer: keras.layers.Layer) -> Kernel:
    """Return what the table says of a layer's kernel, or raise ValueError for a layer without one."""
    kernel = kind_of(layer).kernel
    if kernel is None:
        raise ValueError(f"layer {layer.name!r} must have a kernel. Received: {type(layer).__name__}")
    return kernel


def activation_of(layer: keras.layers.Layer) -> str | None:
    """Return the function of an activation layer, or None for any other layer.

    Raises:
        ValueError: for a function that is not known.
    """
    if isinstance(layer, layers.Activation):
        return activation_name(layer.activation, layer.name)
    naming = FUNCTION_LAYERS.get(type(layer))
    return None if naming is None else naming(layer)


def _relu_name(layer: layers.ReLU) -> str:
    if layer.negative_slope:
        return "sloped_relu"
    if layer.threshold or layer.max_value not in (None, 6.0):
        return "clipped_relu"
    return "relu" if layer.max_value is None else "relu6"


def _rescaling_name(layer: layers.Rescaling) -> str:
    """Return the function of a Rescaling by numbers; one by arrays is lowered first."""
    return "scaling" if np.all(np.asarray(layer.scale) >= 0) and np.all(np.asarray(layer.offset) >= 0) else "rescaling"


def _elementwise_name(layer: Elementwise) -> str:
    low, high = layer.parameters.get("low"), layer.parameters.get("high")
    is_beside_zero = (low is not None and low > 0) or (high is not None and high < 0)
    return f"{layer.function}_beside_zero" if is_beside_zero else layer.function


FUNCTION_LAYERS: dict[type, Callable[[Any], str]] = {
    layers.Softmax: lambda layer: "softmax",
    layers.ReLU: _relu_name,
    layers.LeakyReLU: lambda layer: "leaky_relu",
    layers.ELU: lambda layer: "elu",
    layers.Rescaling: _rescaling_name,
    Elementwise: _elementwise_name,
}
"""The name of the function that a layer of its own class computes."""


def activation_name(function: object, layer_name: str) -> str:
    """Return the name of a Keras activation function, or raise ValueError for an unknown one."""
    name = getattr(function, "__name__", str(function))
    name = ALIASES.get(name, name)
    if name not in FUNCTIONS:
        raise ValueError(
            f"activation of layer {layer_name!r} must be one of {', '.join(FUNCTIONS)}. Received: {name!r}"
        )
    return name


def function_of(layer: keras.layers.Layer) -> Function | None:
    """Return the row of an activation layer's function, or None for any other layer."""
    name = activation_of(layer)
    return None if name is None else (FUNCTIONS | LAYER_FUNCTIONS)[name]


def check_supported(layer: keras.layers.Layer) -> None:
    """Raise ValueError, saying what to do, for a layer that cannot be quantized."""
    if type(layer) is not layers.InputLayer and layer.compute_dtype not in COMPUTE_DTYPES:
        raise ValueError(
            f"layer {layer.name!r} must compute in {' or '.join(COMPUTE_DTYPES)}. Received: {layer.compute_dtype}"
        )
    kind = find_kind(layer)
    if kind is None or type(layer) is not kind.layer:
        supported = ", ".join(kind.layer.__name__ for kind in KINDS if kind.role is not Role.INPUT)
        raise ValueError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be quantized. "
            f"Replace it by supported layers: {supported}"
        )
    activation_of(layer)


def kernel_of(layer: keras.layers.Layer) -> keras.Variable:
    """Return the kernel of a weighted layer, Keras' or QKeras'."""
    depthwise = getattr(layer, "depthwise_kernel", None)
    return layer.kernel if depthwise is None else depthwise
