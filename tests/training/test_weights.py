"""Weight files: every known form loads, everything else ends in one sentence."""

import h5py
import keras
import numpy as np
import pytest
from refusals import refusal

from po2quant.network import flat_config, quantize_model
from po2quant.runs.names import BEST_WEIGHTS
from po2quant.training.weights import is_quantized_checkpoint, load_weights


def network(units=3, seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((4,), name="input"), keras.layers.Dense(units, name="dense")]
    return keras.Sequential([*layers, keras.layers.BatchNormalization(name="norm")], name="small")


def write_keras2(path, model, under="model_weights"):
    """Write the layout of Keras 2's HDF5 files."""
    with h5py.File(path, "w") as file:
        root = file.create_group(under) if under else file
        root.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = root.create_group(layer.name)
            group.attrs["weight_names"] = [f"{layer.name}/{weight.name}:0".encode() for weight in layer.weights]
            for weight in layer.weights:
                group[f"{layer.name}/{weight.name}:0"] = weight.numpy()


@pytest.mark.parametrize("under", ["model_weights", None])
def test_keras2_files_load_by_layer_name(tmp_path, under):
    source, target = network(seed=1), network(seed=2)
    write_keras2(tmp_path / "old.h5", source, under)
    load_weights(target, tmp_path / "old.h5")
    np.testing.assert_equal(target.get_weights(), source.get_weights())


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_keras3_files_load(tmp_path, name):
    source, target = network(seed=1), network(seed=2)
    (source.save if name.endswith(".keras") else source.save_weights)(tmp_path / name)
    load_weights(target, tmp_path / name)
    np.testing.assert_equal(target.get_weights(), source.get_weights())


def test_a_run_folder_stands_for_its_best_weights(tmp_path):
    source, target = network(seed=1), network(seed=2)
    source.save_weights(tmp_path / BEST_WEIGHTS)
    load_weights(target, tmp_path)
    np.testing.assert_equal(target.get_weights(), source.get_weights())


def test_quantized_checkpoints_are_told_from_float_weights(tmp_path):
    model = network()
    model.save_weights(tmp_path / "float.weights.h5")
    quantized = quantize_model(model, flat_config(model, 8))
    quantized.save_weights(tmp_path / "quantized.weights.h5")
    quantized.save(tmp_path / "quantized.keras")
    assert not is_quantized_checkpoint(tmp_path / "float.weights.h5")
    assert is_quantized_checkpoint(tmp_path / "quantized.weights.h5")
    assert is_quantized_checkpoint(tmp_path / "quantized.keras")


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.h5", b"hello"), ("empty.h5", b""), ("broken.keras", b"PK\x03\x04" + b"\0" * 40)],
)
def test_other_files_are_refused_in_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    message = refusal(load_weights, network(), tmp_path / name)
    assert "--weights must be" in message and name in message


def test_a_truncated_file_is_refused(tmp_path):
    network().save_weights(tmp_path / "a.weights.h5")
    data = (tmp_path / "a.weights.h5").read_bytes()
    (tmp_path / "a.weights.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_weights(network(), tmp_path / "a.weights.h5")


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    for path in (tmp_path / "nowhere.h5", tmp_path):
        with pytest.raises(ValueError, match="There is no file"):
            load_weights(network(), path)


@pytest.mark.parametrize("name", ["a.weights.h5", "old.h5"])
def test_weights_of_another_network_change_nothing(tmp_path, name):
    source, target = network(units=5), network()
    if name == "old.h5":
        write_keras2(tmp_path / name, source)
    else:
        source.save_weights(tmp_path / name)
    before = target.get_weights()
    with pytest.raises(ValueError, match=r"does not fit model 'small'"):
        load_weights(target, tmp_path / name)
    np.testing.assert_equal(target.get_weights(), before)


def test_nan_weights_are_named(tmp_path):
    source = network()
    source.get_layer("dense").bias.assign([0.0, np.nan, 1.0])
    source.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=r"NaN or infinity in .*bias"):
        load_weights(network(), tmp_path / "a.weights.h5")
