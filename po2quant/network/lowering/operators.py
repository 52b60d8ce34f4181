"""Operators and functions of ``keras.ops`` as layers: ``x + y``, ``keras.ops.relu(x)``, ``x[:, 1:5]``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from po2quant.network.graph import Node
from po2quant.network.lowering import arithmetic
from po2quant.network.lowering.arithmetic import is_tensor, together
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.rearranging import rearranged

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


def _function(name: str) -> Rule:
    def rule(node: Node, context: Context, x: Any) -> Any:
        return context.add(layers.Activation, node, x, name)

    return rule


def _softmax(node: Node, context: Context, x: Any, axis: int = -1) -> Any:
    return context.softmax(context.name(node.layer), x, axis)


def _leaky_relu(node: Node, context: Context, x: Any, negative_slope: float = 0.2) -> Any:
    return context.add(layers.LeakyReLU, node, x, float(negative_slope))


def _gelu(node: Node, context: Context, x: Any, approximate: bool = True) -> Any:
    if approximate:
        raise ValueError("gelu must be exact: use approximate=False. Received: approximate=True")
    return context.add(layers.Activation, node, x, "gelu")


def _elu(node: Node, context: Context, x: Any, alpha: float = 1.0) -> Any:
    return context.add(layers.ELU, node, x, float(alpha))


def _negative(node: Node, context: Context, x: Any) -> Any:
    return arithmetic.rescaled(node, x, context, -1.0)


def _clip(node: Node, context: Context, x: Any, x_min: Any, x_max: Any) -> Any:
    if x_min != 0:
        raise ValueError(f"a clip must begin at 0. Received: x_min={x_min}")
    return context.add(layers.ReLU, node, x, float(x_max))


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


def _item(node: Node, context: Context, x: Any, key: Any) -> Any:
    key = key if isinstance(key, tuple) else (key,)
    if not (key and (key[0] is Ellipsis or key[0] == slice(None))):
        raise ValueError(f"a slice must leave the samples as they are. Received: {key}")
    inner = key if key[0] is Ellipsis else key[1:]
    return rearranged(node, x, context, lambda values: values[inner], node.fixed_shape)


def _repeated(node: Node, context: Context, x: Any, repeats: int, axis: int | None = None) -> Any:
    if not isinstance(repeats, int) or axis is None or axis % len(x.shape) == 0:
        raise ValueError(f"a repetition must be a whole number along an axis. Received: {repeats}, axis={axis}")
    place = axis % len(x.shape)
    return rearranged(
        node,
        x,
        context,
        lambda values: np.broadcast_to(
            np.expand_dims(values, place), (*values.shape[:place], repeats, *values.shape[place:])
        ),
        node.fixed_shape,
    )


def _concatenated(node: Node, context: Context, xs: Any, axis: int = -1) -> Any:
    return layers.Concatenate(axis, name=context.name(node.layer))(list(xs))


def _mean(node: Node, context: Context, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean over rows and columns, or steps, as a global pooling; over others of one axis, as an average pooling."""
    rank = len(x.shape)
    axes = sorted(np.ravel(range(1, rank) if axis is None else axis) % rank)
    if axes == list(range(1, rank - 1)):
        y = context.add(layers.GlobalAveragePooling2D, node, context.image(x, node))
        return context.add(layers.Reshape, node, y, node.shape) if tuple(y.shape[1:]) != node.shape else y
    raise ValueError(f"a mean must be over all axes but samples and channels. Received: axis={axis}")


def _maximum_over(node: Node, context: Context, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    rank = len(x.shape)
    axes = sorted(np.ravel(range(1, rank) if axis is None else axis) % rank)
    if axes == list(range(1, rank - 1)):
        y = context.add(layers.GlobalMaxPooling2D, node, context.image(x, node))
        return context.add(layers.Reshape, node, y, node.shape) if tuple(y.shape[1:]) != node.shape else y
    raise ValueError(f"a maximum must be over all axes but samples and channels. Received: axis={axis}")


def _padded(
    node: Node, context: Context, x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None
) -> Any:
    if (
        mode != "constant"
        or len(x.shape) != 4
        or constant_values not in (None, 0)
        or tuple(pad_width[0]) != (0, 0)
        or any(pad_width[3])
    ):
        raise ValueError(f"padding must be zeros around the rows and columns of images. Received: {pad_width}")
    return context.add(layers.ZeroPadding2D, node, x, tuple(map(tuple, pad_width[1:3])))


def _extreme(layer_class: type[keras.Layer]) -> Rule:
    def rule(node: Node, context: Context, x1: Any, x2: Any) -> Any:
        if is_tensor(x1) and is_tensor(x2):
            return together(node, [x1, x2], context, layer_class)
        tensor, constant = (x1, x2) if is_tensor(x1) else (x2, x1)
        if layer_class is layers.Maximum and np.all(np.asarray(constant) == 0):
            return context.add(layers.ReLU, node, tensor)
        raise ValueError(f"a maximum or minimum must be of two tensors, or with 0. Received: {constant}")

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
    "Maximum": _extreme(layers.Maximum),
    "Minimum": _extreme(layers.Minimum),
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
    "Concatenate": _concatenated,
    "Mean": _mean,
    "Max": _maximum_over,
    "Pad": _padded,
}
"""What an operator becomes, by the name of its class in Keras."""
