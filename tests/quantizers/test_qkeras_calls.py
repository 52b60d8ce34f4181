"""QKeras' own calls on our quantizers give what they give on QKeras' own."""

from __future__ import annotations

import contextlib
import io
import sys

import keras
import numpy as np
import pytest
import qkeras
from qkeras.callbacks import QNoiseScheduler
from qkeras.estimate import print_qstats
from qkeras.utils import (
    clone_model_and_freeze_auto_po2_scale,
    model_save_quantized_weights,
    quantized_model_debug,
)
from refusals import complaint

from po2quant.quantizers import get_quantizer, quantized_bits, quantized_bits_featuremap


def _network(alpha: str | None = "auto_po2", **arguments) -> keras.Model:
    """Return a network of QKeras layers, one quantizer of a computed scale in each."""
    keras.utils.set_random_seed(0)

    def of_kernel() -> quantized_bits:
        return quantized_bits(4, 0, 1, alpha=alpha, **arguments)

    inputs = keras.Input((6, 6, 2), name="input")
    x = qkeras.QConv2D(3, 3, kernel_quantizer=of_kernel(), bias_quantizer=quantized_bits(4, 0, 1), name="conv")(inputs)
    x = qkeras.QActivation("quantized_relu(4)", name="relu")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = qkeras.QDense(2, kernel_quantizer=of_kernel(), bias_quantizer=quantized_bits(4, 0, 1), name="dense")(x)
    return keras.Model(inputs, x)


def _inputs(samples: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(samples, 6, 6, 2)).astype(np.float32)


def _quietly(function, *arguments, **keywords):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        return function(*arguments, **keywords), printed.getvalue()


# ---------------------------------------------------------------- calls on numbers


@pytest.mark.parametrize(
    ("arguments", "x"),
    [((8, 3, 1), np.array([3, -2])), ((8, 0, 1), 0.3), ((8, 2), [1, 2.7]), ((8, 2), np.float64(0.3))],
)
@pytest.mark.parametrize("alpha", [None, 1.0])
def test_integers_numbers_and_lists_are_quantized_as_in_qkeras(arguments, x, alpha):
    expected = qkeras.quantized_bits(*arguments, alpha=alpha)(x)
    np.testing.assert_array_equal(quantized_bits(*arguments, alpha=alpha)(x), expected)


def test_what_is_no_number_is_refused():
    assert "'a'" in complaint(quantized_bits(8), "a")
    assert "1.j" in complaint(quantized_bits(8), np.array([1j]))


@pytest.mark.parametrize(("bits", "integer"), [(3, 0), (3, 2), (6, 1)])
def test_the_values_of_a_format_come_in_qkeras_order(bits, integer):
    expected = qkeras.quantized_bits(bits, integer).range()
    np.testing.assert_array_equal(quantized_bits(bits, integer).range(), expected)


@pytest.mark.parametrize(
    "arguments", [{"symmetric": 1}, {"keep_negative": 0}, {"alpha": "auto"}, {"alpha": 0.5}, {"bits": 32}]
)
def test_values_under_a_scale_or_fewer_or_too_many_of_them_are_no_range(arguments):
    assert "symmetric=0" in complaint(quantized_bits(**arguments).range)


def test_one_bit_with_a_sign_says_what_to_use():
    for kind in (quantized_bits, quantized_bits_featuremap):
        message = complaint(kind, 1)
        assert "qkeras.binary" in message and "keep_negative=0" in message and "bits=1" in message
    np.testing.assert_array_equal(quantized_bits(1, 1, 0, keep_negative=0)([-1.0, 0.4, 1.6]), [0.0, 0.0, 1.0])


# ---------------------------------------------------------------- scales


@pytest.mark.parametrize("integer", [0, 2, 4])
def test_the_scale_in_use_has_qkeras_unit(integer):
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    stock = qkeras.quantized_bits(4, integer, 1, alpha="auto_po2")
    ours = quantized_bits(4, integer, 1, alpha="auto_po2", scale_rule="stock")
    assert ours.scale is None
    np.testing.assert_array_equal(ours(x), stock(x))
    np.testing.assert_array_equal(ours.scale, stock.scale)
    ours.scale = np.ones((1, 4))
    np.testing.assert_array_equal(ours.scale, np.ones((1, 4)))
    ours(x)
    np.testing.assert_array_equal(ours.scale, stock.scale)
    assert (quantized_bits(4).scale, quantized_bits(4, alpha=0.5).scale) == (1.0, 0.5)


