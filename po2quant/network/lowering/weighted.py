"""Convolutions and dense layers: always with a bias, and their activations as layers of their own."""

from __future__ import annotations

import functools

import keras

from po2quant.network.graph import Node
from po2quant.network.kinds import activation_name
from po2quant.network.lowering.batch_norm import fold_weights
from po2quant.network.lowering.context import Context


def lower_weighted(node: Node, inputs: list[keras.KerasTensor], context: Context) -> keras.KerasTensor:
    """Return what a layer with weights makes of its inputs, BatchNormalization and activation after it included."""
    layer = node.layer
    activation = activation_name(layer.activation, layer.name)

    def make() -> keras.layers.Layer:
        linear = type(layer).from_config(layer.get_config() | {"activation": None, "use_bias": True})
        context.transfers.append(functools.partial(fold_weights, layer, context.norms.get(layer.name), linear))
        return linear

    output = node.call(context.once(layer.name, make), inputs)
    if activation == "linear":
        return output
    return _activation_layer(activation, context.free_name(f"{layer.name}_{activation}"))(output)


def _activation_layer(activation: str, name: str) -> keras.layers.Layer:
    if activation == "softmax":
        return keras.layers.Softmax(name=name)
    if activation in ("relu", "relu6"):
        return keras.layers.ReLU(max_value=6.0 if activation == "relu6" else None, name=name)
    return keras.layers.Activation(activation, name=name)
