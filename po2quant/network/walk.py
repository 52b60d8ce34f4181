"""A network one layer at a time, in eager mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import qkeras
import tensorflow as tf

from po2quant.layers import Recurrent
from po2quant.network.graph import Graph, Node, evaluate, read_graph

Recorder = Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]]

Arrays = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
"""One array for each input of a model: alone, in the model's order, or by key where it takes a dictionary."""


def input_arrays(graph: Graph, x: Arrays) -> list[np.ndarray]:
    """Return one array for each input of a network, in order.

    Raises:
        ValueError: for another number of arrays than the network has inputs.
    """
    if isinstance(x, Mapping) and x.keys() == set(graph.input_keys or ()):
        return [x[key] for key in graph.input_keys or ()]
    arrays: list[Any] = [*x] if isinstance(x, (list, tuple)) else [x]
    if len(arrays) != len(graph.inputs) or isinstance(x, Mapping):
        received = ", ".join(x) if isinstance(x, Mapping) else len(arrays)
        raise ValueError(f"a model needs one array for each of its {len(graph.inputs)} inputs. Received: {received}")
    return arrays


def walk(model: keras.Model, x: Arrays) -> Iterator[tuple[Node, list[tf.Tensor]]]:
    """Yield each call of a layer with its inputs just before it is made, as in inference.

    What is changed about the layer meanwhile counts. Tensors are dropped after their last reader. After a recurrent
    layer come the quantizers of its cell, each with what reaches it in all steps, ``(samples, steps, ...)``, through
    those that came before it alone.

    Args:
        model: functional or Sequential model.
        x: inputs, ``(samples, ...)``, one array for each model input, or by key where the model takes a dictionary.

    Raises:
        ValueError: for another number of arrays than the model has inputs.
    """
    graph = read_graph(model)
    arrays = input_arrays(graph, x)
    fed = {layer.name: array for layer, array in zip(graph.inputs, arrays, strict=True)}
    unread = {node: len(readers) for node, readers in graph.readers.items()}
    values: dict[Node, tf.Tensor] = {}
    for node in graph.nodes:
        if isinstance(node.layer, keras.layers.InputLayer):
            values[node] = tf.convert_to_tensor(fed[node.layer.name], node.layer.dtype)
            continue
        inputs = [values[parent] for parent in node.inputs]
        yield node, inputs
        if isinstance(node.layer, Recurrent):
            for place, quantizer in enumerate(_quantizers_of(node.layer)):
                yield quantizer, [_recorder(node.layer)(inputs[0], tf.constant(place))[place]]
        values[node] = node.infer(inputs)
        for parent in node.inputs:
            unread[parent] -= 1
            if not unread[parent]:
                del values[parent]


def _quantizers_of(layer: Recurrent) -> list[Node]:
    return [node for node in read_graph(layer.cell).nodes if isinstance(node.layer, qkeras.QActivation)]


def _recorder(layer: Recurrent) -> Recorder:
    """Return what records the inputs of a cell's quantizers, of which only the first few are in use."""
    if layer.recorder is not None:
        return layer.recorder
    graph, quantizers = read_graph(layer.cell), _quantizers_of(layer)

    @tf.function(autograph=False, reduce_retracing=True)
    def record(x: tf.Tensor, used: tf.Tensor) -> list[tf.Tensor]:
        def call(node: Node, inputs: list[tf.Tensor]) -> tf.Tensor:
            value = node.infer(inputs)
            return tf.where(quantizers.index(node) < used, value, inputs[0]) if node in quantizers else value

        def step(states: list[tf.Tensor], now: tf.Tensor) -> list[tf.Tensor]:
            values = evaluate(graph, [now, *states], call)
            return [values[node] for node in (*graph.outputs, *(node.inputs[0] for node in quantizers))]

        samples = tf.shape(x)[0]
        seen = [tf.zeros((samples, *node.fixed_shape), x.dtype) for node in quantizers]
        return layer.over_steps(step, x, seen)[len(graph.outputs) :]

    layer.recorder = record
    return record
