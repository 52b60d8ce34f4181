"""Models from files of Keras 3 and Keras 2; nothing that a file names is imported or run."""

import json
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers
from keras2_files import FLOAT16, functional, layer, sequential, write_keras2
from refusals import refusal

from po2quant.network import calibrate, flat_config, freeze_scales, quantize_model
from po2quant.network.architecture import checked_architecture
from po2quant.network.load import load_model

ADDED = {"kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}}, "kernel_regularizer": None}
IMAGE = (6, 6, 3)
START = layer("InputLayer", "input", batch_input_shape=[None, 2])


def with_random_weights(model, seed=0):
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def assert_equal_outputs(model, expected):
    x = np.random.default_rng(1).normal(size=(3, *expected.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(model.predict_on_batch(x), expected.predict_on_batch(x))


def image_network():
    """Return a Keras 3 model, and what Keras 2 calls its layers."""
    x = keras.Input(IMAGE, name="input")
    y = layers.Conv2D(4, 3, use_bias=False, name="block_conv_1")(x)
    y = layers.BatchNormalization(name="block_norm")(y)
    y = layers.LeakyReLU(0.2, name="leaky")(y)
    y = layers.DepthwiseConv2D(3, name="depthwise")(y)
    y = layers.ReLU(6.0, name="relu")(y)
    y = layers.Flatten(name="block_conv")(y)
    y = layers.Dense(2, activation="softmax", name="dense")(y)
    return with_random_weights(keras.Model(x, y)), {"block_conv_1": "block/conv", "block_norm": "block/norm"}


def image_description():
    return functional(
        [
            layer("InputLayer", "input", batch_input_shape=[None, *IMAGE], sparse=False, ragged=False),
            layer("Conv2D", "block/conv", "input", filters=4, kernel_size=[3, 3], groups=1, use_bias=False, **ADDED),
            layer("BatchNormalization", "block/norm", "block/conv", axis=[3], renorm=False, fused=None),
            layer("LeakyReLU", "leaky", "block/norm", alpha={"type": "ndarray", "value": 0.2}),
            layer("DepthwiseConv2D", "depthwise", "leaky", kernel_size=[3, 3], groups=1, **ADDED),
            layer("ReLU", "relu", "depthwise", max_value=6.0),
            layer("Flatten", "block_conv", "relu", data_format="channels_last"),
            layer("Dense", "dense", "block_conv", units=2, activation="softmax", dtype=FLOAT16),
        ]
    )


def test_an_h5_file_of_keras_2_loads_with_the_same_outputs(tmp_path):
    expected, names = image_network()
    write_keras2(tmp_path / "old.h5", expected, description=image_description(), names=names)
    model = load_model(tmp_path / "old.h5")
    assert [layer.name for layer in model.layers] == [layer.name for layer in expected.layers]
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert_equal_outputs(model, expected)


def test_an_architecture_in_json_loads_with_weights_of_keras_2(tmp_path):
    expected, names = image_network()
    write_keras2(tmp_path / "old_weights.h5", expected, None, names=names)
    (tmp_path / "old.json").write_text(json.dumps(image_description()))
    assert_equal_outputs(load_model(tmp_path / "old.json", tmp_path / "old_weights.h5"), expected)
    assert "weights must name" in refusal(load_model, tmp_path / "old.json")
    assert "holds weights alone" in refusal(load_model, tmp_path / "old_weights.h5")


def test_a_keras_file_of_tensorflow_2_15_loads_with_the_same_outputs(tmp_path):
    expected, _ = image_network()
    expected.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            old.writestr(name, json.dumps(image_description()) if name == "config.json" else new.read(name))
    assert_equal_outputs(load_model(tmp_path / "old.keras"), expected)


@pytest.mark.parametrize("is_sequential", [True, False])
def test_a_model_inside_a_model_of_keras_2_has_trainable_weights_first_and_calls_from_1(tmp_path, is_sequential):
    """A model that knows its inputs has a call of its own in Keras 2."""
    parts = [layers.Dense(4, name="a"), layers.BatchNormalization(name="norm"), layers.Dense(4, name="b")]
    inner = keras.Sequential([keras.Input((4,), name="start"), *parts], name="inner")
    x = keras.Input((4,), name="input")
    expected = with_random_weights(keras.Model(x, layers.Add(name="add")([inner(x), inner(inner(x))])))
    described = [
        layer("InputLayer", "start", batch_input_shape=[None, 4]),
        layer("Dense", "a", "start", units=4),
        layer("BatchNormalization", "norm", "a", axis=[1]),
        layer("Dense", "b", "norm", units=4),
    ]
    nested = sequential(described, "inner") if is_sequential else functional(described, "inner")
    calls = [[["input", 0, 0, {}]], [["input", 0, 0, {}]], [["inner", 2, 0, {}]]]
    outer = [
        layer("InputLayer", "input", batch_input_shape=[None, 4]),
        nested | {"name": "inner", "inbound_nodes": calls},
        layer("Add", "add", ("inner", 1), ("inner", 3)),
    ]
    write_keras2(tmp_path / "old.h5", expected, description=functional(outer))
    assert_equal_outputs(load_model(tmp_path / "old.h5"), expected)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_of_keras_3_load_with_the_same_outputs(tmp_path, suffix):
    x = keras.Input((4, 4, 2), name="input")
    y = keras.Sequential([layers.Conv2D(2, 3, padding="same"), layers.BatchNormalization()], name="inner")(x)
    y = keras.ops.relu(2 * y - x)[:, 1:3]
    y = layers.Bidirectional(layers.GRU(3))(layers.Reshape((8, 2))(y))
    model = with_random_weights(keras.Model(x, y))
    model.compile("adam", "mse")
    model.save(tmp_path / f"new{suffix}")
    assert_equal_outputs(load_model(tmp_path / f"new{suffix}"), model)


def test_a_frozen_quantized_network_loads_with_its_scales(tmp_path):
    model = with_random_weights(keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.ReLU()]))
    quantized = quantize_model(model, flat_config(model, 5))
    calibrate(quantized, np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype("float32"))
    freeze_scales(quantized)
    quantized.save(tmp_path / "quantized.keras")
    loaded = load_model(tmp_path / "quantized.keras")
    np.testing.assert_equal([v.numpy() for v in loaded.variables], [v.numpy() for v in quantized.variables])
    assert_equal_outputs(loaded, quantized)


def test_statistics_of_a_normalization_are_those_of_the_file(tmp_path):
    normalization = layers.Normalization()
    model = keras.Sequential([keras.Input((4,)), normalization])
    normalization.adapt(np.random.default_rng(0).normal(3.0, 2.0, (50, 4)))
    model.save(tmp_path / "model.h5")
    assert_equal_outputs(load_model(tmp_path / "model.h5"), model)


EVIL = "po2quant_evil_module"
"""Whoever imports it runs its code."""


def in_dense(**config):
    return layer("Dense", "x", "input", units=2, **config)


def with_module(class_name, config, registered_name=None):
    return {"module": EVIL, "class_name": class_name, "config": config, "registered_name": registered_name}


UNKNOWN = {
    "a Lambda": (layer("Lambda", "x", "input", function=["4wEAAA==", None, None]), "Lambda"),
    "an operator": (layer("TFOpLambda", "x", "input", function="math.multiply"), "keras.layers.Add"),
    "a class of its own": (layer("Mine", "x", "input"), "'x' has the class Mine"),
    "a registered class": (layer("Dense", "x", "input", units=2) | {"registered_name": "My>Dense"}, "class My>Dense"),
    "a class of another module": (with_module("Dense", {"name": "x", "units": 2}) | {"name": "x"}, "class Dense"),
    "a regularizer": (in_dense(kernel_regularizer=with_module("Mine", {})), "class Mine"),
    "a function": (in_dense(activation=with_module("function", "run")), "the function 'run'"),
    "a Python lambda": (in_dense(activation={"class_name": "__lambda__", "config": {"code": "4w=="}}), "__lambda__"),
    "a text": (in_dense(activation="os.system"), "os.system"),
    "a type of tensor": (in_dense(activation={"class_name": "__typespec__", "spec_name": "X"}), "__typespec__"),
    "another function of that name": (in_dense(activation="hard_sigmoid"), "0.2 * x + 0.5"),
    "an argument": (layer("GRU", "x", "input", units=2, time_major=True), "time_major=True"),
    "a quantizer of QKeras": (
        layer("QDense", "x", "input", units=2, kernel_quantizer="quantized_bits(4,0,1)"),
        "load the float network",
    ),
    "a text that QKeras evaluates": (layer("QActivation", "x", "input", activation="print(1)"), "layer of its own"),
    "an int8 layer": (in_dense(dtype={"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_x"}}), "int8_x"),
    "a call": (
        layer("Dense", "x", units=2)
        | {"inbound_nodes": [{"args": [["input", 0, 0]], "kwargs": {"mask": with_module("Mine", {})}}]},
        "class Mine",
    ),
    "a call of a model": (
        functional([layer("InputLayer", "x", batch_input_shape=[None, 2])], "x")
        | {"name": "x", "inbound_nodes": [{"args": [with_module("Mine", {})], "kwargs": {}}]},
        "class Mine",
    ),
    "a wrapped layer": (layer("TimeDistributed", "x", "input", layer=with_module("Mine", {})), "class Mine"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_no_description_may_name_is_refused_and_not_imported(tmp_path, monkeypatch, kind):
    (tmp_path / f"{EVIL}.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    described, named = UNKNOWN[kind]
    assert named in refusal(checked_architecture, functional([START, described]))
    assert EVIL not in sys.modules


def test_all_unknown_layers_are_named_at_once(tmp_path):
    description = image_description()
    for index, name in ((2, "Mine"), (3, "Lambda")):
        description["config"]["layers"][index]["class_name"] = name
    write_keras2(tmp_path / "old.h5", image_network()[0], description=description)
    message = refusal(load_model, tmp_path / "old.h5")
    assert "layer 'block/norm' has the class Mine" in message and "layer 'leaky' (Lambda)" in message


def test_a_description_that_claims_more_weights_than_the_file_has_takes_no_memory_for_them(tmp_path):
    description = image_description()
    description["config"]["layers"][-1]["config"]["units"] = 2**40
    expected, names = image_network()
    write_keras2(tmp_path / "old.h5", expected, description=description, names=names)
    assert f"Received: {expected.count_params()} in" in refusal(load_model, tmp_path / "old.h5")


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"class_name": "Mine", "config": {"layers": []}},
        {"class_name": "Model", "config": {}},
        {"class_name": "Sequential", "config": [3]},
        functional(
            [layer("InputLayer", "input", batch_input_shape=[None, 2]), layer("Dense", "x", "input", units="2")]
        ),
        functional([layer("InputLayer", "input", batch_input_shape=[None, 2]), layer("Dense", "x", "y", units=2)]),
        functional([layer("InputLayer", "input", batch_input_shape=3), layer("Dense", "x", "input", units=2)]),
    ],
)
def test_a_description_of_no_model_is_refused_in_one_line(tmp_path, description):
    write_keras2(tmp_path / "old.h5", image_network()[0], None)
    (tmp_path / "old.json").write_text(json.dumps(description))
    assert "old.json" in refusal(load_model, tmp_path / "old.json", tmp_path / "old.h5")


def test_objects_and_folders_in_place_of_a_file_are_refused_with_a_way_out(tmp_path):
    class Model:
        """As tf_keras has it."""

        def get_config(self):
            """Return nothing."""

    Model.__module__ = "tf_keras.src.engine.functional"
    assert "Received: tf_keras's Model: save it by model.save('model.h5')" in refusal(load_model, Model())
    assert "loaded already" in refusal(load_model, keras.Sequential([keras.Input((2,))]))
    assert "There is no file" in refusal(load_model, tmp_path / "nowhere.keras")
    (tmp_path / "saved_model.pb").touch()
    assert "save it as .keras or .h5" in refusal(load_model, tmp_path)
