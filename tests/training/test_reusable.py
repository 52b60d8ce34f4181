"""One compiled network serves many configurations, each to the bit as a network of its own; learned scales deploy."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from networks import noise, randomize

from po2quant.benchmark import Recipe, Split
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.reference import compare
from po2quant.network import calibrate, flat_config, freeze_scales, quantize_model, weight_quantizers
from po2quant.training.fit import compile_model, train_epoch
from po2quant.training.pipeline import Pipeline
from po2quant.training.reusable import ReusableNetwork
from po2quant.training.schedules import constant, rising_cosine

RECIPE = Recipe("mse", 2, 2, 8, constant(0.003), damping=0.1)


def float_network():
    layers = [
        keras.Input((6, 6, 2), name="input"),
        keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
        keras.layers.DepthwiseConv2D(3, activation="relu", name="depthwise"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(3, name="dense"),
    ]
    return randomize(keras.Sequential(layers))


def quantized(bits, alpha):
    model = float_network()
    return quantize_model(model, flat_config(model, bits), alpha)


def data():
    return Split(noise(float_network(), 64), np.random.default_rng(2).normal(size=(64, 3)).astype("float32"))


def train(model, recipe=RECIPE):
    train_split = Pipeline(data())
    for epoch in range(recipe.epochs):
        train_epoch(model, train_split, recipe, epoch, seed=0)


def state(model):
    return [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "exponent_interval"), [("auto_po2", 1), ("auto_po2", 3), ("learned_po2", 1)])
def test_a_trial_equals_a_freshly_built_network_to_the_bit(alpha, exponent_interval):
    x, recipe = data().x, dataclasses.replace(RECIPE, exponent_interval=exponent_interval)
    shared = ReusableNetwork(quantized(8, alpha), recipe)
    for bits in (4, 8, 4):
        shared.reset(flat_config(float_network(), bits), x)
        fresh = quantized(bits, alpha)
        calibrate(fresh, x)
        compile_model(fresh, recipe)
        for name in ("before", "after"):
            if name == "after":
                train(shared.model, recipe)
                train(fresh, recipe)
            for got, expected in zip(state(shared.model), state(fresh), strict=True):
                np.testing.assert_array_equal(got, expected, err_msg=f"{bits} bits, {name} training")


@pytest.mark.slow
def test_damping_rises_for_kernels_of_4_bits_alone():
    for bits, expected in ((4, [0.1 * rising_cosine(0.25), 0.1 * rising_cosine(0.75)]), (5, [0.0, 0.0])):
        model, dampings = quantized(bits, "learned_po2"), []
        calibrate(model, data().x)
        compile_model(model, RECIPE)
        for epoch in range(RECIPE.epochs):
            train_epoch(model, Pipeline(data()), RECIPE, epoch, seed=0)
            kernel, bias = (
                {weight.quantizer.damping for weight in weight_quantizers(model) if weight.part == part}
                for part in ("kernel", "bias")
            )
            dampings.append(kernel)
            assert bias == {0.0}
        assert all(len(values) == 1 for values in dampings)
        assert [min(values) for values in dampings] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_the_integer_program_of_a_trained_network_with_learned_scales_equals_keras(bits):
    x, model = data().x, quantized(bits, "learned_po2")
    calibrate(model, x)
    compile_model(model, RECIPE)
    start = model.predict(x, verbose=0)
    train(model)
    trained = model.predict(x, verbose=0)
    assert np.any(trained != start)
    freeze_scales(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), trained)
    result = compare(integer_program(model), model, 3 * x)
    assert result.mismatches == 0 and result.integers > 1000
