"""Quantizing without labels: weights are rounded for the sake of the output, and a stop loses nothing."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from networks import noise, randomize
from refusals import refusal
from selections import slow_but

from po2quant.network import calibrate, fold, freeze_scales, weight_quantizers
from po2quant.network.kinds import kernel_of
from po2quant.training import reconstruct as module
from po2quant.training.jointly import RATE, learn_jointly
from po2quant.training.reconstruct import Reconstruction, reconstruct
from po2quant.training.rounding import LearnedRounding

QUICK = Reconstruction(samples=96, steps=60, batch_size=16)


@pytest.fixture(scope="module")
def network():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="first")(image)))
    shortcut = x
    x = layers.ReLU()(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    x = layers.ReLU()(layers.Add()([layers.Conv2D(8, 1, name="pointwise")(x), shortcut]))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    model = keras.Model(image, layers.Softmax()(layers.Dense(4, name="scores")(x)))
    return fold(randomize(model))


@pytest.fixture(scope="module")
def x(network):
    return noise(network.model, 96)


def kernels_of(model):
    return [weight for weight in weight_quantizers(model) if weight.part == "kernel"]


def error(network, model, x):
    """Return the mean squared error of the logits, which softmax follows, relative to their variance."""
    logits = [keras.Model(m.inputs, m.get_layer("scores").output).predict(x, verbose=0) for m in (network.model, model)]
    return np.mean((logits[1] - logits[0]) ** 2) / np.var(logits[0])


@pytest.mark.parametrize(
    ("bits", "alpha"), slow_but(((4, "auto_po2"),), ((4, "auto_po2"), (3, "auto_po2"), (4, "auto")))
)
def test_the_output_comes_nearer_to_that_of_the_float_network_than_calibration_brings_it(network, x, bits, alpha):
    config = network.flat(bits).with_alpha(alpha)
    calibrated = network.quantize(config)
    calibrate(calibrated, x)
    fresh = noise(network.model, 192)[96:]
    assert error(network, reconstruct(network, config, x, QUICK), fresh) < 0.8 * error(network, calibrated, fresh)


def test_every_weight_is_rounded_up_or_down_under_its_frozen_scale(network, x):
    model = reconstruct(network, network.flat(4), x, QUICK)
    float_layers = network.graph.weighted
    for weight in weight_quantizers(model):
        assert weight.quantizer.frozen
        if weight.part == "kernel":
            scale, stored = weight.quantizer.frozen_scale, weight.variable.numpy()
            assert np.all(np.frexp(scale)[0] == 0.5)
            np.testing.assert_array_equal(weight.quantizer(stored), stored)
            source = kernel_of(float_layers[weight.layer.name]).numpy()
            clipped = np.clip(source, -7 * scale, 7 * scale)
            assert np.all(np.abs(stored - clipped) < scale)


def test_a_stop_loses_nothing(network, x, tmp_path, monkeypatch):
    settings = dataclasses.replace(QUICK, joint_steps=3)
    whole = reconstruct(network, network.flat(4), x, settings, seed=3)
    learn, learned = module._Unit.learn, []

    def learn_twice(unit, *arguments):
        if len(learned) == 2:
            raise KeyboardInterrupt
        learned.append(unit)
        learn(unit, *arguments)

    monkeypatch.setattr(module._Unit, "learn", learn_twice)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(network, network.flat(4), x, settings, seed=3, folder=tmp_path)
    learned.clear()
    resumed = reconstruct(network, network.flat(4), x, settings, seed=3, folder=tmp_path)
    assert len(learned) == 2
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_network_that_what_was_learned_brings_farther_off_is_kept_as_it_was_calibrated(network, x, monkeypatch):
    learn = module._Unit.learn

    def spoiled(unit, *arguments):
        learn(unit, *arguments)
        unit.weight.layer.bias.assign_add(np.full(unit.weight.layer.bias.shape, 5.0))

    monkeypatch.setattr(module._Unit, "learn", spoiled)
    calibrated = network.quantize(network.flat(4))
    calibrate(calibrated, x)
    freeze_scales(calibrated, network.placement)
    kept = reconstruct(network, network.flat(4), x, QUICK)
    np.testing.assert_array_equal(kept.predict(x, verbose=0), calibrated.predict(x, verbose=0))


def test_no_layer_keeps_its_inputs_and_targets_once_it_has_learned(network, x, monkeypatch):
    given = []
    learn = module._Unit.learn

    def watched(unit, inputs, target, *arguments):
        given.extend(weakref.ref(tensor) for tensor in (inputs, target.linear, target.output))
        learn(unit, inputs, target, *arguments)

    monkeypatch.setattr(module._Unit, "learn", watched)
    reconstruct(network, network.flat(4), x, QUICK)
    gc.collect()
    assert len(given) == 3 * 4 and not any(tensor() is not None for tensor in given)


def test_layers_that_learn_at_once_bring_the_output_nearer(network, x):
    config = network.flat(3)
    apart = reconstruct(network, config, x, QUICK)
    jointly = reconstruct(network, config, x, dataclasses.replace(QUICK, joint_steps=150, joint_rate=0.01))
    for one, other in zip(kernels_of(apart), kernels_of(jointly), strict=True):
        np.testing.assert_array_equal(one.quantizer.frozen_scale, other.quantizer.frozen_scale)
    wanted, *found = (m.predict(x, verbose=0) for m in (network.model, apart, jointly))
    before, after = (np.mean((outputs - wanted) ** 2) for outputs in found)
    assert after < 0.5 * before


def test_a_joint_step_moves_every_kernel_by_the_rate_in_its_own_lsbs(network, x):
    model = reconstruct(network, network.flat(4), x, QUICK)
    kernels = kernels_of(model)
    before = [(weight.variable.numpy(), weight.layer.bias.numpy()) for weight in kernels]
    learn_jointly(network.model, model, x, steps=1, rates=(0.125 / RATE(0.5), 0.0))
    for weight, (kernel, bias) in zip(kernels, before, strict=True):
        moved = np.abs(weight.variable.numpy() - kernel) / weight.quantizer.frozen_scale
        assert np.max(moved) == pytest.approx(0.125, rel=1e-3)
        np.testing.assert_allclose(weight.layer.bias, bias, atol=1e-5)


def test_layers_of_another_network_are_refused(network, x, tmp_path):
    np.savez(tmp_path / "0.npz", kernel=np.zeros((3, 3, 3, 9), np.float32))
    assert "'kernel' does not belong to layer 'first'" in refusal(
        reconstruct, network, network.flat(4), x, QUICK, 0, tmp_path
    )


def test_networks_of_several_inputs_and_shared_layers():
    one, two, shared = keras.Input((6,), name="one"), keras.Input((6,), name="two"), layers.Dense(5, name="shared")
    joined = layers.Concatenate()([layers.ReLU()(shared(one)), layers.ReLU()(shared(two))])
    network = fold(randomize(keras.Model([one, two], layers.Dense(3, name="last")(joined))))
    x = [noise(keras.Model(one, one), 64), noise(keras.Model(two, two), 64)]
    model = reconstruct(network, network.flat(4), x, dataclasses.replace(QUICK, joint_steps=20))
    outputs = [m.predict(x, verbose=0) for m in (network.model, model)]
    assert np.mean((outputs[1] - outputs[0]) ** 2) < 0.1 * np.var(outputs[0])
    assert "one array for each of its 2 inputs" in refusal(reconstruct, network, network.flat(4), x[0], QUICK)


@pytest.mark.slow
def test_cells_of_recurrent_layers_are_calibrated_and_what_follows_them_is_learned():
    model = keras.Sequential([keras.Input((5, 3)), layers.GRU(4, name="gru"), layers.Dense(3, name="last")])
    network = fold(randomize(model))
    x = noise(network.model, 64)
    quantized = reconstruct(network, network.flat(6), x, QUICK)
    outputs = [m.predict(x, verbose=0) for m in (network.model, quantized)]
    assert np.mean((outputs[1] - outputs[0]) ** 2) < 0.1 * np.var(outputs[0])
    assert all(weight.quantizer.frozen for weight in weight_quantizers(quantized))


def test_nothing_learned_is_rounding_to_the_nearest(network, x):
    config = network.flat(8)
    model = reconstruct(network, config, x, Reconstruction(steps=0))
    for weight in weight_quantizers(model):
        if weight.part == "kernel":
            source = kernel_of(network.graph.weighted[weight.layer.name]).numpy() / weight.quantizer.frozen_scale
            np.testing.assert_array_equal(
                weight.variable.numpy() / weight.quantizer.frozen_scale, np.clip(np.rint(source), -127, 127)
            )


def test_learned_rounding_begins_at_the_weights_and_has_the_gradient_of_its_equation():
    weights = np.array([[0.3, -1.26], [2.75, 100.0]], np.float32)
    rounding = LearnedRounding(weights, np.float32([[0.5, 1.0]]), 4)
    np.testing.assert_allclose(rounding(weights)[:, 0], [0.3, 2.75], atol=1e-6)
    assert rounding(weights)[1, 1] == 7.0
    with tf.GradientTape() as tape:
        y = rounding(weights)
    found = tape.gradient(y, rounding.variable).numpy()
    step, v = 1e-3, rounding.variable.numpy().astype(np.float64)

    def value(v):
        share = np.clip(1.2 / (1 + np.exp(-v)) - 0.1, 0, 1)
        return np.array([[0.5, 1.0]]) * np.clip(np.floor(weights / [[0.5, 1.0]]) + share, -7, 7)

    np.testing.assert_allclose(found, (value(v + step) - value(v - step)) / (2 * step), atol=1e-4)
    assert float(rounding.indecision(tf.constant(2.0))) > 0.0
    rounding.variable.assign(np.where(v > 0, 9.0, -9.0))
    assert float(rounding.indecision(tf.constant(2.0))) == 0.0


@pytest.mark.parametrize(
    ("name", "value"), [("steps", -1), ("samples", 0), ("rate", float("nan")), ("joint_steps", -1)]
)
def test_numbers_out_of_range_are_refused_by_name(name, value):
    assert f"{name} must be at least" in refusal(Reconstruction, **{name: value})


def test_a_scale_is_chosen_only_where_one_is_stored(network):
    quantizer = next(weight_quantizers(network.quantize(network.flat(4)))).quantizer
    assert quantizer.frozen_scale is None
    assert "must be frozen" in refusal(setattr, quantizer, "frozen_scale", np.float32([1.0]))
    model = network.quantize(network.flat(4))
    calibrate(model, noise(network.model, 8))
    freeze_scales(model)
    quantizer = next(weight_quantizers(model)).quantizer
    for scale in (quantizer.frozen_scale * 0.75, np.float32([1.0])):
        with pytest.raises(ValueError, match="Received"):
            quantizer.frozen_scale = scale
