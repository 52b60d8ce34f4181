"""The second stage: BatchNormalization and Rescaling folded, a bias in each weighted layer, activations as layers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from po2quant.network.graph import Graph, Node, rebuild
from po2quant.network.kinds import (
    Role,
    activation_name,
    check_supported,
    is_weighted,
    kernel_facts,
    kernel_of,
    kind_of,
)
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.convolutions import channelwise


@dataclasses.dataclass(frozen=True)
class Folds:
    """Which normalization folds into which layer with weights, by the name of the latter.

    Args:
        after: those that read the layer.
        before: those that the layer reads.
    """

    after: dict[str, keras.layers.Layer]
    before: dict[str, keras.layers.Layer]

    def __contains__(self, norm: keras.layers.Layer) -> bool:
        return any(norm is known for known in (*self.after.values(), *self.before.values()))


def fold_norms(graph: Graph) -> tuple[keras.Model, list[Callable[[], None]]]:
    """Return an equivalent network of core kinds without BatchNormalization, and what fills it."""
    for node in graph.nodes:
        check_supported(node.layer)
    context, folds = Context(graph), folds_of(graph)

    def call(node: Node, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        layer = node.layer
        if isinstance(layer, layers.InputLayer):
            return inputs[0]
        if layer in folds:
            return inputs[0]
        if kind_of(layer).role is Role.NORMALIZATION:
            return _as_depthwise(node, inputs[0], context)
        if is_weighted(layer):
            return _as_linear(node, inputs, context, folds)
        return node.call(context.copied(layer), inputs)

    return rebuild(graph, call), context.transfers


def folds_of(graph: Graph) -> Folds:
    """Return what folds where: backwards into the layer before, else forwards where that is exact."""
    folds = Folds({}, {})
    calls: dict[int, list[Node]] = {}
    for node in graph.nodes:
        calls.setdefault(id(node.layer), []).append(node)
    for nodes in calls.values():
        norm = nodes[0].layer
        if not (isinstance(norm, layers.Rescaling) or kind_of(norm).role is Role.NORMALIZATION):
            continue
        source, readers = nodes[0].inputs[0].layer, {graph.only_reader(node) for node in nodes}
        if _is_linear(source) and {graph.only_reader(call) for call in calls[id(source)]} == set(nodes):
            folds.after[source.name] = norm
            continue
        reader = graph.only_reader(nodes[0])
        if reader is not None and _takes_before(reader.layer) and readers == set(calls[id(reader.layer)]):
            folds.before[reader.layer.name] = norm
    return folds


def _is_linear(layer: keras.layers.Layer) -> bool:
    """Return whether a layer has weights and no activation."""
    return is_weighted(layer) and activation_name(layer.activation, layer.name) == "linear"


def _takes_before(layer: keras.layers.Layer) -> bool:
    """Return whether a normalization before a layer with weights is a change of its weights alone."""
    return is_weighted(layer) and getattr(layer, "padding", "valid") == "valid" and getattr(layer, "groups", 1) == 1


def _as_depthwise(node: Node, x: keras.KerasTensor, context: Context) -> keras.KerasTensor:
    """A normalization as a depthwise 1x1 convolution."""
    norm = node.layer

    def make() -> keras.layers.Layer:
        new = channelwise(context.name(norm))

        def fill() -> None:
            mean, gain, beta = affine_of(norm)
            _assign(new, norm.name, gain.reshape(new.kernel.shape), (0.0 - mean) * gain + beta)

        context.transfers.append(fill)
        return new

    image = context.image(x, node)
    return context.of_image(context.once(norm, make)(image), node)


def _as_linear(node: Node, inputs: list[Any], context: Context, folds: Folds) -> keras.KerasTensor:
    """A layer with weights, the normalizations around it included, and its activation as a layer of its own."""
    layer = node.layer
    activation = activation_name(layer.activation, layer.name)

    def make() -> keras.layers.Layer:
        changes = {"activation": None, "use_bias": True, "name": context.name(layer)}
        linear = type(layer).from_config(layer.get_config() | changes)
        before, after = folds.before.get(layer.name), folds.after.get(layer.name)
        context.transfers.append(functools.partial(fold_weights, layer, before, after, linear))
        return linear

    output = node.call(context.once(layer, make), inputs)
    if activation == "linear":
        return output
    return _activation_layer(activation, context.free_name(f"{layer.name}_{activation}"))(output)


def _activation_layer(activation: str, name: str) -> keras.layers.Layer:
    if activation == "softmax":
        return layers.Softmax(name=name)
    if activation in ("relu", "relu6"):
        return layers.ReLU(max_value=6.0 if activation == "relu6" else None, name=name)
    return layers.Activation(activation, name=name)


def affine_of(norm: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, gain and beta of ``y = (x - mean) * gain + beta`` in float64, numbers or one a channel."""
    if isinstance(norm, layers.Rescaling):
        return np.zeros(()), np.asarray(norm.scale, np.float64), np.asarray(norm.offset, np.float64)
    mean, variance = (np.asarray(value, np.float64) for value in (norm.moving_mean, norm.moving_variance))
    gain = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        gain *= np.asarray(norm.gamma, np.float64)
    return mean, gain, np.asarray(norm.beta, np.float64) if norm.center else np.zeros(())


def fold_weights(
    source: keras.layers.Layer,
    before: keras.layers.Layer | None,
    after: keras.layers.Layer | None,
    target: keras.layers.Layer,
) -> None:
    """Give a layer the weights of another one and of the normalizations around it.

    Args:
        source: layer with weights.
        before: the normalization that it reads; None: none.
        after: the normalization that reads it; None: none.
        target: receives kernel and bias.

    Raises:
        ValueError: for weights that are not finite.
    """
    kernel = np.asarray(kernel_of(source), np.float64)
    axis = kernel_facts(source).channel_axes[0]
    channels = kernel.shape[axis:]
    bias = np.asarray(source.bias, np.float64) if source.use_bias else np.zeros(np.prod(channels))
    if before is not None:
        mean, gain, beta = affine_of(before)
        shift = np.broadcast_to(beta - mean * gain, kernel.shape[-2])[:, np.newaxis]
        bias = bias + (kernel * shift).sum(axis=tuple(range(axis))).ravel()
        kernel = kernel * np.broadcast_to(gain, kernel.shape[-2])[:, np.newaxis]
    if after is not None:
        mean, gain, beta = affine_of(after)
        bias = (bias - mean) * gain + beta
        kernel = kernel * np.broadcast_to(gain, bias.shape).reshape(channels)
    _assign(target, source.name, kernel, bias)


def _assign(target: keras.layers.Layer, name: str, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Set kernel and bias.

    Raises:
        ValueError: for values that are not finite, naming the layer that they are for.
    """
    for part, values in (("kernel", kernel), ("bias", bias)):
        with np.errstate(over="ignore"):
            is_finite = np.all(np.isfinite(values.astype(np.float32)))
        if not is_finite:
            raise ValueError(
                f"weights must be finite numbers that float32 holds. Received: others in the {part} of layer {name!r}"
            )
    kernel_of(target).assign(kernel)
    target.bias.assign(np.broadcast_to(bias, target.bias.shape))
