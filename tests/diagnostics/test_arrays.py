"""Weight files are read as Keras writes them, and refused in one sentence where they are not."""

from __future__ import annotations

import zipfile

import h5py
import keras
import numpy as np
import pytest
from networks import noise
from refusals import refusal

from po2quant.diagnostics.arrays import summarize
from po2quant.diagnostics.measurement import measure
from po2quant.diagnostics.probe import Probe
from po2quant.network import freeze_scales
from po2quant.weight_files import read_weight_file


def summaries(path):
    return {(array.layer, array.array): array for array in summarize(read_weight_file(path)).arrays}


@pytest.fixture
def weights_file(float_network, tmp_path):
    path = tmp_path / "net.weights.h5"
    float_network.save_weights(path)
    return path


@pytest.mark.parametrize("name", ["net.weights.h5", "net.keras"])
def test_every_array_of_a_float_network_is_summed_up(float_network, tmp_path, name):
    path = tmp_path / name
    (float_network.save if name.endswith(".keras") else float_network.save_weights)(path)
    found = summaries(path)
    for layer, kernel in (("conv", "kernel"), ("depthwise", "kernel"), ("dense", "kernel")):
        values = float_network.get_layer(layer).get_weights()[0]
        array = found[layer, kernel]
        assert (array.shape, array.minimum, array.maximum) == (values.shape, values.min(), values.max())
        assert array.mean_abs == pytest.approx(np.mean(np.abs(values, dtype=np.float64)))
        assert array.levels == len(set(values.ravel().tolist()))
    assert {array for layer, array in found if layer == "norm"} == {"0", "1", "2", "3"}
    assert len(found) == len(float_network.weights)


def test_zeros_levels_and_values_that_are_no_numbers(float_network, tmp_path):
    model = keras.models.clone_model(float_network)
    kernel = np.repeat([0.0, 0.0, 0.5, -1.0], model.get_layer("dense").kernel.shape[0] * 3)[: 4 * 3].reshape(4, 3)
    model.get_layer("dense").kernel.assign(kernel)
    bias = model.get_layer("dense").bias
    bias.assign([np.nan, np.inf, 2.0])
    model.save_weights(tmp_path / "net.weights.h5")
    found = summaries(tmp_path / "net.weights.h5")
    assert (found["dense", "kernel"].zero_ratio, found["dense", "kernel"].levels) == (np.mean(kernel == 0), 1)
    assert (found["dense", "bias"].is_finite, found["dense", "bias"].maximum) == (False, 2.0)
    assert found["dense", "kernel"].is_finite


def test_an_archive_tells_the_order_of_its_layers(float_network, tmp_path):
    float_network.save(tmp_path / "net.keras")
    layers = dict.fromkeys(array.layer for array in summarize(read_weight_file(tmp_path / "net.keras")).arrays)
    assert list(layers) == ["conv", "norm", "depthwise", "dense"]


def test_a_bare_file_takes_the_order_that_is_given(weights_file):
    order = ["dense", "depthwise", "norm", "conv"]
    assert (
        list(dict.fromkeys(array.layer for array in summarize(read_weight_file(weights_file), order).arrays)) == order
    )


def test_frozen_weights_are_those_that_the_network_computes(quantized, tmp_path):
    model = quantized()
    freeze_scales(model)
    model.save_weights(tmp_path / "net.weights.h5")
    expected = {(tensor.layer, tensor.part): tensor for tensor in Probe(model, noise(model))() if tensor.exact is None}
    tensors = summarize(read_weight_file(tmp_path / "net.weights.h5")).tensors
    assert {(tensor.layer, tensor.part) for tensor in tensors} == set(expected)
    for tensor in tensors:
        np.testing.assert_array_equal(tensor.quantized, expected[tensor.layer, tensor.part].quantized)
        assert measure(0, tensor) == measure(0, expected[tensor.layer, tensor.part])


def test_frozen_scales_without_their_width_are_refused_by_place(quantized, tmp_path):
    model, path = quantized(), tmp_path / "net.weights.h5"
    freeze_scales(model)
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        widths = []
        file.visit(
            lambda name: widths.append(name) if name.endswith("kernel_quantizer_internal/vars/bit_width") else None
        )
        del file[widths[0]]
    message = refusal(summarize, read_weight_file(path))
    assert "bit_width" in message and widths[0].removesuffix("/vars/bit_width") in message and str(path) in message


def test_scales_that_are_not_frozen_are_not_taken_for_real(quantized, tmp_path):
    quantized().save_weights(tmp_path / "net.weights.h5")
    content = summarize(read_weight_file(tmp_path / "net.weights.h5"))
    assert content.tensors == () and content.arrays


def test_the_reference_networks_of_keras_2(shared):
    path = shared("pretrained/kws_ds_cnn.h5")
    with h5py.File(path) as file:
        kernel = file["model_weights/depthwise_conv2d_3/depthwise_conv2d_3/depthwise_kernel:0"][()]
    array = summaries(path)["depthwise_conv2d_3", "kernel"]
    assert (array.shape, array.minimum, array.maximum) == (kernel.shape, kernel.min(), kernel.max())
    assert {name for _, name in summaries(path)} == {
        "kernel",
        "bias",
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
    }


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("name", ["net.weights.h5", "net.keras"])
def test_a_truncated_file_is_refused(float_network, tmp_path, name, share):
    path = tmp_path / name
    (float_network.save if name.endswith(".keras") else float_network.save_weights)(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert str(path) in refusal(read_weight_file, path)


def test_other_files_are_refused(tmp_path):
    assert "There is no file" in refusal(read_weight_file, tmp_path / "absent.h5")
    text = tmp_path / "text.h5"
    text.write_text("weights")
    assert "damaged or something else" in refusal(read_weight_file, text)
    with zipfile.ZipFile(tmp_path / "archive.keras", "w") as archive:
        archive.writestr("config.json", "[]")
    assert "damaged or something else" in refusal(read_weight_file, tmp_path / "archive.keras")


def test_an_array_that_claims_a_size_without_data_is_refused(tmp_path):
    path = tmp_path / "bomb.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (1_000_000, 1_000_000), "f4")
    assert "has no data" in refusal(read_weight_file, path)


def test_damaged_bytes_never_end_in_another_error(weights_file):
    data = bytearray(weights_file.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[position : position + 8] = rng.bytes(8)
        weights_file.write_bytes(damaged)
        try:
            read_weight_file(weights_file)
        except ValueError as error:
            assert str(weights_file) in str(error)
