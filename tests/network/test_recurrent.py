"""Recurrent layers as networks that run once a step: lowered, placed, calibrated and trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from networks import noise, outputs, randomize
from recurrent_networks import CHANNELS, RECURRENT, STEPS, sequence
from refusals import refusal

import po2quant
from po2quant.bit_config import LEARNED_PO2
from po2quant.layers import Recurrent
from po2quant.network import activation_quantizers, calibrate, fold, slot_quantizers, walk, weight_quantizers

CHANCE = float(np.log(2.0))
"""Loss of who cannot tell two classes apart."""

FLOAT_TOLERANCE = 1e-5
"""Relative to the largest output: float32, whose sums are in another order."""


@pytest.mark.parametrize("name", RECURRENT)
def test_a_lowered_network_computes_the_same(name):
    model = RECURRENT[name]()
    x, expected = noise(model), outputs(model, noise(model))
    lowered = outputs(fold(model).model, x)
    np.testing.assert_allclose(lowered, expected, rtol=0, atol=FLOAT_TOLERANCE * np.abs(expected).max())


def test_weights_that_change_later_are_taken_again():
    model = RECURRENT["Bidirectional, concat"]()
    network = fold(model)
    x = noise(model)
    randomize(model, seed=5)
    network.take_weights()
    np.testing.assert_allclose(outputs(network.model, x), outputs(model, x), atol=FLOAT_TOLERANCE)


def test_every_tensor_of_a_step_has_a_slot():
    """In the order of the network; a nonnegative one is unsigned, and the output is counted in all steps."""
    network = fold(sequence(layers.LSTM(4, return_sequences=True, name="lstm")))
    placed = [(slot.slot.layer, slot.slot.signed, slot.slot.shape) for slot in network.slots]
    assert placed == [
        ("sequence", True, (STEPS, CHANNELS)),
        ("lstm_kernel", True, (16,)),
        ("lstm_recurrent_kernel", True, (16,)),
        ("lstm_sum", True, (16,)),
        ("lstm_gates", False, (12,)),
        ("lstm_kept", True, (4,)),
        ("lstm_candidate", True, (4,)),
        ("lstm_added", True, (4,)),
        ("lstm_carry", True, (4,)),
        ("lstm_carry_out", True, (4,)),
        ("lstm_state", True, (STEPS, 4)),
    ]
    kernel, recurrent = (layer for layer in network.layers if layer.kind == "weights")
    assert (kernel.name, kernel.kernel_parameters, kernel.bias_parameters) == ("lstm_kernel", 16 * CHANNELS, 16)
    assert (recurrent.kernel_parameters, recurrent.macs) == (16 * 4, 16 * 4 * STEPS)
    assert list(network.graph.weighted) == ["lstm_kernel", "lstm_recurrent_kernel"]


def test_the_output_of_a_network_is_the_state_that_makes_it():
    network = fold(sequence(layers.LSTM(4, name="lstm")))
    assert network.io_slots == {network.slots[0].slot.name, network.slots[-1].slot.name}


def test_a_state_is_signed_where_a_step_can_make_it_negative():
    def sign_of_state(activation):
        return fold(sequence(layers.SimpleRNN(2, activation=activation))).slots[-1].slot.signed

    assert [sign_of_state(name) for name in ("relu", "sigmoid", "tanh", None)] == [False, False, True, True]


def quantized(model, bits=8, **options):
    network = fold(model)
    result = network.quantize(network.flat(bits).with_alpha(options.pop("alpha", "auto_po2")), **options)
    calibrate(result, noise(model))
    return result


def test_ranges_are_those_of_all_steps_and_come_out_again():
    model = sequence(layers.SimpleRNN(2, activation=None))
    model.layers[0].set_weights([np.ones((CHANNELS, 2)), np.eye(2), np.zeros(2)])
    result = fold(model).quantize(fold(model).flat(12))
    x = np.ones((4, STEPS, CHANNELS), np.float32)
    calibrate(result, x)
    ranges = [quantizer.range for _, quantizer in activation_quantizers(result)]
    assert STEPS * CHANNELS <= ranges[-1][1] < 2 * STEPS * CHANNELS
    calibrate(result, x)
    assert [quantizer.range for _, quantizer in activation_quantizers(result)] == ranges


def test_a_walk_passes_every_quantizer_with_all_that_reaches_it():
    result = quantized(RECURRENT["GRU"](), 16)
    passed = {node.layer.name: inputs[0].shape for node, inputs in walk(result, noise(result, 3))}
    slots = [name for name, _ in activation_quantizers(result)]
    assert set(slots) <= set(passed)
    assert all(tuple(passed[name])[:2] == (3, STEPS) for name in slots)


@pytest.mark.parametrize("name", ["LSTM", "GRU, reset before"])
def test_gradients_are_those_of_the_float_network(name):
    """Through all steps, at widths that hide the rounding."""
    model = RECURRENT[name]()
    network = fold(model)
    result = network.quantize(network.flat(24))
    x = noise(model)
    calibrate(result, x)

    def gradients(of, names):
        variables = {weight.path.rpartition("/")[0].rpartition("/")[2] + weight.name: weight for weight in of.weights}
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(of(x, training=True)))
        chosen = [variables[name].value for name in names]
        return tape.gradient(loss, chosen)

    names = [f"{layer}{part}" for layer in network.graph.weighted for part in ("kernel", "bias")]
    pairs = zip(gradients(result, names), gradients(network.model, names), strict=True)
    for ours, exact in pairs:
        assert np.abs(exact).max() > 0
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-3 * np.abs(exact).max())


@pytest.mark.slow
@pytest.mark.parametrize("alpha", ["auto", "auto_po2", LEARNED_PO2])
def test_training_learns_through_the_steps(alpha, tmp_path):
    """Whether the first or the last step was larger; and a saved network goes on as it was."""
    x = np.random.default_rng(0).normal(size=(256, STEPS, CHANNELS)).astype(np.float32)
    y = (x[:, 0, 0] > x[:, -1, 0]).astype(np.float32)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((STEPS, CHANNELS)), layers.GRU(6), layers.Dense(1)])
    result = quantized(model, 6, alpha=alpha)
    result.compile(keras.optimizers.Adam(0.02), keras.losses.BinaryCrossentropy(from_logits=True))
    losses = result.fit(x, y, epochs=24, verbose=0).history["loss"]
    assert losses[-1] < 0.75 * CHANCE
    if alpha == LEARNED_PO2:
        assert all(quantizer.learning for quantizer in slot_quantizers(result).values())
    result.save(tmp_path / "network.keras")
    loaded = po2quant.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(outputs(loaded, x[:8]), outputs(result, x[:8]))


def test_weights_are_quantized_once_for_all_steps(monkeypatch):
    result = quantized(RECURRENT["LSTM"]())
    calls = []
    for weight in weight_quantizers(result):
        quantize = type(weight.quantizer).call
        monkeypatch.setattr(
            weight.quantizer,
            "call",
            lambda x, quantize=quantize, weight=weight: calls.append(1) or quantize(weight.quantizer, x),
        )
    before = result(noise(result))
    assert len(calls) >= 4
    assert all(weight.quantizer._held is None for weight in weight_quantizers(result))
    np.testing.assert_array_equal(before, result(noise(result)))


class OwnCell(layers.LSTMCell):
    """A cell that may compute something else."""


def shared():
    x, lstm = keras.Input((STEPS, CHANNELS)), layers.LSTM(2, name="odd")
    return keras.Model(x, layers.Add()([lstm(x), lstm(x)]))


def with_initial_state():
    x, state = keras.Input((STEPS, CHANNELS)), keras.Input((2,))
    return keras.Model([x, state], layers.GRU(2, name="odd")(x, initial_state=state))


def with_returned_state():
    x = keras.Input((STEPS, CHANNELS))
    return keras.Model(x, layers.LSTM(2, return_state=True, name="odd")(x)[0])


def of_any_length():
    return keras.Sequential([keras.Input((None, CHANNELS), name="odd"), layers.LSTM(2)])


def of_images():
    x = keras.Input((2, 4, 4, 1))
    return keras.Model(x, layers.ConvLSTM2D(2, 2, name="odd")(x))


def stateful():
    x = keras.Input(batch_shape=(1, STEPS, CHANNELS))
    return keras.Model(x, layers.LSTM(2, stateful=True, name="odd")(x))


REFUSED = {
    "stateful": (stateful, "stateful=False"),
    "return_state": (with_returned_state, "return_state=False"),
    "initial_state": (with_initial_state, "no states or masks"),
    "a mask": (lambda: sequence(layers.Masking(name="odd"), layers.LSTM(2)), "without a mask"),
    "any length": (of_any_length, "fixed shape"),
    "convolutions within": (of_images, "use LSTM or GRU"),
    "two calls": (shared, "a layer for each call"),
    "an own cell": (lambda: sequence(layers.RNN(OwnCell(2), name="odd")), "LSTMCell, GRUCell, SimpleRNNCell"),
    "a softmax within": (lambda: sequence(layers.LSTM(2, activation="softmax", name="odd")), "'softmax'"),
    "an unknown function": (lambda: sequence(layers.GRU(2, activation="log_sigmoid", name="odd")), "'log_sigmoid'"),
    "both outputs": (lambda: two_outputs(), "return one tensor"),
}


def two_outputs():
    x = keras.Input((STEPS, CHANNELS))
    return keras.Model(x, layers.Bidirectional(layers.LSTM(2), merge_mode=None, name="odd")(x)[0])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(name):
    make, way_out = REFUSED[name]
    message = refusal(fold, make())
    assert "odd" in message and way_out in message


@pytest.mark.slow
def test_a_recurrent_layer_of_ours_is_lowered_as_it_is():
    once = fold(RECURRENT["GRU"]()).model
    twice = fold(once).model
    assert sum(isinstance(layer, Recurrent) for layer in twice.layers) == 1
    np.testing.assert_array_equal(outputs(twice, noise(once)), outputs(once, noise(once)))
