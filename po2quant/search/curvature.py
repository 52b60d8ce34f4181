"""What each width of each quantizer costs by the second order of the loss: Hessian traces times squared errors.

Equation:
    loss increase of slot s at width w = 1/2 * tr(H_s) * mean((Q_w(x_s) - x_s)^2)
    tr(H_s) = E[v_s . (H v)_s] over signs v that are drawn at random (Hutchinson), with H v the gradient of g . v

Reference:
    Dong et al., "HAWQ-V2", arXiv 1911.03852: average Hessian traces of weights and activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.diagnostics.forward import Weights, activation_nodes, batches_of, quantized_graph, run_network
from po2quant.layers import Recurrent
from po2quant.network import slot_quantizers, weight_quantizers
from po2quant.network.graph import Graph
from po2quant.progress import SILENT, ProgressLine
from po2quant.search.sensitivity import Sensitivity, calibrate_every_width, set_width

PROBES, BATCH_SIZE = 64, 128
"""Drawings of signs for each batch, and its samples."""

LossFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Loss = str | LossFunction
"""Keras loss, or its name."""

Traces = dict[str, float]
"""Trace of the Hessian of the mean loss by slot; of an activation, the mean over samples of each one's own."""


def hessian_traces(
    model: keras.Model, samples: Split, loss: Loss, probes: int = PROBES, seed: int = 0, line: ProgressLine = SILENT
) -> Traces:
    """Return the trace of each slot's Hessian, of the network as it computes without any quantizer.

    Args:
        model: quantized network with trained weights.
        samples: a few batches: network inputs and targets.
        loss: Keras loss, or its name.
        probes: drawings of signs for each batch; the error of a trace falls as their root.
        seed: of the signs.
        line: shows progress, in probes.

    Raises:
        ValueError: for a recurrent network, whose activations of all steps are one tensor that nothing reads.
    """
    graph, weights = quantized_graph(model), _float_weights(model)
    recurrent = [node.layer.name for node in graph.nodes if isinstance(node.layer, Recurrent)]
    if recurrent:
        raise ValueError(f"Hessian traces must be of a network without recurrent layers. Received: {recurrent[0]!r}")
    batches = batches_of(samples, BATCH_SIZE)
    probe = _probe(graph, weights, keras.losses.get(loss), batches)
    shares = np.array([len(x) for x, _ in batches]) / len(samples)
    found = np.zeros(len(weights) + len(activation_nodes(graph)))
    for number in range(probes):
        for share, batch in zip(shares, batches, strict=True):
            found += share * np.array(probe(*batch, tf.constant([seed, number]))) / probes
        line.advance()
    slots = [f"{layer}.{part}" for layer, part in weights]
    slots += [f"{node.layer.name}.activation" for node in activation_nodes(graph)]
    traces = dict.fromkeys(slots, 0.0)
    for slot, trace in zip(slots, found.tolist(), strict=True):
        traces[slot] += trace
    return traces


def hessian_sensitivities(
    model: keras.Model,
    choices: Mapping[str, Sequence[int]],
    calibration_inputs: np.ndarray,
    samples: Split,
    loss: Loss,
    seed: int = 0,
    line: ProgressLine = SILENT,
) -> list[Sensitivity]:
    """Return the loss that each slot costs at each width, by the second order; ``output_error`` is the same number.

    Arguments are those of :func:`~po2quant.search.sensitivity.sensitivity_sweep`. A trace that is not positive, as that
    of a slot the loss hardly depends on may come out, counts as none.
    """
    traces, quantizers = hessian_traces(model, samples, loss, seed=seed, line=line), slot_quantizers(model)
    ranges = calibrate_every_width(model, quantizers, choices, calibration_inputs)
    tensors = dict(_tensors(model, samples))
    rows = []
    for slot, widths in choices.items():
        x = tensors[slot]
        for bits in sorted(set(widths)):
            set_width(quantizers[slot], bits, ranges.get((slot, bits)))
            mean_square = float(tf.reduce_mean(tf.square(quantizers[slot](x) - x)))
            increase = 0.5 * max(traces[slot], 0.0) * mean_square
            rows.append(Sensitivity(slot, bits, increase, increase))
    return rows


def _float_weights(model: keras.Model) -> Weights:
    return {
        (weight.layer.name, weight.part): tf.convert_to_tensor(weight.variable) for weight in weight_quantizers(model)
    }


def _tensors(model: keras.Model, samples: Split) -> Iterator[tuple[str, tf.Tensor]]:
    """Yield what each quantizer quantizes, by slot."""
    graph, weights = quantized_graph(model), _float_weights(model)
    for (layer, part), weight in weights.items():
        yield f"{layer}.{part}", weight
    values = run_network(graph, [tf.constant(samples.inputs())], weights, with_quantizers=False)
    for node in activation_nodes(graph):
        yield f"{node.layer.name}.activation", values[node]


def _probe(graph: Graph, weights: Weights, loss: LossFunction, batches: Sequence[tuple[tf.Tensor, ...]]) -> Callable:
    """Return what draws signs, and returns the estimate of every trace."""
    nodes = activation_nodes(graph)

    @tf.function(
        input_signature=[
            *(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in batches[0]),
            tf.TensorSpec((2,), tf.int32),
        ],
        autograph=False,
    )
    def probe(x: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        own = {name: tf.identity(weight) for name, weight in weights.items()}
        with tf.GradientTape() as outer:
            outer.watch([x, *own.values()])
            with tf.GradientTape() as inner:
                inner.watch([x, *own.values()])
                values = run_network(graph, [x], own, with_quantizers=False)
                total = tf.reduce_mean(loss(targets, values[graph.outputs[0]]))
            tensors = [*own.values(), *(values[node] for node in nodes)]
            slopes = inner.gradient(total, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            signs = [
                tf.sign(tf.random.stateless_uniform(tf.shape(tensor), seed + tf.constant([0, place * 2**16])) - 0.5)
                for place, tensor in enumerate(tensors)
            ]
            product = tf.add_n([tf.reduce_sum(slope * sign) for slope, sign in zip(slopes, signs, strict=True)])
        curved = outer.gradient(product, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # the loss is a mean over samples, and so is what comes out for activations
        return tf.stack([tf.reduce_sum(curve * sign) for curve, sign in zip(curved, signs, strict=True)])

    return probe
