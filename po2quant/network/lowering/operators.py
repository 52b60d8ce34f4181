"""Operators and functions of ``keras.ops`` as layers: ``x + y``, ``keras.ops.relu(x)``, ``x[:, 1:5]``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from po2quant.layers import Elementwise
from po2quant.network.graph import Node
from po2quant.network.lowering import arithmetic, reductions, sequences
from po2quant.network.lowering.arithmetic import is_tensor, together
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.rearranging import rearranged, repeated, resized, tiled, zero_padded

Rule = Callable[..., Any]
"""Given a node, its context and the operator's arguments by name, tensors replaced, returns the output."""


def operator(node: Node, inputs: list[Any], context: Context) -> Any:
    """Return what the layers that stand for an operator make of its inputs.

    Raises:
        ValueError: for an operator that no layer stands for.
    """
    rule = OPERATORS[type(node.layer).__name__]
    args, kwargs = node.arguments_with(inputs)
    bound = inspect.signature(type(node.layer).call).bind(node.layer, *args, **kwargs)
    own = {name: value for name, value in vars(node.layer).items() if not name.startswith("_")}
    named = {name: value for name, value in bound.arguments.items() if name != "self"}
    return rule(node, context, **{name: value for name, value in (own | named).items() if name in _wanted(rule)})


def _wanted(rule: Rule) -> set[str]:
    return set(inspect.signature(rule).parameters)


def _function(name: str, layer_class: type[keras.Layer] = layers.Activation) -> Rule:
    def rule(node: Node, context: Context, x: Any) -> Any:
        return context.add(layer_class, node, x, name)

    return rule


def _softmax(node: Node, context: Context, x: Any, axis: int = -1) -> Any:
    return context.softmax(context.name(node.layer), x, axis)


def _leaky_relu(node: Node, context: Context, x: Any, negative_slope: float = 0.2) -> Any:
    return context.add(layers.LeakyReLU, node, x, float(negative_slope))


def _gelu(node: Node, context: Context, x: Any, approximate: bool = True) -> Any:
    if approximate:
        return context.add(Elementwise, node, x, "approximate_gelu")
    return context.add(layers.Activation, node, x, "gelu")


