"""The frozen network in float64 by Keras, and the comparison of an integer program with it, bit for bit.

Float64 adds integers of up to 53 bits without rounding, so that it computes the network's sums exactly; the few
operations whose sums could be wider are named by :func:`inexact_operations`. Layers run one by one, without XLA: XLA
replaces the division of an average by a multiplication with a rounded reciprocal, which breaks ties the wrong way for
windows such as 7 x 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import qkeras
import tensorflow as tf
from keras import layers

from po2quant.deploy.frozen import activation_format
from po2quant.integer.comparison import Comparer, Comparison
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.integer.plan import EXACT_FLOAT64_BITS
from po2quant.integer.program import Program
from po2quant.layers import Recurrent
from po2quant.network.graph import Graph, Node, evaluate, read_graph
from po2quant.network.kinds import is_weighted, kernel_of
from po2quant.network.walk import Arrays, input_arrays

BATCH_SIZE = 8
"""Samples at a time: a bound on memory."""

PROGRAM, KERAS = "interpreter", "Keras float64"


class Float64Network:
    """A frozen network whose layers compute in float64.

    Args:
        model: as for :func:`~po2quant.deploy.from_keras.integer_program`.
    """

    def __init__(self, model: keras.Model) -> None:
        self._graph = read_graph(model)
        unique = {node.layer.name: node.layer for node in self._graph.every_node}
        self._copies = {
            name: float64_copy(layer)
            for name, layer in unique.items()
            if not isinstance(layer, (layers.InputLayer, Recurrent))
        }
        self._exponents = {
            name: activation_format(name, layer.activation).exponent
            for name, layer in unique.items()
            if isinstance(layer, qkeras.QActivation)
        }

    def __call__(self, x: Arrays) -> dict[str, np.ndarray]:
        """Return the integers of every quantized tensor by name; those of a step in all steps.

        Args:
            x: ``(samples, ...)``, one array for each model input.
        """
        arrays = input_arrays(self._graph, x)
        return self._run(self._graph, [tf.constant(np.asarray(array, np.float64)) for array in arrays])[1]

    def _run(self, graph: Graph, inputs: list[tf.Tensor]) -> tuple[list[tf.Tensor], dict[str, np.ndarray]]:
        """Return the outputs of a network, and its integers by name."""
        integers: dict[str, np.ndarray] = {}

        def call(node: Node, inputs: list[tf.Tensor]) -> tf.Tensor:
            name = node.layer.name
            if isinstance(node.layer, Recurrent):
                value, of_steps = self._run_steps(node.layer, inputs[0])
                integers.update(of_steps)
                return value
            value = node.infer(inputs, self._copies[name])
            if name in self._exponents:
                integers[name] = np.ldexp(value.numpy(), -self._exponents[name]).astype(np.int64)
            return value

        values = evaluate(graph, inputs, call)
        return [values[node] for node in graph.outputs], integers

    def _run_steps(self, layer: Recurrent, x: tf.Tensor) -> tuple[tf.Tensor, dict[str, np.ndarray]]:
        """Return the output of a recurrent layer, and the integers of its cell, ``(samples, steps, ...)``."""
        graph, steps, results = read_graph(layer.cell), [], []
        states = [tf.zeros((len(x), *state.shape[1:]), x.dtype) for state in layer.cell.inputs[1:]]
        for now in tf.unstack(x, axis=1):
            states, integers = self._run(graph, [now, *states])
            results.append(states[0])
            steps.append(integers)
        of_steps = {name: np.stack([step[name] for step in steps], axis=1) for name in steps[0]}
        return tf.stack(results, axis=1) if layer.return_sequences else results[-1], of_steps

    def batches(self, x: Arrays, size: int = BATCH_SIZE) -> list[list[np.ndarray]]:
        """Return the inputs of the network in batches, see :func:`batches`."""
        return batches(input_arrays(self._graph, x), size)


def compare(program: Program, model: keras.Model, x: Arrays, batch_size: int = BATCH_SIZE) -> Comparison:
    """Compare every quantized tensor of a program with Keras in float64, as integers.

    Args:
        program: the integer program of ``model``.
        model: the frozen network.
        x: ``(samples, ...)``, one array for each model input, or by key where it takes a dictionary.
        batch_size: samples at a time.

    Raises:
        ValueError: for no samples, or tensors that the program lacks.

    Example:
        >>> print(compare(program, model, x[:8]))  # doctest: +SKIP
        interpreter and Keras float64: 123456 integers of 12 tensors and 8 samples: all equal
    """
    network, comparer = Float64Network(model), Comparer(program, PROGRAM, KERAS)
    for batch in network.batches(x, batch_size):
        comparer.add(run(program, quantize_inputs(program, batch)), network(batch))
    return comparer.result()


def batches(x: np.ndarray | Sequence[np.ndarray], size: int = BATCH_SIZE) -> list[list[np.ndarray]]:
    """Return the inputs of a network in batches, one array for each model input.

    Raises:
        ValueError: for no samples.
    """
    arrays: list[Any] = [*x] if isinstance(x, (list, tuple)) else [np.asarray(x)]
    if not len(arrays[0]):
        raise ValueError("x must have samples to compare. Received: none")
    return [[array[start : start + size] for array in arrays] for start in range(0, len(arrays[0]), size)]


def inexact_operations(program: Program) -> tuple[str, ...]:
    """Return the names of the operations whose sums might need more bits than float64 has."""
    plans = ((operation.name, block.plan(operation)) for block in program.blocks for operation in block.operations)
    return tuple(name for name, plan in plans if plan is not None and plan.exact_bits > EXACT_FLOAT64_BITS)


def float64_copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return a copy of a layer that computes in float64, with the same weights, scales and ranges."""
    copy = keras.saving.deserialize_keras_object(_in_float64(keras.saving.serialize_keras_object(layer)))
    if is_weighted(layer):
        kernel_of(copy).assign(kernel_of(layer))
        if layer.use_bias:
            copy.bias.assign(layer.bias)
    return copy


def _in_float64(config: Any) -> Any:
    """Return a serialized object with the type of every layer in it replaced."""
    if isinstance(config, dict):
        return {key: "float64" if key == "dtype" else _in_float64(value) for key, value in config.items()}
    return [_in_float64(item) for item in config] if isinstance(config, (list, tuple)) else config
