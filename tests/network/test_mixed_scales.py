"""Networks whose layers have scales of different kinds: each layer is the one that a network of its kind would have."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from networks import noise, outputs, randomize
from refusals import complaint

from po2quant.bit_config import BitConfig
from po2quant.deploy.from_keras import integer_program
from po2quant.network import (
    activation_quantizers,
    calibrate,
    flat_config,
    freeze_scales,
    quantize_model,
    set_bits,
    weight_quantizers,
)

AUTO, PO2 = "auto", "auto_po2"
REAL = ("activation_1", "depthwise", "dense")


@pytest.fixture(scope="module")
def float_model() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(),
            layers.Dense(3, name="dense"),
        ]
    )
    return randomize(model)


def mixed(config: BitConfig, real=REAL) -> BitConfig:
    return config.with_alphas({name: AUTO if name in real else PO2 for name in config.layers})


def calibrated(float_model: keras.Model, config: BitConfig, alpha: str = PO2) -> keras.Model:
    model = quantize_model(float_model, config, alpha)
    calibrate(model, noise(model))
    return model


def kinds(model: keras.Model) -> dict[str, set[str]]:
    found = {name: {quantizer.alpha} for name, quantizer in activation_quantizers(model)}
    for weight in weight_quantizers(model):
        found.setdefault(weight.layer.name, set()).add(weight.quantizer.alpha)
    return found


def test_each_layer_has_its_alpha_and_the_others_the_networks(float_model):
    config = flat_config(float_model, 4).with_alphas(dict.fromkeys(REAL, AUTO))
    expected = {name: {AUTO if name in REAL else PO2} for name in config.layers}
    assert kinds(quantize_model(float_model, config, PO2)) == expected
    assert set.union(*kinds(quantize_model(float_model, config, AUTO)).values()) == {AUTO}


@pytest.mark.parametrize("alpha", [AUTO, PO2])
def test_one_alpha_everywhere_is_the_network_of_that_alpha(float_model, alpha):
    config = flat_config(float_model, 4)
    everywhere = config.with_alphas(dict.fromkeys(config.layers, alpha))
    other = PO2 if alpha == AUTO else AUTO
    models = calibrated(float_model, everywhere, other), calibrated(float_model, config, alpha)
    np.testing.assert_array_equal(*(outputs(model, noise(model, seed=7)) for model in models))


def test_each_kernel_is_that_of_the_network_of_its_alpha(float_model):
    config = flat_config(float_model, 4)
    kernels = [
        {
            (weight.layer.name, weight.part): weight.quantizer(weight.variable).numpy()
            for weight in weight_quantizers(quantize_model(float_model, each, alpha))
        }
        for each, alpha in ((mixed(config), PO2), (config, AUTO), (config, PO2))
    ]
    assert any(np.any(kernels[1][key] != kernels[2][key]) for key in kernels[0])
    for (layer, part), values in kernels[0].items():
        np.testing.assert_array_equal(values, kernels[1 if layer in REAL else 2][layer, part])


def test_a_saved_mix_is_the_same_mix(float_model, tmp_path):
    model = calibrated(float_model, mixed(flat_config(float_model, 4)))
    freeze_scales(model)
    model.save(tmp_path / "mixed.keras")
    loaded = keras.models.load_model(tmp_path / "mixed.keras")
    assert kinds(loaded) == kinds(model)
    np.testing.assert_array_equal(outputs(loaded, noise(model)), outputs(model, noise(model)))


def test_widths_change_where_the_alphas_stay(float_model):
    narrow, wide = flat_config(float_model, 3), flat_config(float_model, 8)
    reused = quantize_model(float_model, mixed(wide), PO2)
    for config in (narrow, mixed(narrow)):
        set_bits(reused, config)
        calibrate(reused, noise(reused))
        fresh = calibrated(float_model, mixed(narrow))
        np.testing.assert_array_equal(outputs(reused, noise(reused)), outputs(fresh, noise(fresh)))


@pytest.mark.parametrize("layer", ["conv", "activation_1"])
def test_another_alpha_needs_another_network(float_model, layer):
    config = flat_config(float_model, 4)
    model = quantize_model(float_model, config, PO2)
    before = [weight.quantizer.bits for weight in weight_quantizers(model)]
    message = complaint(set_bits, model, flat_config(float_model, 8).with_alphas({layer: AUTO}))
    assert f"alpha='auto_po2' of layer '{layer}'" in message and message.endswith("alpha='auto'")
    assert [weight.quantizer.bits for weight in weight_quantizers(model)] == before


@pytest.mark.parametrize("layer", ["depthwise", "activation", "activation_1"])
def test_no_integer_program_of_a_network_with_a_real_scale(float_model, layer):
    model = calibrated(float_model, mixed(flat_config(float_model, 8), real=(layer,)))
    freeze_scales(model)
    message = complaint(integer_program, model)
    assert layer in message and "alpha='auto_po2'" in message and message.endswith("alpha='auto'")