@pytest.mark.parametrize("integer", [0, 2, 4])
@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_a_scale_after_training_has_qkeras_unit(integer, alpha):
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    scale = np.float32([[0.5, 1.0, 2.0, 0.25]])
    stock = qkeras.quantized_bits(4, integer, 1, alpha=alpha, post_training_scale=scale)
    ours = quantized_bits(4, integer, 1, alpha=alpha, post_training_scale=scale)
    np.testing.assert_array_equal(ours(x), stock(x))
    np.testing.assert_array_equal(ours.scale, scale)
    np.testing.assert_array_equal(ours.post_training_scale, scale)
    np.testing.assert_array_equal(ours.frozen_scale, scale * 2.0 ** (integer - 3))


def test_a_configuration_of_before_has_its_scale_in_units_of_the_lsb():
    quantizer = quantized_bits(4, 4, 1, alpha="auto_po2", frozen_scale=0.25)
    config = quantizer.get_config()
    old = {name: value for name, value in config.items() if name != "frozen_scale"} | {"post_training_scale": 0.25}
    assert quantized_bits.from_config(old).frozen_scale == 0.25
    assert quantized_bits.from_config(old | {"post_training_scale": None}).frozen_scale is None


def test_a_given_scale_is_gone_where_loaded_state_has_none():
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    given, computed = (
        quantized_bits(4, 4, 1, alpha="auto_po2", frozen_scale=4.0),
        quantized_bits(4, 4, 1, alpha="auto_po2"),
    )
    store = {}
    computed(x)
    computed.save_own_variables(store)
    given.load_own_variables(store)
    assert given.frozen_scale is None and given.get_config()["frozen_scale"] is None
    np.testing.assert_array_equal(given(x), computed(x))


# ---------------------------------------------------------------- QKeras' tools


def test_print_qstats_counts_the_weights_of_the_layers_alone():
    model = _network()
    model(_inputs())
    _, printed = _quietly(print_qstats, model)
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    parameters = sum(weight.numpy().size for layer in ("conv", "dense") for weight in model.get_layer(layer).weights)
    assert f"Total Bits : {4 * parameters}" in lines and "conv_weights : 54 (4-bit unit)" in lines


def test_saved_weights_are_integers_times_their_scales():
    model = _network()
    expected = {name: model.get_layer(name).kernel_quantizer_internal for name in ("conv", "dense")}
    kernels = {name: quantizer(model.get_layer(name).kernel).numpy() for name, quantizer in expected.items()}
    saved, _ = _quietly(model_save_quantized_weights, model)
    for name, quantizer in expected.items():
        scale = np.asarray(saved[name]["scales"][0])
        np.testing.assert_array_equal(model.get_layer(name).get_weights()[0], kernels[name])
        np.testing.assert_array_equal(scale, quantizer.scale * 2.0**-3)
        integers = kernels[name] / scale
        np.testing.assert_array_equal(integers, np.round(integers))
        assert 4 < np.abs(integers).max() <= 7


def test_a_clone_with_frozen_scales_computes_the_same(monkeypatch):
    """QKeras makes its quantizer from the configuration of ours, where it is not replaced by ours, too."""
    monkeypatch.setattr(sys.modules["qkeras.utils"], "quantized_bits", quantized_bits)
    model, x = _network(), _inputs()
    (clone, _), _ = _quietly(clone_model_and_freeze_auto_po2_scale, orig_model=model)
    for name in ("conv", "dense"):
        ours, theirs = (each.get_layer(name).kernel_quantizer_internal for each in (model, clone))
        assert type(theirs) is quantized_bits and theirs.post_training_scale is not None
        ours(model.get_layer(name).kernel)
        np.testing.assert_array_equal(theirs.post_training_scale, ours.scale)
    np.testing.assert_array_equal(clone(x), model(x))


def test_every_layer_is_shown_in_the_debugger():
    model = _network()
    _, printed = _quietly(quantized_model_debug, model, _inputs())
    assert "conv" in printed and "dense" in printed


@pytest.mark.parametrize("kind", [qkeras.QAveragePooling2D, qkeras.QGlobalAveragePooling2D])
def test_pooling_takes_an_average_quantizer(kind):
    quantizers = quantized_bits(8, 0, 1), qkeras.quantized_bits(8, 0, 1)
    ours, stock = (kind(average_quantizer=each)(_inputs()) for each in quantizers)
    np.testing.assert_array_equal(ours, stock)


# ---------------------------------------------------------------- noise that a schedule changes


