"""The float networks against the published configurations and the MLPerf Tiny reference networks."""

from __future__ import annotations

import csv
import functools
import importlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable

import h5py
import keras
import numpy as np
import pytest

from po2quant import load_model

REFERENCES = {  # configuration: (folder, builder, parameters with BatchNormalization)
    "ad_autoencoder": ("anomaly_detection", "autoencoder", 269_992),
    "kws_ds_cnn": ("keyword_spotting", "ds_cnn", 24_908),
    "ic_resnet8": ("image_classification", "resnet8", 78_666),
    "vww_mobilenet_v1": ("visual_wake_words", "mobilenet_v1", 221_794),
}
PUBLISHED = {
    **REFERENCES,
    "vww_mobilenet_v2": ("visual_wake_words", "mobilenet_v2", 2_278_786),
    "vww_efficientnet_b0": ("visual_wake_words", "efficientnet_b0", 4_073_134),
}
MODELS = {**PUBLISHED, "digits": ("shared.digits", "ds_cnn", 3_082)}
WEIGHT_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


@functools.cache
def _model(name: str) -> keras.Model:
    folder, function, _ = MODELS[name]
    return getattr(importlib.import_module(f"benchmarks.{folder}.model"), function)()


def _inputs(layer: keras.Layer) -> list[keras.KerasTensor]:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _post_order(model: keras.Model) -> list[keras.Layer]:
    """Layers as a depth-first walk from the output leaves them, a layer's inputs in order."""
    producer, order = {id(layer.output): layer for layer in model.layers}, {}

    def visit(layer: keras.Layer) -> None:
        if layer.name not in order:
            for tensor in _inputs(layer):  # an InputLayer has none
                visit(producer[id(tensor)])
            order[layer.name] = layer

    visit(producer[id(model.output)])
    return list(order.values())


def _size(weight: keras.Variable) -> int:
    return math.prod(weight.shape)


def _weight_layers(name: str) -> list[keras.Layer]:
    return [layer for layer in _post_order(_model(name)) if isinstance(layer, WEIGHT_LAYERS)]


@pytest.fixture(scope="module")
def trained(shared) -> Callable[[str], tuple[keras.Model, set[str]]]:
    """Return a function from a name to its model with the reference's weights, and the paths of those assigned."""

    @functools.cache
    def load(name: str) -> tuple[keras.Model, set[str]]:
        model, assigned = keras.models.clone_model(_model(name)), set()
        with h5py.File(shared(f"pretrained/{name}.h5")) as file:
            for layer_name, group in file["model_weights"].items():
                for weight_name in map(os.fsdecode, group.attrs["weight_names"]):  # str or bytes by writer
                    short = weight_name.split("/")[-1].removesuffix(":0").removeprefix("depthwise_")
                    variables = {variable.name: variable for variable in model.get_layer(layer_name).weights}
                    assert variables[short].shape == group[weight_name].shape, weight_name
                    variables[short].assign(group[weight_name][()])
                    assigned.add(variables[short].path)
        return model, assigned

    return load


@pytest.mark.parametrize("name", PUBLISHED)
def test_weight_layers_equal_the_published_ones(shared, name):
    """Names, order, classes, output shapes, kernel and bias sizes; none missing and none extra."""
    rows = json.loads(shared(f"published_configs/{name}.json").read_text())["layers"]
    assert [
        (
            layer.name,
            type(layer).__name__,
            list(layer.output.shape[1:]),
            _size(layer.kernel),
            _size(layer.bias),
        )
        for layer in _weight_layers(name)
    ] == [
        (row["name"], row["class"], row["shape"], row["params"]["kernel"], row["params"]["bias"])
        for row in rows
        if row["params"]["kernel"]
    ]


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts(name):
    """Kernels, biases and BatchNormalization make up the whole model, and the known total."""
    model = _model(name)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    parts = [layer.count_params() for layer in _weight_layers(name)]
    parts += [4 * layer.output.shape[-1] for layer in norms]
    assert sum(parts) == model.count_params() == MODELS[name][2]


@pytest.mark.parametrize("name", MODELS)
def test_layers_follow_the_conventions(name):
    """Biases, separate activations, reserved names, the final softmax, and unrelated initial kernels."""
    layers = _post_order(_model(name))
    assert [layer.name for layer in layers if isinstance(layer, keras.layers.InputLayer)] == ["input"]
    assert not [layer.name for layer in layers if layer.name.startswith("activation")]
    assert len(layers) == len(_model(name).layers)
    for layer in _weight_layers(name):
        assert layer.use_bias and layer.activation is keras.activations.linear, layer.name
    starts = [tuple(np.ravel(layer.kernel)[:8]) for layer in _weight_layers(name)]
    assert len(set(starts)) == len(starts)
    if name != "ad_autoencoder":
        charged = name == "vww_mobilenet_v2"  # the published accounting charges its softmax
        kind = keras.layers.Activation if charged else keras.layers.Softmax
        assert isinstance(layers[-1], kind) and layers[-1].name == "softmax"


