"""Fold BatchNormalization into the layers before it, and activations out of them."""

from __future__ import annotations

import itertools

import keras
import numpy as np

from po2quant.network.graph import Graph, LayerCloner, Node, read_graph, rebuild
from po2quant.network.layers import WEIGHT_LAYERS, activation_name, check_supported, kernel_of


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
    graph = read_graph(model)
    for node in graph.nodes:
        check_supported(node.layer)
    folded_into = _find_foldable(graph)
    taken = set(graph.calls)
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
        return tensor if activation == "linear" else _activation_layer(activation, layer.name, taken)(tensor)

    folded = rebuild(graph, call)
    for source in {node.layer.name: node.layer for node in graph.nodes}.values():
        if isinstance(source, WEIGHT_LAYERS):
            norms = [node.layer for node in graph.nodes if folded_into.get(node.layer.name) == source.name]
            kernel, bias = _folded_weights(source, norms[0] if norms else None)
            kernel_of(folded.get_layer(source.name)).assign(kernel)
            folded.get_layer(source.name).bias.assign(bias)
    return folded


def _activation_layer(activation: str, layer_name: str, taken: set[str]) -> keras.layers.Layer:
    """Return a layer for an activation, under a name that it adds to the ones taken."""
    candidates = itertools.chain(("",), (f"_{number}" for number in itertools.count(1)))
    name = next(name for suffix in candidates if (name := f"{layer_name}_{activation}{suffix}") not in taken)
    taken.add(name)
    if activation == "softmax":
        return keras.layers.Softmax(name=name)
    if activation in ("relu", "relu6"):
        return keras.layers.ReLU(max_value=6.0 if activation == "relu6" else None, name=name)
    return keras.layers.Activation(activation, name=name)


def _find_foldable(graph: Graph) -> dict[str, str]:
    """Return the layer into which each BatchNormalization folds, both by name."""
    folded_into = {}
    for node in graph.nodes:
        norm = node.layer
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        source = node.inputs[0]
        is_linear = isinstance(source.layer, WEIGHT_LAYERS) and (
            activation_name(source.layer.activation, source.layer.name) == "linear"
        )
        is_shared = graph.calls[norm.name] > 1 or graph.calls[source.layer.name] > 1
        is_over_channels = norm.axis in (-1, len(node.shape))
        if not is_linear or graph.only_reader(source) is not node or is_shared or not is_over_channels:
            raise ValueError(
                f"BatchNormalization {norm.name!r} cannot be folded: it must directly follow a Conv2D, DepthwiseConv2D "
                "or Dense that has no activation, no other reader and one call, and normalize the last axis. "
                f"It follows {source.layer.name!r} ({type(source.layer).__name__})"
            )
        folded_into[norm.name] = source.layer.name
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
        with np.errstate(over="ignore"):
            is_finite = np.all(np.isfinite(values.astype(np.float32)))
        if not is_finite:
            raise ValueError(
                "weights must be finite numbers that float32 holds. "
                f"Received: others in the {part} of layer {layer.name!r}"
            )
    return kernel, bias
