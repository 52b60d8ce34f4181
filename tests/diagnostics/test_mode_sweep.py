"""The mode sweep changes one quantizer at a time, by what the quantizers themselves would do, and puts it back."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from networks import noise, outputs
from refusals import complaint

from po2quant.benchmark import Split
from po2quant.diagnostics.mode_sweep import mode_sweep
from po2quant.quantizers import quantized_bits_featuremap
from po2quant.transform import activation_quantizers, walk, weight_quantizers

LOSS = "mean_squared_error"
TOLERANCE = 1e-5
"""Relative: a loss is a mean of float32 numbers, summed in another order."""


@pytest.fixture(scope="module")
def network(quantized):
    return quantized("auto")


@pytest.fixture(scope="module")
def samples(network):
    rng = np.random.default_rng(5)
    return Split(noise(network, samples=20, seed=3), rng.random((20, 3)).astype("float32"))


@pytest.fixture(scope="module")
def from_real(network, samples):
    return mode_sweep(network, noise(network), samples, LOSS, "auto", batch_size=8)


def loss(model, samples):
    return float(np.mean(np.square(outputs(model, samples.x).astype(np.float64) - samples.y)))


def slots(model):
    weights = [f"{weight.layer.name}.{weight.part}" for weight in weight_quantizers(model)]
    return weights + [f"{name}.activation" for name, _ in activation_quantizers(model)]


def test_every_quantizer_has_a_row(network, from_real):
    assert [row.slot for row in from_real] == slots(network)
    assert {(row.others, row.bits) for row in from_real if not row.slot.endswith("bias")} == {("auto", 4)}
    assert any(row.output_error > 0 for row in from_real)


def test_the_cost_of_a_kernel_is_that_of_the_network_with_a_power_of_two_there(network, samples, from_real):
    before, base = loss(network, samples), outputs(network, samples.x)
    weight = next(weight for weight in weight_quantizers(network) if weight.layer.name == "depthwise")
    po2 = type(weight.quantizer).from_config(weight.quantizer.get_config() | {"alpha": "auto_po2"})
    weight.quantizer.freeze(weight.variable)
    weight.quantizer._frozen_scale.assign(po2.compute_scale(weight.variable))
    try:
        row = next(row for row in from_real if row.slot == "depthwise.kernel")
        assert row.loss_increase == pytest.approx(loss(network, samples) - before, abs=TOLERANCE * before)
        error = np.mean(np.square(outputs(network, samples.x) - base))
        assert row.output_error == pytest.approx(error, rel=1e-3)
        assert row.output_error > 0
    finally:
        weight.quantizer.unfreeze()


def test_the_cost_of_an_activation_is_that_of_its_power_of_two_range(network, samples, from_real):
    before = loss(network, samples)
    for node, inputs in walk(network, noise(network)):
        if node.layer.name == "activation_2":
            quantizer = node.layer.activation
            po2 = quantized_bits_featuremap.from_config(quantizer.get_config() | {"alpha": "auto_po2"})
            po2.calibrate(inputs[0])
    static_range = quantizer.range
    quantizer.set_range(*po2.range)
    try:
        assert quantizer.scale == po2.scale
        row = next(row for row in from_real if row.slot == "activation_2.activation")
        assert row.loss_increase == pytest.approx(loss(network, samples) - before, abs=TOLERANCE * before)
        assert row.output_error > 0
    finally:
        quantizer.set_range(*static_range)


def test_the_other_way_round_a_real_scale_stands_among_powers_of_two(network, samples, from_real):
    rows = mode_sweep(network, noise(network), samples, LOSS, "auto_po2", batch_size=20)
    assert [row.slot for row in rows] == slots(network)
    assert {row.others for row in rows} == {"auto_po2"}
    assert [row.output_error for row in rows] != [row.output_error for row in from_real]


def test_the_network_is_left_as_it_was(network, samples):
    before = outputs(network, samples.x)
    mode_sweep(network, noise(network), samples, LOSS)
    np.testing.assert_array_equal(outputs(network, samples.x), before)


def test_a_scale_that_is_a_power_of_two_already_costs_nothing(quantized, samples):
    model = quantized("auto")
    kernel = model.get_layer("dense").kernel
    kernel.assign(np.resize([7, -7, 7, 1, 2, 3], kernel.shape) / 16)
    (row,) = [row for row in mode_sweep(model, noise(model), samples, LOSS) if row.slot == "dense.kernel"]
    assert (row.loss_increase, row.output_error) == (0.0, 0.0)


def test_a_network_of_powers_of_two_is_refused(compiled, samples):
    model, _ = compiled("auto_po2")
    assert "alpha='auto'" in complaint(mode_sweep, model, noise(model), samples, LOSS)


def test_an_unknown_kind_of_scale_is_refused(network, samples):
    assert "auto, auto_po2" in complaint(mode_sweep, network, noise(network), samples, keras.losses.get(LOSS), "real")
