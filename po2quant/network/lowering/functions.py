"""Functions of each element that depend on the channel, and scales of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from po2quant.network.graph import Node
from po2quant.network.lowering.arithmetic import channelwise, rescaled, together
from po2quant.network.lowering.context import Context


def prelu(node: Node, inputs: list[Any], context: Context) -> Any:
    """PReLU with one slope for all or one for each channel.

    Equation:
        max(x, slope * x) for slopes of at most 1, min(x, slope * x) for slopes of at least 1,
        else max(x, 0) - slope * max(-x, 0)
    """
    layer, x = node.layer, inputs[0]
    if layer.alpha.shape[-1] != np.prod(layer.alpha.shape):
        raise ValueError("a PReLU must share its slopes over rows and columns: use shared_axes=[1, 2]")

    def slopes() -> np.ndarray:
        return np.asarray(layer.alpha)

    def form() -> type[layers.Layer]:
        at_least, at_most = np.all(slopes() >= 1), np.all(slopes() <= 1)
        return layers.Maximum if at_most else layers.Minimum if at_least else layers.Add

    first = form()

    def scale() -> tuple[Any, Any]:
        if first not in (layers.Add, form()):
            raise ValueError(f"slopes of PReLU {layer.name!r} must stay on one side of 1. Received: {slopes()}")
        return (-slopes() if first is layers.Add else slopes()), 0.0

    if first is not layers.Add:
        return together(node, [x, channelwise(node, x, context, scale, "slope")], context, first)
    positive = context.add(layers.ReLU, node, x, part="positive")
    negative = context.add(layers.ReLU, node, rescaled(node, x, context, -1.0, part="negative"), part="negative")
    return together(node, [positive, channelwise(node, negative, context, scale, "slope")], context, layers.Add)


def normalization(node: Node, inputs: list[Any], context: Context) -> Any:
    """Normalization: ``(x - mean) / sqrt(variance)``, or turned round."""
    layer = node.layer

    def constants() -> tuple[Any, Any]:
        mean, deviation = np.asarray(layer.mean, np.float64), np.sqrt(np.asarray(layer.variance, np.float64))
        deviation = np.maximum(deviation, np.finfo(np.float32).eps)
        return (deviation, mean) if layer.invert else (1.0 / deviation, -mean / deviation)

    scale, offset = constants()
    if scale.size == 1:
        return rescaled(node, inputs[0], context, scale, offset)
    if scale.size != node.shape[-1]:
        raise ValueError(f"it must have one mean and variance for each channel. Received: shape {scale.shape}")
    return channelwise(node, inputs[0], context, constants)


def rescaling(node: Node, inputs: list[Any], context: Context) -> Any:
    """Rescaling by one number or by one for each channel."""
    return rescaled(node, inputs[0], context, node.layer.scale, node.layer.offset)


EXPANSIONS = {
    layers.PReLU: prelu,
    layers.Normalization: normalization,
    layers.Rescaling: rescaling,
}
