"""A task of files: what is refused before TensorFlow would be needed, and what comes out."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from refusals import refusal

from po2quant.benchmark import PUBLISHED
from po2quant.network import calibrate, flat_config, quantize_model
from po2quant.own_task import SMALL, settled, task_of_files
from po2quant.runs.request import NetworkRequest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return files of a float network of one layer, and what is none."""
    folder = tmp_path_factory.mktemp("networks")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation="softmax", name="dense")])
    model.save(folder / "net.keras")
    model.save_weights(folder / "net.weights.h5")
    (folder / "net.json").write_text(model.to_json())
    quantized = quantize_model(model, flat_config(model, 8))
    calibrate(quantized, np.ones((4, 3), np.float32))
    quantized.save(folder / "quantized.keras")
    x = np.random.default_rng(0).uniform(size=(20, 3)).astype(np.float32)
    np.savez(folder / "data.npz", x_train=x, y_train=np.arange(20) % 2)
    return folder


def request(folder: Path, name: str = "net.keras", **values) -> NetworkRequest:
    return NetworkRequest(network=folder / name, config="flat8", **values)


def task(asked: NetworkRequest):
    return task_of_files(asked.network, asked, asked.weights)


REFUSED = {
    "absent": ("nowhere.keras", {}, "There is no file"),
    "weights alone": ("net.weights.h5", {}, "holds weights alone: it must have the architecture too"),
    "architecture alone": ("net.json", {}, "is an architecture alone: weights must name its weights"),
    "quantized": ("quantized.keras", {}, "network must be a float network"),
    "data": ("data.npz", {}, "cannot be read"),
    "loss": ("net.keras", {"loss": "mse"}, "loss must be one of sparse_categorical_crossentropy"),
    "metric": ("net.keras", {"metric": "auc"}, "metric must be one of accuracy, binary_accuracy, r2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_float_network_is_refused(folder, case):
    name, values, reason = REFUSED[case]
    assert reason in refusal(task, request(folder, name, **values))


def test_a_task_is_settled_by_its_data(folder):
    asked = request(folder, data_dir=folder / "data.npz", learning_rate=0.01, batch_size=4)
    found = settled(task(asked), asked)
    model, spec = found.task.network()
    assert (model, spec.placement.signed_input, found.request.signed_input) == ("net", False, False)
    recipe = found.task.recipe_of(model, SMALL)
    assert recipe == found.task.recipe_of(model, PUBLISHED)
    assert (recipe.learning_rate(0), recipe.batch_size, recipe.float_epochs) == (0.01, 4, 0)
    assert settled(found.task, found.request).reason == ""


def test_without_data_a_task_stays_open_and_its_network_has_the_weights_of_the_file(folder):
    asked = request(folder)
    found = settled(task(asked), asked)
    assert found.request.left_open() == {"loss", "metric", "signed_input"}
    stored = keras.models.load_model(folder / "net.keras").get_weights()
    for values, expected in zip(found.task.network()[1].new_network().get_weights(), stored, strict=True):
        np.testing.assert_array_equal(values, expected)
    assert "needs data" in refusal(found.task.load_data, None, 0)


def test_an_architecture_gets_its_weights_from_another_file(folder):
    asked = request(folder, "net.json", weights=folder / "net.weights.h5")
    network = task(asked).network()[1].new_network()
    stored = keras.models.load_model(folder / "net.keras").get_weights()
    np.testing.assert_array_equal(network.get_weights()[0], stored[0])


def test_a_network_of_several_inputs_is_refused(tmp_path):
    inputs = [keras.Input((3,)), keras.Input((3,))]
    keras.Model(inputs, layers.Dense(2)(layers.Add()(inputs))).save(tmp_path / "two.keras")
    asked = request(tmp_path, "two.keras", data_dir=tmp_path / "two.keras")
    assert "must have one input and one output" in refusal(task(asked).load_data, asked.data_dir, 0)
