"""Functions of each element that depend on the channel, and scales of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from po2quant.network.graph import Node
from po2quant.network.lowering.arithmetic import channelwise, rescaled, together
from po2quant.network.lowering.context import Context


def prelu(node: Node, inputs: list[Any], context: Context) -> Any:
    """PReLU: ``max(x, slope * x)`` for slopes of at most 1, one for all or one for each channel."""
    layer, x = node.layer, inputs[0]
    if layer.alpha.shape[-1] != np.prod(layer.alpha.shape):
        raise ValueError("a PReLU must share its slopes over rows and columns: use shared_axes=[1, 2]")

    def slopes() -> tuple[Any, Any]:
        values = np.asarray(layer.alpha)
        if np.max(values) > 1:
            raise ValueError(f"slopes of PReLU {layer.name!r} must be at most 1. Received: {np.max(values)}")
        return values, 0.0

    slopes()
    return together(node, [x, channelwise(node, x, context, slopes, "slope")], context, layers.Maximum)


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
