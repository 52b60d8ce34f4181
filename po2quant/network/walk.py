"""A network one layer at a time, in eager mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant.network.graph import Graph, Node, read_graph

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

    What is changed about the layer meanwhile counts. Tensors are dropped after their last reader.

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
        values[node] = node.infer(inputs)
        for parent in node.inputs:
            unread[parent] -= 1
            if not unread[parent]:
                del values[parent]
