"""From names and files to networks: every wrong name gets a sentence."""

import dataclasses

import keras
import numpy as np
import pytest
from refusals import refusal

from po2quant.benchmark import Dataset, Split
from po2quant.network import activation_quantizers, freeze_scales, weight_quantizers
from po2quant.training.prepare import (
    calibration_inputs,
    evaluate,
    load_float_network,
    prepare_network,
    resolve_config,
    seed_masks,
)
from po2quant.uniform import CONFIG_HELP


@pytest.fixture
def spec(digits):
    return digits.network()[1]


def of_width(name, spec):
    return resolve_config(name, spec).with_alpha("auto_po2")


def test_flat_configurations_have_one_width_and_31_bit_biases(spec):
    config = resolve_config("flat6", spec)
    names = {layer.name for layer in spec.fold().layers if layer.kind in ("weights", "activation")}
    assert set(config.layers) == names
    assert {bits.kernel or bits.activation for bits in config.layers.values()} == {6}
    assert {bits.bias for bits in config.layers.values()} == {31, None}


@pytest.mark.parametrize(
    ("name", "kernel", "activation", "io"), [("w4a4", 4, 4, 8), ("w2a8", 2, 8, 8), ("w8a3-io16", 8, 3, 16)]
)
def test_weights_and_activations_have_widths_of_their_own_and_the_ends_too(spec, name, kernel, activation, io):
    network = spec.fold()
    config = resolve_config(name, spec, network)
    first, *inner, last = (placed.slot.name for placed in network.slots)
    assert network.io_slots == {first, last}
    assert [config.activation_bits(slot) for slot in (first, last)] == [io, io]
    assert {config.activation_bits(slot) for slot in inner} == {activation}
    assert {config.kernel_bits(layer) for layer in network.graph.weighted} == {kernel}
    assert {config.bias_bits(layer) for layer in network.graph.weighted} == {31}
    assert config.name == name


def test_masks_depend_on_the_seed_and_the_place_of_a_layer_alone():
    def masks(seed, layers_before):
        for _ in range(layers_before):
            keras.layers.Dropout(0.5)
        drop = keras.layers.Dropout
        model = keras.Sequential([keras.Input((64,)), drop(0.5), keras.layers.ReLU(), drop(0.5)])
        seed_masks(model, seed)
        return np.asarray(model(np.ones((2, 64), np.float32), training=True))

    np.testing.assert_array_equal(masks(1, 0), masks(1, 5))
    assert np.any(masks(1, 0) != masks(2, 0))
    first, second = masks(1, 0) > 0
    assert np.any(first != second)


def test_float_has_no_configuration(spec):
    assert resolve_config("float", spec) is None


@pytest.mark.parametrize(
    "name",
    [
        "flat3",
        "flat17",
        "flat",
        "flat8x",
        "flat08",
        "flat\uff18",
        "flat8\n",
        "w1a8",
        "w4a17",
        "w4a4-io1",
        "w04a4",
        "w4a4-io",
        "W4A4",
        "int8",
        "nowhere.json",
        "",
    ],
)
def test_unknown_configurations_are_named_with_the_valid_ones(spec, name):
    with pytest.raises(ValueError, match=f"config must be {CONFIG_HELP}") as error:
        resolve_config(name, spec)
    assert repr(name) in str(error.value)


def test_a_name_that_no_file_can_have_is_cut(spec):
    assert len(refusal(resolve_config, "flat" + "8" * 5000, spec)) < 400


def test_a_network_without_mpq_says_what_to_do(spec):
    with pytest.raises(ValueError, match="no mpq configuration yet"):
        resolve_config("mpq", dataclasses.replace(spec, mpq_config=None))


