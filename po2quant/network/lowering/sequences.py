"""Layers over sequences ``(steps, channels)``, as layers over images ``(steps, 1, channels)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers

from po2quant.cost import SOFTMAX
from po2quant.network.graph import Node
from po2quant.network.kinds import Role, activation_of, find_kind
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.convolutions import separable, transposed

CAUSAL = "causal"


def _pair(value: Any) -> tuple[int, int]:
    """Return a size along the steps as one along rows and columns."""
    return (int(value[0] if isinstance(value, (tuple, list)) else value), 1)


def convolution(node: Node, inputs: list[Any], context: Context) -> Any:
    """Conv1D and DepthwiseConv1D, causal padding included."""
    layer, x = node.layer, context.image(inputs[0], node)
    is_depthwise = isinstance(layer, layers.DepthwiseConv1D)
    padding = layer.padding
    if padding == CAUSAL:
        missing = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        x, padding = context.add(layers.ZeroPadding2D, node, x, ((missing, 0), (0, 0)), part="causal"), "valid"
    options = {
        "kernel_size": _pair(layer.kernel_size),
        "padding": padding,
        "use_bias": layer.use_bias,
        "dilation_rate": _pair(layer.dilation_rate),
        # A depthwise convolution must step alike in both directions; one column can be stepped over as wanted.
        "strides": layer.strides * 2 if is_depthwise else _pair(layer.strides),
    }
    if is_depthwise:
        new = context.weighted(
            node, layers.DepthwiseConv2D, lambda: _arrays(layer), depth_multiplier=layer.depth_multiplier, **options
        )
    else:
        new = context.weighted(
            node, layers.Conv2D, lambda: _arrays(layer), filters=layer.filters, groups=layer.groups, **options
        )
    return context.of_image(context.activated(new(x), layer.activation, node), node)


def _arrays(layer: Any) -> dict[str, np.ndarray]:
    kernel = {"kernel": np.asarray(layer.kernel)}
    return kernel | ({"bias": np.asarray(layer.bias)} if layer.use_bias else {})


def separable_convolution(node: Node, inputs: list[Any], context: Context) -> Any:
    """SeparableConv1D."""
    layer = node.layer
    sizes = _pair(layer.kernel_size), layer.strides * 2, layer.padding, _pair(layer.dilation_rate)
    return context.of_image(separable(node, context.image(inputs[0], node), context, *sizes), node)


def transposed_convolution(node: Node, inputs: list[Any], context: Context) -> Any:
    """Conv1DTranspose."""
    image = context.image(inputs[0], node)
    return context.of_image(
        transposed(node, image, context, _pair(node.layer.kernel_size), _pair(node.layer.strides)), node
    )


def pooling(layer_class: Callable[..., Any]) -> Callable[[Node, list[Any], Context], Any]:
    """Return the rule of a pooling layer whose form over images is ``layer_class``."""

    def rule(node: Node, inputs: list[Any], context: Context) -> Any:
        layer, x = node.layer, context.image(inputs[0], node)
        strides = layer.pool_size if layer.strides is None else layer.strides
        options = {"pool_size": _pair(layer.pool_size), "strides": _pair(strides), "padding": layer.padding}
        return context.of_image(context.add(layer_class, node, x, **options), node)

    return rule


max_pooling, average_pooling = pooling(layers.MaxPooling2D), pooling(layers.AveragePooling2D)


def global_pooling(layer_class: Callable[..., Any]) -> Callable[[Node, list[Any], Context], Any]:
    """Return the rule of a global pooling layer whose form over images is ``layer_class``."""

    def rule(node: Node, inputs: list[Any], context: Context) -> Any:
        y = context.add(layer_class, node, context.image(inputs[0], node))
        return context.of_image(y, node)

    return rule


def zero_padding(node: Node, inputs: list[Any], context: Context) -> Any:
    """ZeroPadding1D."""
    x = context.image(inputs[0], node)
    return context.of_image(context.add(layers.ZeroPadding2D, node, x, (node.layer.padding, (0, 0))), node)


def at_each_step(node: Node, inputs: list[Any], context: Context) -> Any:
    """TimeDistributed of a layer that reads the last axis, or each element."""
    inner, x = node.layer.layer, inputs[0]
    kind = find_kind(inner)
    if type(inner) is layers.Dense:
        options = {"units": inner.units, "use_bias": inner.use_bias}
        new = context.weighted(node, layers.Dense, lambda: _arrays(inner), **options)
        return context.activated(new(x), inner.activation, node)
    if isinstance(inner, (layers.Flatten, layers.Reshape)):
        return context.reshaped(node, x)
    if kind is None or kind.role not in (Role.FUNCTION, Role.TRANSPARENT) or activation_of(inner) == SOFTMAX:
        raise ValueError(
            "a layer at each step must be Dense, Flatten, Reshape or a function of each element. "
            f"Received: {type(inner).__name__}"
        )
    return context.add(lambda name: type(inner).from_config(inner.get_config() | {"name": name}), node, x)


EXPANSIONS = {
    layers.TimeDistributed: at_each_step,
    layers.Conv1D: convolution,
    layers.DepthwiseConv1D: convolution,
    layers.SeparableConv1D: separable_convolution,
    layers.Conv1DTranspose: transposed_convolution,
    layers.MaxPooling1D: max_pooling,
    layers.AveragePooling1D: average_pooling,
    layers.GlobalMaxPooling1D: global_pooling(layers.GlobalMaxPooling2D),
    layers.GlobalAveragePooling1D: global_pooling(layers.GlobalAveragePooling2D),
    layers.ZeroPadding1D: zero_padding,
}