def _relu(
    node: Node,
    context: Context,
    x: Any,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> Any:
    return context.add(layers.ReLU, node, x, max_value, float(negative_slope), float(threshold))


def _elu(node: Node, context: Context, x: Any, alpha: float = 1.0) -> Any:
    return context.add(layers.ELU, node, x, float(alpha))


def _negative(node: Node, context: Context, x: Any) -> Any:
    return arithmetic.rescaled(node, x, context, -1.0)


def _clip(node: Node, context: Context, x: Any, x_min: Any, x_max: Any) -> Any:
    return _limited(node, context, x, x_min, x_max)


def _limited(node: Node, context: Context, x: Any, low: Any = None, high: Any = None) -> Any:
    """Return a tensor within numbers."""
    for limit in (low, high):
        if np.size(limit) != 1:
            raise ValueError(f"a limit must be a number. Received: shape {np.shape(limit)}")
    low, high = (None if limit is None else float(np.asarray(limit).item()) for limit in (low, high))
    if low == 0:
        return context.add(layers.ReLU, node, x, high)
    return context.add(Elementwise, node, x, "clip", {"low": low, "high": high})


def _to_shape(node: Node, context: Context, x: Any) -> Any:
    return context.reshaped(node, x)


def _transposed(node: Node, context: Context, x: Any, axes: Any = None) -> Any:
    axes = list(range(len(x.shape)))[::-1] if axes is None else [axis % len(x.shape) for axis in axes]
    if axes[0] != 0:
        raise ValueError(f"a transposition must leave the samples where they are. Received: axes={axes}")
    return rearranged(node, x, context, lambda values: values.transpose([axis - 1 for axis in axes[1:]]))


def _swapped(node: Node, context: Context, x: Any, axis1: int, axis2: int) -> Any:
    axes = list(range(len(x.shape)))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return _transposed(node, context, x, axes)


def _flipped(node: Node, context: Context, x: Any, axis: Any = None) -> Any:
    axes = range(1, len(x.shape)) if axis is None else np.ravel(axis) % len(x.shape)
    if 0 in axes:
        raise ValueError("samples cannot be flipped. Received: axis=0")
    return rearranged(node, x, context, lambda values: np.flip(values, tuple(int(axis) - 1 for axis in axes)))


def _split(node: Node, context: Context, x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    axis %= len(x.shape)
    if axis == 0:
        raise ValueError("samples cannot be split. Received: axis=0")
    return rearranged(
        node, x, context, lambda values: np.split(values, indices_or_sections, axis - 1)[node.place], node.fixed_shape
    )


def _moved(node: Node, context: Context, x: Any, source: Any, destination: Any) -> Any:
    rank = len(x.shape)
    sources, ends = ([int(axis) % rank for axis in np.ravel(axes)] for axes in (source, destination))
    axes = [axis for axis in range(rank) if axis not in sources]
    for end, axis in sorted(zip(ends, sources, strict=True)):
        axes.insert(end, axis)
    return _transposed(node, context, x, axes)


def _item(node: Node, context: Context, x: Any, key: Any) -> Any:
    key = tuple(key) if isinstance(key, (tuple, list)) else (key,)
    if not (key and (key[0] is Ellipsis or key[0] == slice(None))):
        raise ValueError(f"a slice must leave the samples as they are. Received: {key}")
    inner = key if key[0] is Ellipsis else key[1:]
    return rearranged(node, x, context, lambda values: values[inner], node.fixed_shape)


def _repeated(node: Node, context: Context, x: Any, repeats: int, axis: int | None = None) -> Any:
    if not isinstance(repeats, int) or axis is None or axis % len(x.shape) == 0:
        raise ValueError(f"a repetition must be a whole number along an axis. Received: {repeats}, axis={axis}")
    return repeated(node, x, context, [*[1] * (axis % len(x.shape) - 1), repeats])


def _tiled(node: Node, context: Context, x: Any, repeats: Any) -> Any:
    counts = [int(count) for count in np.ravel(repeats)]
    counts = [1] * (len(x.shape) - len(counts)) + counts
    if counts[0] != 1 or len(counts) != len(x.shape):
        raise ValueError(f"a tensor must be repeated along its own axes, samples once. Received: repeats={repeats}")
    return tiled(node, x, context, counts[1:])


def concatenated(node: Node, context: Context, xs: Any, axis: int = -1) -> Any:
    """Return tensors side by side along an axis, that of the samples included."""
    return layers.Concatenate(axis, name=context.name(node.layer))(list(xs))


def _stacked(node: Node, context: Context, x: Any, axis: int = 0) -> Any:
    place = axis % (len(node.shape) + 1)
    if place == 0:
        raise ValueError("samples must stay apart. Received: a stack along axis=0")
    shape = (*node.shape[: place - 1], 1, *node.shape[place:])
    slices = [context.add(layers.Reshape, node, one, shape, part="slice") for one in x]
    return concatenated(node, context, slices, place)


def _padded(
    node: Node, context: Context, x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None
) -> Any:
    pads = [tuple(map(int, ends)) for ends in pad_width]
    if mode != "constant" or constant_values not in (None, 0) or len(pads) != len(x.shape) or any(pads[0]):
        raise ValueError(f"padding must be zeros at the ends of axes, not of samples. Received: {pad_width}")
    return zero_padded(node, x, context, pads[1:])


def _resized(
    node: Node,
    context: Context,
    images: Any,
    size: Any,
    interpolation: str,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
) -> Any:
    return resized(node, images, context, size, interpolation, crop_to_aspect_ratio or pad_to_aspect_ratio)


def _pool(layer_class: type[keras.Layer], by_steps: Callable[..., Any]) -> Rule:
    def rule(node: Node, context: Context, inputs: Any, pool_size: Any, strides: Any, padding: str) -> Any:
        if len(inputs.shape) == 3:
            return by_steps(node, [inputs], context)
        return context.add(layer_class, node, inputs, pool_size, strides, padding)

    return rule


def _depth_to_space(node: Node, context: Context, x: Any, block_size: int) -> Any:
    rows, columns, channels = x.shape[1:]
    split = (rows, columns, block_size, block_size, channels // block_size**2)
    return rearranged(node, x, context, lambda values: values.reshape(split).transpose(0, 2, 1, 3, 4), node.fixed_shape)


def _space_to_depth(node: Node, context: Context, x: Any, block_size: int) -> Any:
    rows, columns, channels = x.shape[1:]
    split = (rows // block_size, block_size, columns // block_size, block_size, channels)
    return rearranged(node, x, context, lambda values: values.reshape(split).transpose(0, 2, 1, 3, 4), node.fixed_shape)


def _extreme(layer_class: type[keras.Layer], end: str) -> Rule:
    def rule(node: Node, context: Context, x1: Any, x2: Any) -> Any:
        if is_tensor(x1) and is_tensor(x2):
            return together(node, [x1, x2], context, layer_class)
        tensor, constant = (x1, x2) if is_tensor(x1) else (x2, x1)
        return _limited(node, context, tensor, **{end: constant})

    return rule


def _binary(rule: Callable[[Node, Any, Any, Context], Any]) -> Rule:
    return lambda node, context, x1, x2: rule(node, x1, x2, context)


FUNCTION_NAMES = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "Selu": "selu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "HardTanh": "hard_tanh",
    "Exp": "exponential",
}
OPERATORS: dict[str, Rule] = {
    **{operator_name: _function(name) for operator_name, name in FUNCTION_NAMES.items()},
    "Softmax": _softmax,
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "Gelu": _gelu,
    "Add": _binary(arithmetic.operator_sum),
    "Subtract": _binary(arithmetic.operator_difference),
    "Multiply": _binary(arithmetic.operator_product),
    "Divide": _binary(arithmetic.operator_quotient),
    "TrueDivide": _binary(arithmetic.operator_quotient),
    "Negative": _negative,
    "Maximum": _extreme(layers.Maximum, "low"),
    "Minimum": _extreme(layers.Minimum, "high"),
    "Absolute": _function("absolute", Elementwise),
    "Square": _function("square", Elementwise),
    "ReLU": _relu,
    "Clip": _clip,
    "Reshape": _to_shape,
    "ExpandDims": _to_shape,
    "Squeeze": _to_shape,
    "Transpose": _transposed,
    "Swapaxes": _swapped,
    "Flip": _flipped,
    "GetItem": _item,
    "Split": _split,
    "Repeat": _repeated,
    "Concatenate": concatenated,
    "Stack": _stacked,
    "Tile": _tiled,
    "Moveaxis": _moved,
    "Resize": _resized,
    "AveragePool": _pool(layers.AveragePooling2D, sequences.average_pooling),
    "MaxPool": _pool(layers.MaxPooling2D, sequences.max_pooling),
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Mean": reductions.mean,
    "Sum": reductions.total,
    "Max": reductions.largest,
    "Min": reductions.smallest,
    "Pad": _padded,
}
"""What an operator becomes, by the name of its class in Keras."""
