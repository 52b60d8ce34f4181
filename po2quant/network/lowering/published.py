"""Layers of their own that networks of ``keras.applications`` have."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from po2quant.compat import application_layers
from po2quant.network.graph import Node
from po2quant.network.lowering.arithmetic import channelwise, rescaled, together
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.gone import nothing


def scaled_sum(node: Node, inputs: list[Any], context: Context) -> Any:
    """CustomScaleLayer of Inception-ResNet: the first tensor, and the second times a number."""
    scaled = rescaled(node, inputs[1], context, node.layer.scale, part="scaled")
    return together(node, [inputs[0], scaled], context, layers.Add)


def layer_scale(node: Node, inputs: list[Any], context: Context) -> Any:
    """LayerScale of ConvNeXt: a factor for each channel."""
    return channelwise(node, inputs[0], context, lambda: (np.asarray(node.layer.gamma), 0.0))


_CLASSES = application_layers()

EXPANSIONS = {
    _CLASSES["CustomScaleLayer"]: scaled_sum,
    _CLASSES["LayerScale"]: layer_scale,
    _CLASSES["StochasticDepth"]: nothing,
}
