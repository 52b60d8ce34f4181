"""The probe sees what the network computes: the same weights, activations and scales, to the bit."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from networks import noise
from refusals import complaint

from po2quant.bit_config import BitConfig
from po2quant.diagnostics import probe as probe_module
from po2quant.diagnostics.measurement import ACTIVATION
from po2quant.diagnostics.probe import Probe
from po2quant.network import (
    activation_quantizers,
    flat_config,
    fold_batch_norm,
    freeze_scales,
    quantize_model,
    set_bits,
    weight_quantizers,
)


def weights_of(tensors):
    return [tensor for tensor in tensors if tensor.part != ACTIVATION]


def activations_of(tensors):
    return [tensor for tensor in tensors if tensor.part == ACTIVATION]


def assert_sees_the_weights(model, tensors):
    for weight, tensor in zip(weight_quantizers(model), weights_of(tensors), strict=True):
        assert (tensor.layer, tensor.part, tensor.bits) == (weight.layer.name, weight.part, weight.quantizer.bits)
        np.testing.assert_array_equal(tensor.values, weight.variable)
        np.testing.assert_array_equal(tensor.quantized, weight.quantizer(weight.variable))


def assert_sees_the_activations(model, tensors, x):
    names = [name for name, _ in activation_quantizers(model)]
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])(x, training=False)
    for name, expected, tensor in zip(names, outputs, activations_of(tensors), strict=True):
        assert tensor.layer == name
        np.testing.assert_array_equal(tensor.quantized, expected)
        assert np.max(np.abs(tensor.integers)) <= max(abs(tensor.low), tensor.high)
        np.testing.assert_array_equal(tensor.integers.astype(np.float32) * tensor.scale, tensor.quantized)


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_the_tensors_are_those_of_the_network(quantized, alpha):
    model = quantized(alpha)
    x = noise(model, samples=5)
    tensors = Probe(model, x)()
    assert_sees_the_weights(model, tensors)
    assert_sees_the_activations(model, tensors, x)
    assert all(tensor.is_power_of_two == (alpha == "auto_po2") for tensor in tensors)


def test_a_probe_follows_new_weights_widths_and_frozen_scales(quantized):
    model = quantized()
    x = noise(model, samples=5)
    probe = Probe(model, x)
    probe()
    freeze_scales(model)
    kernel = model.get_layer("conv").kernel
    kernel.assign(kernel * 1.7)
    tensors = probe()
    assert_sees_the_weights(model, tensors)
    assert tensors[0].scale.tolist() == next(weight_quantizers(model)).quantizer.get_config()["frozen_scale"]
    assert np.any(np.abs(tensors[0].values) > tensors[0].high * tensors[0].scale)
    weights = dict.fromkeys(weight.layer.name for weight in weight_quantizers(model))
    set_bits(model, BitConfig.flat(list(weights), [name for name, _ in activation_quantizers(model)], 8))
    tensors = probe()
    assert {tensor.bits for tensor in tensors if tensor.part != "bias"} == {8}
    assert_sees_the_weights(model, tensors)
    assert_sees_the_activations(model, tensors, x)


def test_exact_values_are_those_of_the_folded_float_network(float_network, compiled):
    model, probe = compiled()
    x = noise(model, probe.samples)
    folded = fold_batch_norm(float_network)
    after = {tensor.after: tensor for tensor in activations_of(probe())}
    for name in ("conv_function", "relu", "depthwise", "add", "pool", "dense"):
        if name in after:
            expected = keras.Model(folded.input, folded.get_layer(name).output)(x, training=False)
            np.testing.assert_allclose(after[name].exact, expected, rtol=1e-4, atol=1e-5)
    assert {"input", "relu", "add", "pool", "dense"} <= set(after)


@pytest.mark.parametrize("activation_scale", ["static", "per_sample"])
def test_without_a_static_range_there_is_no_scale(float_network, activation_scale):
    model = quantize_model(float_network, flat_config(float_network, 4), activation_scale=activation_scale)
    assert {tensor.scale for tensor in activations_of(Probe(model, noise(model))())} == {None}


def test_large_activations_are_measured_on_fewer_samples(compiled, monkeypatch):
    model, _ = compiled()
    x = noise(model, samples=50)
    assert Probe(model, x).samples == probe_module.SAMPLES
    assert Probe(model, x[:3]).samples == 3
    values_per_sample = sum(np.prod(model.get_layer(name).output.shape[1:]) for name, _ in activation_quantizers(model))
    for most, samples in ((7 * values_per_sample, 7), (1, probe_module.FEWEST_SAMPLES)):
        monkeypatch.setattr(probe_module, "MOST_VALUES", int(most))
        assert Probe(model, x).samples == samples


def test_every_model_input_needs_an_array(compiled):
    model, _ = compiled()
    assert "each of its 1 inputs" in complaint(Probe, model, [noise(model)] * 2)


def test_a_float_network_has_nothing_to_probe(float_network):
    assert "conv, depthwise, dense" in complaint(Probe, float_network, noise(float_network))
