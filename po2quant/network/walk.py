"""A network one layer at a time, in eager mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant.network.graph import Graph, Node, read_graph


def walk(model: keras.Model, x: np.ndarray | Sequence[np.ndarray]) -> Iterator[tuple[Node, list[tf.Tensor]]]:
    """Yield each call of a layer with its inputs just before it is made, as in inference.

    What is changed about the layer meanwhile counts. Tensors are dropped after their last reader.

    Args:
        model: functional or Sequential model.
        x: inputs, ``(samples, ...)``, one array for each model input.

    Raises:
        ValueError: for another number of arrays than the model has inputs.
    """
    graph = read_graph(model)
    fed = fed_inputs(graph, x)
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


def fed_inputs(graph: Graph, x: np.ndarray | Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the inputs of a network by the names of its input layers.

    Raises:
        ValueError: for another number of arrays than the network has inputs.
    """
    arrays: list[Any] = list(x) if isinstance(x, (list, tuple)) else [x]
    if len(arrays) != len(graph.inputs):
        raise ValueError(f"a model needs one array for each of its {len(graph.inputs)} inputs. Received: {len(arrays)}")
    return {layer.name: array for layer, array in zip(graph.inputs, arrays, strict=True)}
