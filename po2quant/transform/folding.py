"""Fold BatchNormalization into the layers before it, and activations out of them."""

from __future__ import annotations

import keras
import numpy as np

from po2quant.transform.graph import LayerCloner, Node, call_counts, consumers, rebuild, topological_nodes
from po2quant.transform.layers import WEIGHT_LAYERS, activation_name, check_supported, kernel_of


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return an equivalent model without BatchNormalization in which every activation is a layer.

    Equation:
        With g = gamma / sqrt(variance + epsilon) per channel:
        kernel' = kernel * g; bias' = (bias - mean) * g + beta; computed in float64.

    Every convolution and dense layer of the result has a bias. Layer names stay; an activation
    that a layer had inside becomes the layer ``<name>_<activation>``.

    Args:
        model: Sequential or functional model, with weights; it is left alone.

    Raises:
        ValueError: for an unsupported layer, a BatchNormalization that does not follow a Conv2D,
            DepthwiseConv2D or Dense, or weights that are not finite.

    Reference:
        Jacob et al., arXiv 1712.05877, section 3.2.
    """
    nodes = topological_nodes(model)
    for node in nodes:
        check_supported(node.layer)
    folded_into = _find_foldable(nodes)
    clone = LayerCloner()
    weight_layers: dict[str, keras.layers.Layer] = {}

    def call(node: Node, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        layer = node.layer
        if isinstance(layer, keras.layers.InputLayer) or layer.name in folded_into:
            return inputs[0]
        if not isinstance(layer, WEIGHT_LAYERS):
            return node.call(clone(layer), inputs)
        activation = activation_name(layer.activation, layer.name)
        if layer.name not in weight_layers:
            config = layer.get_config() | {"activation": None, "use_bias": True}
            weight_layers[layer.name] = type(layer).from_config(config)
        tensor = node.call(weight_layers[layer.name], inputs)
        return tensor if activation == "linear" else _activation_layer(activation, layer.name)(tensor)

    folded = rebuild(model, call)
    for source in {node.layer.name: node.layer for node in nodes}.values():
        if isinstance(source, WEIGHT_LAYERS):
            norms = [node.layer for node in nodes if folded_into.get(node.layer.name) == source.name]
            kernel, bias = _folded_weights(source, norms[0] if norms else None)
            kernel_of(folded.get_layer(source.name)).assign(kernel)
            folded.get_layer(source.name).bias.assign(bias)
    return folded


def _activation_layer(activation: str, layer_name: str) -> keras.layers.Layer:
    name = f"{layer_name}_{activation}"
    if activation == "softmax":
        return keras.layers.Softmax(name=name)
    if activation in ("relu", "relu6"):
        return keras.layers.ReLU(max_value=6.0 if activation == "relu6" else None, name=name)
    return keras.layers.Activation(activation, name=name)


def _find_foldable(nodes: list[Node]) -> dict[str, str]:
    """Return the layer into which each BatchNormalization folds, both by name."""
    readers, calls = consumers(nodes), call_counts(nodes)
    folded_into = {}
    for node in nodes:
        if not isinstance(node.layer, keras.layers.BatchNormalization):
            continue
        source = node.inputs[0]
        name, source_name = node.layer.name, source.layer.name
        is_linear = isinstance(source.layer, WEIGHT_LAYERS) and (
            activation_name(source.layer.activation, source_name) == "linear"
        )
        if not is_linear or len(readers[source]) > 1 or calls[name] > 1 or calls[source_name] > 1:
            raise ValueError(
                f"BatchNormalization {name!r} cannot be folded: it must directly follow a Conv2D, DepthwiseConv2D or "
                f"Dense that has no activation, no other reader and one call. It follows {source_name!r} "
                f"({type(source.layer).__name__})"
            )
        folded_into[name] = source_name
    return folded_into


def _folded_weights(
    layer: keras.layers.Layer, norm: keras.layers.BatchNormalization | None
) -> tuple[np.ndarray, np.ndarray]:
    kernel = np.asarray(kernel_of(layer), np.float64)
    channels = (
        kernel.shape[-1] if not isinstance(layer, keras.layers.DepthwiseConv2D) else kernel.shape[-2] * kernel.shape[-1]
    )
    bias = np.asarray(layer.bias, np.float64) if layer.use_bias else np.zeros(channels)
    if norm is not None:
        mean, variance = (np.asarray(value, np.float64) for value in (norm.moving_mean, norm.moving_variance))
        gain = 1.0 / np.sqrt(variance + norm.epsilon)
        if norm.scale:
            gain *= np.asarray(norm.gamma, np.float64)
        bias = (bias - mean) * gain + (np.asarray(norm.beta, np.float64) if norm.center else 0.0)
        kernel = kernel * gain.reshape(kernel.shape[-2:] if isinstance(layer, keras.layers.DepthwiseConv2D) else -1)
    for part, values in (("kernel", kernel), ("bias", bias)):
        if not np.all(np.isfinite(values)):
            raise ValueError(
                f"weights must be finite numbers. Received: NaN or infinity in the {part} of layer {layer.name!r}"
            )
    return kernel, bias
