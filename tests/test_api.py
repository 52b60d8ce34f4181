"""The way from a Keras model to C in a few lines of Python."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
from refusals import complaint, refusal

import po2quant as pq
from po2quant.benchmark import Dataset, Split
from po2quant.files import read_csv
from po2quant.report.model import config_of
from po2quant.training.reconstruct import Reconstruction

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240).astype(np.int32)
    x = rng.normal(0, 0.3, (240, 8, 8, 1)).astype(np.float32)
    x[np.arange(240), y * 2 + 1] += 1.0
    return x, y


@pytest.fixture(scope="module")
def network(arrays):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, padding="same", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(3, name="dense"),
            keras.layers.Softmax(name="softmax"),
        ],
        name="small.net",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*arrays, epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def quantized(network, arrays):
    return pq.quantize(network, arrays[0], config="w4a8")


def accuracy(model, arrays):
    x, y = arrays
    return np.mean(np.argmax(model.predict(x, verbose=0), axis=-1) == y)


def test_a_network_is_folded_quantized_and_calibrated_in_one_call(network, quantized, arrays):
    config = config_of(quantized)
    assert {bits.kernel for bits in config.layers.values()} == {4, None}
    assert {bits.activation for bits in config.layers.values()} == {8, None}
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in quantized.layers)
    assert accuracy(quantized, arrays) > accuracy(network, arrays) - 0.1
    assert quantized.count_params() < network.count_params()


@needs_gcc
def test_from_keras_to_verified_c(network, arrays, tmp_path):
    model = pq.quantize(network, arrays[0], config="w4a8")
    history = pq.finetune(model, arrays, epochs=2)
    assert list(history["epoch"]) == [1, 2] and history["val_accuracy"].between(0, 1).all()
    files = pq.export(pq.freeze(model), tmp_path, "c")
    assert {path.suffix for path in files} == {".c", ".h"} and all(path.stem.startswith("small_net") for path in files)
    found = pq.verify(model, arrays[0][:20])
    assert found.mismatches == 0 and found.keras.samples == 20


def test_a_quantized_model_is_a_keras_model(network, arrays, tmp_path):
    model = pq.quantize(network, arrays[0])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    stopped = keras.callbacks.EarlyStopping("loss", patience=9)
    assert len(model.fit(*arrays, epochs=2, callbacks=[stopped], verbose=0).history["accuracy"]) == 2
    pq.freeze(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.predict(arrays[0], verbose=0), loaded.predict(arrays[0], verbose=0))


def test_finetuning_leaves_the_float_network_alone(network, arrays):
    before = [np.array(weight) for weight in network.get_weights()]
    pq.finetune(pq.quantize(network, arrays[0]), arrays, arrays, epochs=1)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_summary_has_bits_sizes_operations_and_scales(quantized, network):
    summary = pq.summary(quantized)
    rows = {row[0]: row for row in summary.rows}
    assert rows["dense"][3] == "4/31" and rows["dense"][-1] == "auto_po2"
    assert rows["total"][4] == str(quantized.count_params()) and int(rows["conv"][6]) == 8 * 8 * 9 * 4
    text = str(summary)
    assert "dense" in text and max(map(len, text.splitlines())) <= 80
    assert summary._repr_html_().count("<tr>") == len(rows) + 1 and "<caption>small.net" in summary._repr_html_()
    floats = {row[0]: row for row in pq.summary(network).rows}
    assert floats["dense"][3] == "32/32" and floats["dense"][-1] == "float"
    assert floats["total"][4:] == (rows["total"][4], floats["total"][5], rows["total"][6], "")


@pytest.mark.slow
def test_a_model_that_learned_how_to_round_is_frozen(network, arrays):
    model = pq.quantize(network, arrays[0][:32], reconstruct=Reconstruction(samples=32, steps=2))
    assert pq.integer_program(model).operations


@pytest.mark.slow
def test_a_search_keeps_to_a_target_and_to_limits(network, arrays, tmp_path):
    options = {"goal": "instructions:m4", "max_flash_kib": 64, "kernel_bits": (2, 4, 8, 16)}
    found = pq.search(network, arrays, max_trials=2, epochs=1, target="tinpu", folder=tmp_path, **options)
    layers = found.config.layers.values()
    assert {bits.kernel for bits in layers} <= {None, 2, 4, 8} and {bits.activation for bits in layers} <= {None, 8}
    assert {"instructions:m4", "flash"} <= set(read_csv(tmp_path / "front.csv")[0])


def test_a_search_refuses_a_target_of_one_width_and_unknown_goals(network, arrays, tmp_path):
    assert "differ in their widths" in complaint(pq.search, network, arrays, target="esp32-p4", folder=tmp_path)
    assert "a cost must be one of" in complaint(pq.search, network, arrays, goal="joy", folder=tmp_path)


@pytest.mark.slow
def test_a_search_returns_a_configuration_and_its_trials(network, arrays, tmp_path):
    found = pq.search(network, arrays, max_trials=2, epochs=1, folder=tmp_path / "run")
    assert len(found.trials) == 2 and set(found.trials["status"]) == {"completed"}
    model = pq.quantize(network, arrays[0], found.config)
    assert config_of(model).layers["dense"].kernel == found.config.layers["dense"].kernel
    assert (tmp_path / "run" / "run.log").exists()
    again = pq.search(network, arrays, max_trials=3, epochs=1, folder=tmp_path / "run")
    assert len(again.trials) == 3 and list(again.trials["score"][:2]) == list(found.trials["score"])
    assert pq.report(found.folder).read_text(encoding="utf-8").startswith("<!")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"config": "w4"}, "config must be"),
        ({"target": "moon"}, "target must be"),
        ({"alpha": "po3"}, "alpha"),
        ({"calibration": "median"}, "calibration must be"),
    ],
)
def test_a_wrong_argument_is_one_sentence(network, arrays, options, sentence):
    assert sentence in refusal(pq.quantize, network, arrays[0], **options)


def test_unknown_losses_and_formats_are_refused_before_any_work(quantized, arrays, tmp_path):
    assert "loss must be one of" in refusal(pq.finetune, quantized, arrays, loss="nll")
    test_only = Dataset("arrays", "own", Split(*arrays))
    assert "must be data to train on" in refusal(pq.finetune, quantized, test_only)
    assert "format must be one of" in refusal(pq.export, quantized, tmp_path / "out", "pdf")
    assert not (tmp_path / "out").exists()