@pytest.mark.parametrize("name", ["ic_resnet8", "vww_mobilenet_v2", "vww_efficientnet_b0"])
def test_joins_take_the_main_path_first(name):
    """An Add takes the residual branch (the longer one) first, a Multiply the feature maps."""
    depth = {}
    for layer in _post_order(_model(name)):
        depths = [depth[id(tensor)] for tensor in _inputs(layer)]
        depth[id(layer.output)] = 1 + max(depths, default=0)
        if isinstance(layer, keras.layers.Add):
            assert depths[0] > depths[1], layer.name
        elif isinstance(layer, keras.layers.Multiply):
            assert depths[0] < depths[1], layer.name


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_weights_fill_the_model(trained, name):
    """Every weight loads by layer name with an equal shape, and none of the model's is left over."""
    model, assigned = trained(name)
    assert assigned == {weight.path for weight in model.weights}


@pytest.mark.parametrize("name", REFERENCES)
def test_layer_settings_equal_the_reference(shared, name):
    """Strides, padding, epsilon, momentum, dropout rates, initializers and weight decay."""
    with h5py.File(shared(f"pretrained/{name}.h5")) as file:
        reference = json.loads(file.attrs["model_config"])["config"]["layers"]
    kinds = ("Conv2D", "DepthwiseConv2D", "Dense", "BatchNormalization", "Dropout")
    settings = {"kernel_size", "strides", "padding", "use_bias", "epsilon", "momentum", "rate"}
    for expected in (layer["config"] for layer in reference if layer["class_name"] in kinds):
        layer = _model(name).get_layer(expected["name"])
        actual = json.loads(json.dumps(layer.get_config()))
        for key in expected.keys() & settings:
            assert actual[key] == expected[key], (layer.name, key)
        for key in expected.keys() & {"kernel_initializer", "depthwise_initializer"}:
            if expected[key] and key in actual:
                assert actual[key]["class_name"] == expected[key]["class_name"], (layer.name, key)
        decay = (expected.get("kernel_regularizer") or {"config": {"l2": 0.0}})["config"]["l2"]
        regularizer = getattr(layer, "kernel_regularizer", None)
        assert (regularizer.l2 if regularizer else 0.0) == pytest.approx(decay), layer.name


@pytest.mark.parametrize("name", REFERENCES)
def test_outputs_equal_the_reference(shared, trained, name):
    """The same outputs as the reference network on the same random inputs."""
    reference = load_model(shared(f"pretrained/{name}.h5"))
    x = np.random.default_rng(0).uniform(0.0, 1.0, (8, *reference.inputs[0].shape[1:])).astype("float32")
    expected = reference.predict_on_batch(x)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the outputs do not depend on the inputs"
    np.testing.assert_allclose(trained(name)[0].predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)


ACCURACY_SETS = {  # archive, what its bytes are, what the network sees of them, correct samples, samples
    "ic_resnet8": ("mlperf_tiny_ic01.zip", np.uint8, lambda pixels: pixels, 171, 200),
    "kws_ds_cnn": ("mlperf_tiny_kws01.zip", np.int8, lambda features: (features - 83) * 0.5847029, 913, 1000),
}


@pytest.mark.parametrize("name", ACCURACY_SETS)
def test_accuracy_is_that_of_the_reference(shared, trained, name):
    """85.5 % of the pictures and 91.3 % of the words of MLPerf Tiny's accuracy sets."""
    archive, dtype, prepared, correct, samples = ACCURACY_SETS[name]
    model = trained(name)[0]
    with zipfile.ZipFile(shared(f"data/{archive}")) as files:
        rows = list(csv.reader(io.TextIOWrapper(files.open("y_labels.csv"))))
        x = np.stack([np.frombuffer(files.read(row[0]), dtype).reshape(model.input_shape[1:]) for row in rows])
    outputs = model.predict_on_batch(prepared(x.astype("float32")))
    is_correct = np.argmax(outputs, axis=-1) == [int(row[2]) for row in rows]
    assert (np.sum(is_correct), len(is_correct)) == (correct, samples)