@pytest.mark.parametrize("alpha", [None, "auto_po2"])
def test_a_schedule_of_noise_reaches_compiled_graphs(alpha):
    model, x = _network(alpha), _inputs()
    quantizer = model.get_layer("dense").kernel_quantizer_internal
    quantizer.use_variables = True
    kernel = model.get_layer("dense").kernel
    values, quantized = kernel.numpy(), quantizer(kernel).numpy()
    layer = keras.Model(model.get_layer("dense").input, model.get_layer("dense").output)
    features = np.eye(values.shape[0], dtype=np.float32)
    for share, expected in (
        (1.0, quantized),
        (0.0, values),
        (0.5, values + 0.5 * (quantized - values)),
        (1.0, quantized),
    ):
        quantizer.update_qnoise_factor(share)
        np.testing.assert_allclose(layer.predict(features, verbose=0), expected, rtol=0, atol=1e-6)
        assert quantizer.is_noisy == (share != 1.0) and quantizer.get_config()["qnoise_factor"] == share
    assert not [variable for variable in model.variables if variable.name == "qnoise_factor"]
    model.compile("sgd", "mse")
    schedule = QNoiseScheduler(start=1, finish=3, freq_type="step")
    model.fit(x, np.zeros((4, 2)), batch_size=2, epochs=1, verbose=0, callbacks=[schedule])
    assert len(schedule.quantizers) == 4
    assert [float(each.qnoise_factor) for each in schedule.quantizers] == [0.0] * 4
    model.fit(x, np.zeros((4, 2)), batch_size=2, epochs=1, verbose=0, callbacks=[schedule])
    assert [float(each.qnoise_factor) for each in schedule.quantizers] == [1.0] * 4


# ---------------------------------------------------------------- the study's activation quantizer


def test_arguments_stand_where_the_study_has_them():
    quantizer = quantized_bits_featuremap(8, 8, 1, 1, "auto", False, 0)
    assert (quantizer.use_stochastic_rounding, quantizer.scale_axis, quantizer.momentum) == (False, 0, 0.99)
    quantizer = get_quantizer("quantized_bits_featuremap(8,8,1,1,'auto',1,None,0.5,'name',0,1)")
    assert (quantizer.use_stochastic_rounding, quantizer.scale_axis) == (True, None)
    assert (float(quantizer.qnoise_factor), quantizer.var_name, quantizer.use_ste) == (0.5, "name", False)
    assert quantizer.use_variables
    text = "quantized_bits_featuremap(4,4,alpha='auto_po2',use_stochastic_rounding=1,qnoise_factor=0.25)"
    assert get_quantizer(text).qnoise_factor == 0.25
    quantizer = quantized_bits_featuremap()
    found = [
        getattr(quantizer, name) for name in ("bits", "integer", "symmetric", "keep_negative", "alpha", "scale_axis")
    ]
    assert found == [8, 0, False, True, None, None]
    assert "scale_axis=False" in complaint(quantized_bits_featuremap, 8, 8, 1, 1, "auto", 0, False)


def test_a_text_for_a_scale_means_symmetry_as_in_the_study():
    x = np.float32([[-1.0, 0.2, 0.5, 0.9]])
    quantizer = quantized_bits_featuremap(4, 4, alpha="auto")
    np.testing.assert_allclose(quantizer(x), np.float32([[-7, 1, 3, 6]]) / 7, rtol=1e-6)  # a real scale


def test_a_configuration_of_before_keeps_its_affine_map():
    quantizer = quantized_bits_featuremap(4, 4, alpha="auto", affine=True)
    new = ("affine", "static_range", "frozen", "log2_threshold", "use_stochastic_rounding", "qnoise_factor")
    old = {name: value for name, value in quantizer.get_config().items() if name not in new}
    x = np.float32([[-1.0, 0.2, 0.5, 2.9]])
    np.testing.assert_array_equal(quantized_bits_featuremap.from_config(old)(x), quantizer(x))
    assert not quantized_bits_featuremap.from_config(old | {"symmetric": True}).is_affine


@pytest.mark.parametrize("alpha", ["auto_po2", "auto", None])
def test_activations_mix_values_and_quantized_values(alpha):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    quantized = quantized_bits_featuremap(4, 2, 1, alpha=alpha)(x).numpy()
    for options in ({}, {"use_variables": True}):
        mixed = quantized_bits_featuremap(4, 2, 1, alpha=alpha, qnoise_factor=0.25, **options)
        np.testing.assert_allclose(mixed(x), x + 0.25 * (quantized - x), rtol=0, atol=1e-6)
        mixed.update_qnoise_factor(1.0)
        np.testing.assert_array_equal(mixed(x), quantized)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"affine": True}, "affine needs alpha='auto'"),
        ({"alpha": "auto", "affine": True, "keep_negative": 0}, "affine needs alpha='auto'"),
        ({"static_range": (0.0, 1.0)}, "need one static scale"),
        ({"alpha": "auto", "scale_axis": 0, "frozen": True}, "need one static scale"),
        ({"alpha": "auto", "static_range": (1.0, 0.0)}, "[1.0, 0.0]"),
        ({"alpha": "auto", "static_range": 1.0}, "(minimum, maximum)"),
        ({"alpha": "auto", "log2_threshold": 1.0}, "alpha='learned_po2'"),
    ],
)
def test_a_state_that_no_quantizer_has_is_refused(arguments, part):
    assert part in complaint(quantized_bits_featuremap, **arguments)
