"""Fold BatchNormalization into the layers before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from po2quant.network.graph import Graph, Node
from po2quant.network.kinds import Role, activation_name, class_names, is_weighted, kernel_facts, kernel_of

if TYPE_CHECKING:
    from po2quant.network.lowering.context import Context


def drop_batch_norm(node: Node, inputs: list[keras.KerasTensor], context: Context) -> keras.KerasTensor:
    """Return the input: the layer before computes the BatchNormalization, too."""
    return inputs[0]


def norms_by_source(graph: Graph) -> dict[str, keras.layers.BatchNormalization]:
    """Return the BatchNormalization that folds into each layer, by the layer's name.

    Raises:
        ValueError: for one that cannot be folded.
    """
    norms = {}
    for node in graph.nodes:
        norm = node.layer
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        source = node.inputs[0]
        is_linear = is_weighted(source.layer) and (
            activation_name(source.layer.activation, source.layer.name) == "linear"
        )
        is_shared = graph.calls[norm.name] > 1 or graph.calls[source.layer.name] > 1
        is_over_channels = norm.axis in (-1, len(node.shape))
        if not is_linear or graph.only_reader(source) is not node or is_shared or not is_over_channels:
            raise ValueError(
                f"BatchNormalization {norm.name!r} cannot be folded: it must directly follow one of "
                f"{class_names(Role.WEIGHTED)} that has no activation, no other reader and one call, and normalize the "
                f"last axis. It follows {source.layer.name!r} ({type(source.layer).__name__})"
            )
        norms[source.layer.name] = norm
    return norms


def fold_weights(
    source: keras.layers.Layer, norm: keras.layers.BatchNormalization | None, target: keras.layers.Layer
) -> None:
    """Give a layer the weights of another one and of the BatchNormalization after it.

    Raises:
        ValueError: for weights that are not finite.
    """
    kernel = np.asarray(kernel_of(source), np.float64)
    channels = kernel.shape[kernel_facts(source).channel_axes[0] :]
    bias = np.asarray(source.bias, np.float64) if source.use_bias else np.zeros(np.prod(channels))
    if norm is not None:
        mean, variance = (np.asarray(value, np.float64) for value in (norm.moving_mean, norm.moving_variance))
        gain = 1.0 / np.sqrt(variance + norm.epsilon)
        if norm.scale:
            gain *= np.asarray(norm.gamma, np.float64)
        bias = (bias - mean) * gain + (np.asarray(norm.beta, np.float64) if norm.center else 0.0)
        kernel = kernel * gain.reshape(channels)
    for part, values in (("kernel", kernel), ("bias", bias)):
        with np.errstate(over="ignore"):
            is_finite = np.all(np.isfinite(values.astype(np.float32)))
        if not is_finite:
            raise ValueError(
                "weights must be finite numbers that float32 holds. "
                f"Received: others in the {part} of layer {source.name!r}"
            )
    kernel_of(target).assign(kernel)
    target.bias.assign(bias)
