"""Hessian traces: against the whole Hessian of a tiny network, and what is made of them."""

import keras
import numpy as np
import pytest
import search_process
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.network import fold, slot_quantizers, weight_quantizers
from po2quant.search.curvature import hessian_traces
from po2quant.search.problem import Goal, SearchProblem
from po2quant.search.run import computed_curvatures
from po2quant.search.space import SearchSpace
from po2quant.search.trial import TrialTraining

ACTIVATIONS = ("activation.activation", "activation_1.activation", "activation_2.activation")
LOSS = "sparse_categorical_crossentropy"
SPACE = SearchSpace((2, 4, 8), (8, 16), (2, 4, 8))


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    return TrialTraining.of(search_process.experiment(None).with_float_weights(tmp_path_factory.mktemp("float")))


def exact_traces(model, samples):
    """Return the traces of the loss of relu(x W + b) V + c, from all second derivatives."""
    weights = [tf.constant(weight.variable) for weight in weight_quantizers(model)]
    slots = [f"{weight.layer.name}.{weight.part}" for weight in weight_quantizers(model)]
    shifts = [tf.zeros(size) for size in (4, 8, 3)]  # of what quantizers reach: equal for all samples
    tensors = dict(zip([*slots, *ACTIVATIONS], [*weights, *shifts], strict=True))
    x, y = tf.constant(samples.inputs()), tf.one_hot(samples.y, 3)

    def loss():
        w, b, v, c, of_x, of_hidden, of_logits = tensors.values()
        hidden = tf.nn.relu((x + of_x) @ w + b) + of_hidden
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, hidden @ v + c + of_logits))

    traces = {}
    for name, tensor in tensors.items():
        with tf.GradientTape() as outer:
            outer.watch(tensor)
            with tf.GradientTape() as inner:
                inner.watch(tensor)
                total = loss()
            slope = inner.gradient(total, tensor)
        size = int(tf.size(tensor))
        traces[name] = float(np.trace(np.reshape(outer.jacobian(slope, tensor), (size, size))))
    return traces


def test_traces_are_those_of_the_whole_hessian(training):
    model, samples = training.network.model, training.dataset.train
    exact = exact_traces(model, samples)
    found = hessian_traces(model, samples, LOSS, probes=600)
    assert found == pytest.approx(exact, rel=0.1)
    assert (
        found == hessian_traces(model, samples, LOSS, probes=600) != hessian_traces(model, samples, LOSS, 600, seed=1)
    )


def test_half_the_bits_cost_more_and_as_much_as_trace_and_error_say(training, tmp_path):
    layers = search_process.experiment(None).network.layers
    problem = SearchProblem(SPACE, layers, Goal.of_size(layers), 6)
    rows = computed_curvatures(problem, training, tmp_path, is_shown=False)
    assert rows == computed_curvatures(problem, None, tmp_path)
    by_slot = {(row.slot, row.bits): row.loss_increase for row in rows}
    assert set(by_slot) == {(slot, bits) for slot, widths in SPACE.choices(layers).items() for bits in widths}
    for slot, widths in SPACE.choices(layers).items():
        increases = [by_slot[slot, bits] for bits in widths]
        assert increases == sorted(increases, reverse=True) and increases[0] > 0
    model, samples = training.network.model, training.dataset.train
    quantizer = slot_quantizers(model)["out.kernel"]
    kernel = next(w.variable for w in weight_quantizers(model) if (w.layer.name, w.part) == ("out", "kernel"))
    quantizer.bits = 4
    error = float(tf.reduce_mean(tf.square(quantizer(kernel) - kernel)))
    trace = hessian_traces(model, samples.head(128), LOSS)["out.kernel"]
    assert by_slot["out.kernel", 4] == pytest.approx(0.5 * trace * error, rel=1e-5)


def test_a_recurrent_network_is_refused():
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.LSTM(3, name="memory"), keras.layers.Dense(2)])
    network = fold(model)
    with pytest.raises(ValueError, match=r"without recurrent layers\. Received: 'memory'"):
        hessian_traces(network.quantize(network.flat(8)), Split(np.zeros((4, 5, 2)), np.zeros(4, int)), LOSS)
