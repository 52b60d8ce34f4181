"""Run a quantized network with weights of one's own choosing, with or without its activation quantizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import qkeras
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.diagnostics.measurement import BIAS, KERNEL
from po2quant.layers import Recurrent
from po2quant.network import weight_quantizers
from po2quant.network.graph import Graph, Node, evaluate, read_graph
from po2quant.network.kinds import is_weighted, kernel_facts
from po2quant.quantizers import Quantizer

Weights = dict[tuple[str, str], tf.Tensor]
"""Kernels and biases by layer and part."""


def batches_of(samples: Split, batch_size: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Return inputs and targets in order; the targets of samples without any are the inputs."""
    x = samples.inputs()
    y = x if samples.y is None else samples.y
    slices = (slice(start, start + batch_size) for start in range(0, len(x), batch_size))
    return [(tf.constant(x[part]), tf.constant(y[part])) for part in slices]


def loss_and_outputs(
    forward: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]], batches: Sequence[tuple[tf.Tensor, ...]]
) -> tuple[float, np.ndarray]:
    """Return the mean loss over all samples and the outputs, float64 ``(samples, ...)``."""
    losses, outputs = zip(*(forward(*batch) for batch in batches), strict=True)
    mean_loss = np.average(np.array(losses, np.float64), weights=[len(output) for output in outputs])
    return float(mean_loss), np.concatenate(outputs).astype(np.float64)


def quantized_graph(model: keras.Model) -> Graph:
    """Return the layer calls of a model of :func:`~po2quant.network.quantize_model`.

    Raises:
        ValueError: where a layer has weights without a quantizer.
    """
    graph = read_graph(model)
    quantized = {weight.layer.name for weight in weight_quantizers(model)}
    plain = [node.layer.name for node in graph.every_node if is_weighted(node.layer)]
    plain = [name for name in plain if name not in quantized]
    if plain:
        raise ValueError(f"every layer with weights must be quantized. Received: {', '.join(plain)} of {model.name!r}")
    return graph


def input_tensors(graph: Graph, inputs: np.ndarray | Sequence[np.ndarray]) -> list[tf.Tensor]:
    """Return one tensor for each model input.

    Raises:
        ValueError: for another number of arrays than the model has inputs.
    """
    arrays = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if len(arrays) != len(graph.inputs):
        raise ValueError(f"a model needs one array for each of its {len(graph.inputs)} inputs. Received: {len(arrays)}")
    return [tf.convert_to_tensor(array, layer.dtype) for array, layer in zip(arrays, graph.inputs, strict=True)]


def activation_nodes(graph: Graph) -> list[Node]:
    """Return the calls of activation quantizers, in network order."""
    return [node for node in graph.every_node if _is_activation_quantizer(node)]


def run_network(
    graph: Graph, inputs: Sequence[tf.Tensor], weights: Weights, with_quantizers: bool = True
) -> dict[Node, tf.Tensor]:
    """Return what every layer call makes of the inputs, in inference, with the given weights.

    What the calls of a cell make is there for all steps, ``(samples, steps, ...)``.

    Args:
        graph: a quantized network.
        inputs: one tensor for each model input.
        weights: kernel and bias of every layer that has them, quantized or not.
        with_quantizers: whether activations are quantized.
    """
    of_steps: dict[Node, tf.Tensor] = {}

    def call(node: Node, arguments: list[tf.Tensor]) -> tf.Tensor:
        if isinstance(node.layer, Recurrent):
            return recur(node.layer, arguments[0])
        if is_weighted(node.layer):
            return _apply_weights(node.layer, arguments[0], weights)
        if _is_activation_quantizer(node) and not with_quantizers:
            return tf.identity(arguments[0])
        return node.infer(arguments)

    def recur(layer: Recurrent, x: tf.Tensor) -> tf.Tensor:
        cell = read_graph(layer.cell)

        def step(states: list[tf.Tensor], now: tf.Tensor) -> list[tf.Tensor]:
            values = evaluate(cell, [now, *states], call)
            return [values[node] for node in (*cell.outputs, *cell.nodes)]

        zeros = [tf.zeros((tf.shape(x)[0], *node.fixed_shape), x.dtype) for node in cell.nodes]
        made = layer.over_steps(step, x, zeros)
        of_steps.update(zip(cell.nodes, made[len(cell.outputs) :], strict=True))
        return made[0] if layer.return_sequences else made[0][:, -1]

    return evaluate(graph, inputs, call) | of_steps


def _apply_weights(layer: keras.layers.Layer, x: tf.Tensor, weights: Weights) -> tf.Tensor:
    return kernel_facts(layer).product(layer, x, weights[layer.name, KERNEL]) + weights[layer.name, BIAS]


def _is_activation_quantizer(node: Node) -> bool:
    return isinstance(node.layer, qkeras.QActivation) and isinstance(node.layer.activation, Quantizer)
