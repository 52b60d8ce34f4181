"""What the calls of a network give, one after the other, no longer kept than they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from po2quant.network.graph import Graph, Node
from po2quant.network.walk import Arrays, input_arrays

BATCH = 128
"""Samples that are computed at a time."""


class Outputs:
    """Outputs of the calls of a network on given inputs: computed when they are asked for, dropped after their readers.

    Args:
        graph: network.
        x: inputs, ``(samples, ...)``, one array for each of the network's.
    """

    def __init__(self, graph: Graph, x: Arrays) -> None:
        self.graph = graph
        self._unread = {node: len(readers) + (node in graph.outputs) for node, readers in graph.readers.items()}
        self._values: dict[Node, tf.Tensor] = {}
        arrays = input_arrays(graph, x)
        self._fed = {layer.name: array for layer, array in zip(graph.inputs, arrays, strict=True)}

    def of(self, node: Node) -> tf.Tensor:
        """Return the output of a call; ask in the order of the graph."""
        if node not in self._values:
            if isinstance(node.layer, keras.layers.InputLayer):
                self._values[node] = tf.convert_to_tensor(self._fed[node.layer.name], node.layer.dtype)
            else:
                self._values[node] = in_batches(node.infer, [self.of(parent) for parent in node.inputs])
            for parent in node.inputs:
                self._unread[parent] -= 1
                if not self._unread[parent]:
                    del self._values[parent]
        return self._values[node]

    def of_network(self) -> list[tf.Tensor]:
        """Return the outputs of the network, whose calls may have been asked for before."""
        return [self.of(node) for node in self.graph.outputs]


def outputs_of(graph: Graph, x: Arrays) -> list[tf.Tensor]:
    """Return the outputs of a network on given inputs."""
    outputs = Outputs(graph, x)
    for node in graph.nodes:
        outputs.of(node)
    return outputs.of_network()


def distance(outputs: Sequence[tf.Tensor], targets: Sequence[tf.Tensor]) -> float:
    """Return the mean squared error of a network's outputs, each relative to the variance of its targets."""
    errors = [
        tf.reduce_mean(tf.math.squared_difference(output, target))
        / (tf.math.reduce_variance(target) + keras.config.epsilon())
        for output, target in zip(outputs, targets, strict=True)
    ]
    return float(tf.add_n(errors))


def in_batches(call: Any, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return what a call gives for all samples of its inputs."""
    parts = [call([x[start : start + BATCH] for x in inputs]) for start in range(0, len(inputs[0]), BATCH)]
    return tf.concat(parts, 0)
