"""Layers over sequences ``(steps, channels)``, as layers over images ``(steps, 1, channels)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers

from po2quant.cost import SOFTMAX
from po2quant.network.graph import Node
from po2quant.network.kinds import Role, activation_of, find_kind
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.convolutions import along_rows, arrays_of


def pooling(layer_class: Callable[..., Any]) -> Callable[[Node, list[Any], Context], Any]:
    """Return the rule of a pooling layer whose form over images is ``layer_class``."""

    def rule(node: Node, inputs: list[Any], context: Context) -> Any:
        layer, x = node.layer, context.image(inputs[0], node)
        strides = layer.pool_size if layer.strides is None else layer.strides
        options = {"pool_size": along_rows(layer.pool_size), "strides": along_rows(strides), "padding": layer.padding}
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
        new = context.weighted(node, layers.Dense, lambda: arrays_of(inner), **options)
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
    layers.MaxPooling1D: max_pooling,
    layers.AveragePooling1D: average_pooling,
    layers.GlobalMaxPooling1D: global_pooling(layers.GlobalMaxPooling2D),
    layers.GlobalAveragePooling1D: global_pooling(layers.GlobalAveragePooling2D),
    layers.ZeroPadding1D: zero_padding,
}
