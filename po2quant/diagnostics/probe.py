"""Look into a quantized network: every weight, and every activation of one small batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from po2quant.diagnostics.forward import Weights, activation_nodes, input_tensors, quantized_graph, run_network
from po2quant.diagnostics.measurement import ACTIVATION, QuantizedTensor
from po2quant.diagnostics.tensors import quantize
from po2quant.fixed_point import integer_range
from po2quant.network import QuantizedWeight, weight_quantizers
from po2quant.network.graph import Node
from po2quant.quantizers import AUTO, quantized_bits_featuremap

SAMPLES, FEWEST_SAMPLES = 32, 4
MOST_VALUES = 2**21
"""Activation values that a batch may have in all quantizers together, so that measuring them stays cheap."""

NO_RANGE = (0.0, 0.0)
"""The range of an activation quantizer that has none, or one for each sample."""

Tensors = list[tuple[tf.Tensor, ...]]


class Probe:
    """Runs one batch through a quantized network as it stands, with and without its quantizers, in compiled graphs.

    ``samples`` says how many inputs the batch has.

    Args:
        model: quantized network; its weights, ranges and widths may change between calls.
        inputs: network inputs, ``(samples, ...)``, one array for each model input. The first :data:`SAMPLES` are used,
            and fewer where the network's activations are large: see :data:`MOST_VALUES`.

    Raises:
        ValueError: for a model without quantizers, activations without a fixed shape, or another number of arrays than
            it has inputs.
    """

    def __init__(self, model: keras.Model, inputs: np.ndarray | Sequence[np.ndarray]) -> None:
        self._graph = quantized_graph(model)
        self._weights = list(weight_quantizers(model))
        self._activations = activation_nodes(self._graph)
        values_per_sample = sum(math.prod(node.fixed_shape) * self._graph.steps[node] for node in self._activations)
        tensors = input_tensors(self._graph, inputs)
        most = max(FEWEST_SAMPLES, min(SAMPLES, MOST_VALUES // max(values_per_sample, 1)))
        self.samples = min(most, len(tensors[0]))
        self._inputs = [tensor[: self.samples] for tensor in tensors]
        self._read_weights = tf.function(self._values_and_scales, autograph=False)
        self._read_activations = tf.function(self._run, autograph=False)

    def __call__(self) -> list[QuantizedTensor]:
        """Return every kernel and bias, then every activation, in network order."""
        weights = [
            _weight(weight, *arrays)
            for weight, arrays in zip(self._weights, _to_numpy(self._read_weights()), strict=True)
        ]
        ranges = [_static_range(node.layer.activation) for node in self._activations]
        activations = self._read_activations(
            self._inputs, [weight.quantized for weight in weights], np.array(ranges, np.float32).reshape(-1, 2)
        )
        return weights + [
            _activation(node, static_range != NO_RANGE, *arrays)
            for node, static_range, arrays in zip(self._activations, ranges, _to_numpy(activations), strict=True)
        ]

    def _values_and_scales(self) -> Tensors:
        """Return values and computed scale of each weight."""
        values = [tf.convert_to_tensor(weight.variable) for weight in self._weights]
        return [
            (value, weight.quantizer.compute_scale(value)) for weight, value in zip(self._weights, values, strict=True)
        ]

    def _run(self, inputs: list[tf.Tensor], quantized_weights: list[tf.Tensor], ranges: tf.Tensor) -> Tensors:
        """Return of each activation: values, quantized values, scale, zero point, values without any quantizer."""
        exact_weights = [tf.convert_to_tensor(weight.variable) for weight in self._weights]
        outputs = run_network(self._graph, inputs, self._by_name(quantized_weights), with_quantizers=True)
        exact = run_network(self._graph, inputs, self._by_name(exact_weights), with_quantizers=False)
        activations = []
        for node, limits in zip(self._activations, tf.unstack(ranges, len(self._activations)), strict=True):
            scale, zero_point = node.layer.activation.scale_and_zero_point(limits[0], limits[1])
            zero_point = tf.zeros_like(scale) if zero_point is None else zero_point
            activations.append((outputs[node.inputs[0]], outputs[node], scale, zero_point, exact[node]))
        return activations

    def _by_name(self, tensors: list[tf.Tensor]) -> Weights:
        return {(weight.layer.name, weight.part): tensor for weight, tensor in zip(self._weights, tensors, strict=True)}


def _to_numpy(tensors: Tensors) -> list[tuple[np.ndarray, ...]]:
    return [tuple(tensor.numpy() for tensor in group) for group in tensors]


def _weight(weight: QuantizedWeight, values: np.ndarray, scale: np.ndarray) -> QuantizedTensor:
    quantizer, bits = weight.quantizer, weight.quantizer.bits
    if quantizer.frozen:
        scale = np.asarray(quantizer.frozen_scale, np.float32)
    limits = integer_range(bits, quantizer.signed, quantizer.narrow_range)
    quantized, is_power_of_two = quantize(values, scale, *limits), quantizer.alpha != AUTO
    return QuantizedTensor(weight.layer.name, weight.part, "", bits, values, quantized, scale, *limits, is_power_of_two)


def _activation(
    node: Node,
    has_scale: bool,
    values: np.ndarray,
    quantized: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    exact: np.ndarray,
) -> QuantizedTensor:
    quantizer, bits, source = node.layer.activation, node.layer.activation.bits, node.inputs[0].layer.name
    low, high = integer_range(bits, quantizer.signed, quantizer.narrow_range)
    limits, own_scale = (low - int(zero_point), high - int(zero_point)), scale if has_scale else None
    is_power_of_two = quantizer.alpha != AUTO
    return QuantizedTensor(
        node.layer.name, ACTIVATION, source, bits, values, quantized, own_scale, *limits, is_power_of_two, exact
    )


def _static_range(quantizer: quantized_bits_featuremap) -> tuple[float, float]:
    return quantizer.range if quantizer.is_static else NO_RANGE