def test_calibration_draws_on_training_data_and_says_where_there_are_none(spec, digits_data):
    model = spec.build()
    x, source = calibration_inputs(digits_data, model, seed=0)
    assert (source, x.shape) == ("train", (256, 8, 8, 1))
    test_only = Dataset("digits", "subset", digits_data.test)
    x, source = calibration_inputs(test_only, model, seed=0)
    assert source == "test inputs"
    assert all(any(np.array_equal(row, sample) for sample in digits_data.test.x) for row in x[:5])


@pytest.mark.slow
def test_a_trained_checkpoint_brings_its_calibration_along(digits, spec, digits_data, digits_weights, tmp_path):
    config = of_width("flat8", spec)
    fresh = prepare_network(spec.fold(), config, digits_weights, digits_data)
    fresh.model.save_weights(tmp_path / "q.weights.h5")
    test_only = Dataset("digits", "subset", digits_data.test)
    loaded = prepare_network(spec.fold(), config, tmp_path / "q.weights.h5", test_only)
    assert (fresh.calibration, loaded.calibration) == ("train", "weights file")
    ranges = [[quantizer.range for _, quantizer in activation_quantizers(each.model)] for each in (fresh, loaded)]
    assert ranges[0] == ranges[1]
    assert evaluate(digits, loaded.model, digits_data.test) == evaluate(digits, fresh.model, digits_data.test)


def test_a_checkpoint_of_other_widths_is_refused(spec, digits_data, digits_weights, tmp_path):
    prepared = prepare_network(spec.fold(), of_width("flat8", spec), digits_weights, digits_data)
    prepared.model.save_weights(tmp_path / "q.weights.h5")
    with pytest.raises(ValueError, match="kernel of conv2d has 8 bits, not 4"):
        prepare_network(spec.fold(), of_width("flat4", spec), tmp_path / "q.weights.h5", digits_data)
    with pytest.raises(ValueError, match="holds a quantized network"):
        prepare_network(spec.fold(), None, tmp_path / "q.weights.h5", digits_data)


@pytest.mark.parametrize("factor", [1.0 + 2.0**-23, 1.5])
def test_a_scale_that_is_no_power_of_two_is_refused_by_tensor_and_value(
    spec, digits_data, digits_weights, tmp_path, factor
):
    config, path = of_width("flat8", spec), tmp_path / "q.weights.h5"
    model = prepare_network(spec.fold(), config, digits_weights, digits_data).model
    freeze_scales(model)
    kernel = next(weight for weight in weight_quantizers(model) if weight.part == "kernel")
    scales = kernel.quantizer._frozen_scale.numpy()
    scales[..., 0] *= np.float32(factor)
    kernel.quantizer._frozen_scale.assign(scales)
    model.save_weights(path)
    message = refusal(prepare_network, spec.fold(), config, path, digits_data)
    assert f"kernel of {kernel.layer.name}" in message and f"{scales.flat[0]:.9g}" in message


def test_data_of_another_shape_are_refused(spec, digits_weights):
    other = Dataset("photos", "subset", Split(np.zeros((2, 32, 32, 3), "float32"), np.zeros(2, "int32")))
    with pytest.raises(ValueError, match=r"photos does not fit .* shape \(8, 8, 1\). Received: \(32, 32, 3\)"):
        prepare_network(spec.fold(), None, digits_weights, other)


def test_16_bit_digits_predict_as_float_ones(spec, digits_data, digits_weights):
    model = load_float_network(spec.fold(), digits_weights).model
    prepared = prepare_network(spec.fold(), of_width("flat16", spec), digits_weights, digits_data)
    expected, got = (np.argmax(each.predict(digits_data.test.x, verbose=0), 1) for each in (model, prepared.model))
    assert np.mean(expected == got) > 0.99
    assert {weight.quantizer.bits for weight in weight_quantizers(prepared.model)} == {16, 31}


def test_a_configuration_that_leaves_scales_open_is_refused(spec, digits_data, digits_weights):
    message = refusal(prepare_network, spec.fold(), resolve_config("flat8", spec), digits_weights, digits_data)
    assert "'flat8' must have an alpha for every layer: use with_alpha" in message
