"""What ``check`` says of a network before any work."""

import dataclasses
import io

import keras
import numpy as np
import pytest
from keras import layers
from keras2_files import functional, layer, write_keras2
from refusals import refusal
from rich.console import Console

import po2quant
from po2quant.autoqkeras import AutoQKeras
from po2quant.deploy import check as checking
from po2quant.deploy.check import check
from po2quant.deploy.formats import FORMATS
from po2quant.deploy.from_keras import integer_program
from po2quant.integer.operations import Dense, Handlers
from po2quant.network import calibrate, flat_config, fold, quantize_model
from po2quant.report.tables import check_table

WITHOUT_PACKAGES = ("text", "program", "c", "c-packed", "qkeras")


def network(*middle):
    x = keras.Input((8, 8, 2), name="image")
    y = layers.Conv2D(4, 3, name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(name="relu")(y)
    for part in middle:
        y = part(y)
    y = layers.Flatten(name="flat")(layers.Dropout(0.1, name="drop")(y))
    return keras.Model(x, layers.Dense(3, activation="softmax", name="dense")(y), name="small")


def test_a_supported_network_says_what_each_layer_becomes():
    found = check(network(layers.Activation("silu", name="silu")))
    assert found.is_supported and found.obstacles == ()
    assert {row.name: row.becomes for row in found.layers} == {
        "image": "input",
        "conv": "Conv2D",
        "norm": "weights of its neighbours",
        "relu": "limits",
        "silu": "LookUpTable",
        "drop": "nothing",
        "flat": "Reshape",
        "dense": "Dense, left to the host",
    }
    assert {name: found.formats[name] for name in WITHOUT_PACKAGES} == dict.fromkeys(WITHOUT_PACKAGES, ())
    assert found.formats.keys() == FORMATS.keys()


def test_a_model_inside_and_an_operator_say_what_they_become():
    inner = keras.Sequential([layers.Conv2D(2, 3, padding="same"), layers.ReLU()], name="inner")
    x = keras.Input((8, 8, 2), name="image")
    found = check(keras.Model(x, inner(x) + x))
    assert [row.becomes for row in found.layers] == ["input", "Conv2D, limits", "Add"]


def test_every_obstacle_is_named_at_once():
    found = check(network(layers.LayerNormalization(name="first"), layers.GroupNormalization(2, name="second")))
    assert not found.is_supported and found.formats == {}
    assert [(obstacle.layer, obstacle.class_name) for obstacle in found.obstacles] == [
        ("first", "LayerNormalization"),
        ("second", "GroupNormalization"),
    ]
    assert all(repr(obstacle.layer) in str(obstacle) for obstacle in found.obstacles)


def test_a_layer_that_is_zero_on_the_inputs_of_the_trial_is_no_obstacle():
    model = network()
    model.get_layer("norm").beta.assign([-9.0] * 4)
    assert check(model).is_supported


def test_a_check_of_the_structure_alone_names_obstacles_and_no_formats():
    found = check(network(), is_tried=False)
    assert found.is_supported and found.formats == {} and found.layers[1].becomes == "Conv2D"
    assert not check(network(layers.UnitNormalization()), is_tried=False).is_supported


def test_a_check_leaves_the_network_alone():
    model = network()
    before = [weight.numpy().tolist() for weight in model.weights]
    check(model)
    assert [weight.numpy().tolist() for weight in model.weights] == before


@pytest.mark.parametrize("error", [ValueError("sums of 'conv' need 70 bits"), KeyError("conv")])
def test_what_fails_in_the_trial_is_an_obstacle(monkeypatch, error):
    def fail(model):
        raise error

    monkeypatch.setattr(checking, "integer_program", fail)
    (obstacle,) = check(network()).obstacles
    assert obstacle.layer == "small" and "conv" in obstacle.reason


def test_an_operation_that_a_format_has_not_is_named(monkeypatch):
    known = {kind: handle for kind, handle in FORMATS["c"].handlers.functions.items() if kind is not Dense}
    poorer = dataclasses.replace(FORMATS["c"], handlers=Handlers("C", known))
    monkeypatch.setitem(FORMATS, "c", poorer)
    found = check(network())
    assert found.is_supported and found.formats["c-packed"] == ()
    (refused,) = found.formats["c"]
    assert "Dense" in refused


def test_a_quantized_network_and_one_that_is_no_graph_are_refused():
    model = network()
    (obstacle,) = check(quantize_model(model, flat_config(model, 8))).obstacles
    assert "quantized already" in obstacle.reason
    (obstacle,) = check(keras.Model()).obstacles
    assert "no graph to read" in obstacle.reason


def test_a_file_is_loaded_and_a_wrong_one_refused(tmp_path):
    network().save(tmp_path / "small.keras")
    assert check(tmp_path / "small.keras").is_supported
    assert "nowhere.keras" in refusal(check, tmp_path / "nowhere.keras")


def test_a_keras_2_file_becomes_c(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="old_dense")])
    start = layer("InputLayer", "input", batch_input_shape=[None, 4])
    described = [start, layer("Dense", "old/dense", "input", units=3)]
    names = {"old_dense": "old/dense"}
    write_keras2(tmp_path / "old.h5", model, description=functional(described), names=names)
    loaded = po2quant.load_model(tmp_path / "old.h5")
    assert po2quant.check(loaded).is_supported
    network = po2quant.fold(loaded)
    quantized = network.quantize(network.flat(8))
    po2quant.calibrate(quantized, np.random.default_rng(0).normal(size=(16, 4)))
    po2quant.freeze_scales(quantized)
    source = po2quant.write_c(po2quant.integer_program(quantized), tmp_path / "c", "old")
    assert "old_run" in source.header.read_text()


def test_the_table_fits_80_columns_whatever_the_names():
    found = check(network(layers.Activation("relu", name="a_long_name_" * 12)))
    text = io.StringIO()
    Console(file=text, width=80).print(check_table(found))
    assert "conv" in text.getvalue() and max(map(len, text.getvalue().splitlines())) <= 80


def test_a_model_of_another_keras_is_refused_in_one_sentence_wherever_it_comes():
    another = type("Sequential", (), {"__module__": "tf_keras.src.engine.sequential", "name": "old", "outputs": [1]})()
    calls = (fold, integer_program, AutoQKeras, lambda model: flat_config(model, 8), lambda model: calibrate(model, 0))
    for call in calls:
        assert "save it as .h5 and load that with po2quant.load_model. Received: tf_keras" in refusal(call, another)
    (obstacle,) = check(another).obstacles
    assert "save it as .h5" in obstacle.reason
