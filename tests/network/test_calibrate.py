"""Calibration: ranges from what reaches each quantizer, and from nothing else."""

from __future__ import annotations

import inspect
import math
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from networks import outputs, randomize
from oracles import quantize_to_steps
from refusals import refusal

from po2quant.bit_config import BitConfig, LayerBits
from po2quant.network import (
    CalibrationWarning,
    Placement,
    activation_quantizers,
    calibrate,
    flat_config,
    freeze_scales,
    quantize_model,
    set_bits,
    weight_quantizers,
)

RANGE_ULPS = 4
"""Of float32: fractions of a range that are multiplied in another order."""


def identity_net(*activations: str) -> keras.Model:
    """Dense layers that pass 4 values on: what a quantizer sees is what the one before it made of them."""
    model = keras.Sequential([keras.Input((4,), name="input")])
    for index, activation in enumerate(activations):
        dense = layers.Dense(4, activation=activation, name=f"dense_{index}")
        model.add(dense)
        dense.set_weights([np.eye(4), np.zeros(4)])
    return model


def random_net() -> keras.Model:
    inputs = keras.Input((6, 6, 3), name="input")
    x = shortcut = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    x = layers.Dropout(0.5)(layers.DepthwiseConv2D(3, padding="same", activation="swish", name="depthwise")(x))
    x = layers.Add(name="add")([layers.Conv2D(4, 1, name="project")(x), shortcut])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return randomize(keras.Model(inputs, layers.Dense(3, name="dense")(x)))


def bits_of(model: keras.Model, *activations: int) -> BitConfig:
    """Return 16-bit weights, which hold 0 and 1 exactly, and the given activations."""
    config = dict(flat_config(model, 16).layers)
    names = [name for name, bits in config.items() if bits.activation is not None]
    return BitConfig(config | {n: LayerBits(activation=bits) for n, bits in zip(names, activations, strict=True)})


def data(samples: int = 64, size: tuple[int, ...] = (4,), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, *size)).astype(np.float32)


def heavy_tailed(samples: int = 4096, size: tuple[int, ...] = (4,), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, size=(samples, *size)).astype(np.float32)


def ranges(model: keras.Model) -> list[tuple[float, float]]:
    return [quantizer.range for _, quantizer in activation_quantizers(model)]


def best_scale_by_hand(x: np.ndarray, bits: int, signed: bool) -> float:
    """Return the power of two with the least squared error, of all that could be."""
    x = np.asarray(x, np.float64)
    candidates = [2.0**exponent for exponent in range(-30, 15)]
    errors = [np.sum((x - quantize_to_steps(x, scale, bits, signed)) ** 2) for scale in candidates]
    return candidates[int(np.argmin(errors))]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("draw", [data, heavy_tailed])
def test_range_is_that_of_least_squared_error(draw, signed, bits):
    x = draw() if signed else np.abs(draw())
    model = identity_net(None)
    result = quantize_model(model, bits_of(model, bits, 16), placement=Placement(signed_input=signed))
    calibrate(result, x)
    scale = best_scale_by_hand(x, bits, signed)
    largest = (2 ** (bits - signed) - 1) * scale
    assert ranges(result)[0] == (-largest if signed else 0.0, largest)
    assert dict(activation_quantizers(result))["activation"].scale == scale


def test_negative_values_of_an_unsigned_input_do_not_widen_its_range():
    """They are clipped to 0 whatever the scale is."""
    model = identity_net(None)
    result = quantize_model(model, bits_of(model, 4, 16), placement=Placement(signed_input=False))
    x = np.random.default_rng(0).random((64, 4), np.float32)
    x[:, 3] = -4.0
    calibrate(result, x)
    assert best_scale_by_hand(x, 4, False) == 2.0**-4
    assert ranges(result)[0] == (0.0, 15 / 16)


def test_each_quantizer_sees_what_the_ones_before_it_left():
    """At 2 and 4 bits the input quantizer clips and coarsens; what follows must be calibrated to that."""
    model = identity_net("relu", None)
    widths = (2, 4, 8)
    result = quantize_model(model, bits_of(model, *widths))
    x = heavy_tailed()
    calibrate(result, x)
    reaches, expected = np.asarray(x, np.float64), []
    for bits, signed in zip(widths, (True, False, True), strict=True):
        reaches = reaches if signed else np.maximum(reaches, 0.0)
        scale = best_scale_by_hand(reaches, bits, signed)
        largest = (2 ** (bits - signed) - 1) * scale
        expected.append((-largest if signed else 0.0, largest))
        reaches = quantize_to_steps(reaches, scale, bits, signed)
    assert ranges(result) == expected
    # Without the quantizers before it, the last one would get another range.
    alone = best_scale_by_hand(np.maximum(x, 0.0), 8, True)
    assert (2**7 - 1) * alone != expected[-1][1]


def test_calibration_sees_quantized_weights():
    """A weight of 1.4 is 1 at 2 bits: the output quantizer must be calibrated to x, not to 1.4 x."""
    model = identity_net(None)
    model.get_layer("dense_0").kernel.assign(1.4 * np.eye(4))
    config = BitConfig(
        {
            "activation": LayerBits(activation=16),
            "dense_0": LayerBits(2, 16),
            "activation_1": LayerBits(activation=16),
        }
    )
    result = quantize_model(model, config)
    x = np.linspace(-0.9, 0.9, 256, dtype=np.float32).reshape(-1, 4)
    calibrate(result, x)
    assert ranges(result)[1][1] < 1.0  # 1.4 x would need a range up to 1.26


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_calibration_leaves_everything_but_the_ranges(alpha):
    model = random_net()
    result = quantize_model(model, flat_config(model, 5), alpha)
    state = {variable.path: variable.numpy() for variable in result.variables}
    calibrate(result, data(size=(6, 6, 3)))
    moved = {variable.path for variable in result.variables if np.any(variable.numpy() != state[variable.path])}
    assert {path.rsplit("/", 1)[-1] for path in moved} <= {"minimum", "maximum", "frozen"}
    assert {weight.quantizer.bits for weight in weight_quantizers(result)} == {5, 31}
    assert not any(weight.quantizer.frozen for weight in weight_quantizers(result))


def test_every_slot_is_calibrated_and_frozen():
    placement = Placement(requantize_shortcuts=True)
    model = random_net()
    result = quantize_model(model, flat_config(model, 5, placement), placement=placement)
    assert ranges(result) == [(0.0, 0.0)] * 9
    assert not any(quantizer.frozen for _, quantizer in activation_quantizers(result))
    calibrate(result, data(size=(6, 6, 3)))
    for name, quantizer in activation_quantizers(result):
        low, high = quantizer.range
        assert high > 0.0, name
        assert low == (-high if quantizer.signed else 0.0), name
        assert quantizer.frozen, name


def test_calibrated_ranges_are_static():
    model = random_net()
    result = quantize_model(model, flat_config(model, 8))
    x = data(size=(6, 6, 3))
    calibrate(result, x)
    before = ranges(result)
    # The same batch size, so that convolutions take the same path; the others are 100 times larger.
    mixed = np.concatenate([x[:1], 100 * x[1:]])
    np.testing.assert_array_equal(outputs(result, mixed)[:1], outputs(result, x)[:1])
    result(100 * x, training=True)
    result(100 * x, training=False)
    assert ranges(result) == before


def test_no_labels_are_asked_for():
    assert list(inspect.signature(calibrate).parameters) == ["model", "x", "rule"]


def test_calibrating_again_forgets_the_first_time():
    model = random_net()
    config = flat_config(model, 5)
    once, twice = quantize_model(model, config), quantize_model(model, config)
    x = data(size=(6, 6, 3))
    calibrate(twice, 1000 * data(size=(6, 6, 3), seed=1))
    calibrate(twice, x)
    calibrate(once, x)
    assert ranges(twice) == ranges(once)


def test_order_of_the_samples_makes_no_difference():
    model = random_net()
    config = flat_config(model, 5)
    x = data(size=(6, 6, 3))
    found = []
    for samples in (x, x[::-1]):
        result = quantize_model(model, config)
        calibrate(result, samples)
        found.append(ranges(result))
    assert found[0] == found[1]


def test_dropout_does_not_drop():
    model = identity_net(None, None)
    dropping = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="dense_0"), layers.Dropout(0.9), layers.Dense(4, name="dense_1")]
    )
    dropping.set_weights(model.get_weights())
    found = []
    for net in (model, dropping):
        result = quantize_model(net, bits_of(net, 8, 8, 8), "auto")
        calibrate(result, data())
        found.append(ranges(result))
    assert found[0] == found[1]


def test_integer_samples_are_taken():
    """Raw pictures are 0..255."""
    model = identity_net(None)
    result = quantize_model(model, bits_of(model, 8, 16), placement=Placement(signed_input=False))
    calibrate(result, np.arange(256).reshape(-1, 4))
    assert ranges(result)[0] == (0.0, 255.0)


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_all_zero_inputs_give_finite_outputs(alpha):
    model = random_net()
    result = quantize_model(model, flat_config(model, 4), alpha)
    x = np.zeros((8, 6, 6, 3), np.float32)
    assert "'activation'" in refusal(calibrate, result, x)
    assert ranges(result)[0] == (0.0, 0.0)
    assert np.all(np.isfinite(outputs(result, x)))
    assert np.all(np.isfinite(outputs(result, data(size=(6, 6, 3)))))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_samples_that_are_not_finite_are_refused(alpha, value):
    model = identity_net(None)
    result = quantize_model(model, bits_of(model, 8, 8), alpha)
    x = data()
    x[3, 1] = value
    assert "finite" in refusal(calibrate, result, x)


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_per_sample_scales_need_no_calibration(alpha):
    model = random_net()
    result = quantize_model(model, flat_config(model, 5), alpha, activation_scale="per_sample")
    x = data(size=(6, 6, 3))
    before = outputs(result, x)
    calibrate(result, x)
    np.testing.assert_array_equal(outputs(result, x), before)


def test_each_input_gets_its_own_range():
    small, large = keras.Input((4,), name="small"), keras.Input((4,), name="large")
    model = keras.Model([small, large], layers.Add(name="add")([small, large]))
    result = quantize_model(model, flat_config(model, 8), "auto")
    x = data()
    calibrate(result, [x, 1000 * x])
    (_, small_range), (_, large_range), _ = ranges(result)
    assert small_range <= np.abs(x).max()
    assert large_range == pytest.approx(1000 * small_range, rel=1e-5)


def test_width_changes_the_range_only_when_calibrated_again():
    model = identity_net(None)
    result = quantize_model(model, bits_of(model, 2, 8))
    x = heavy_tailed()
    calibrate(result, x)
    before = ranges(result)
    set_bits(result, bits_of(model, 8, 8))
    assert ranges(result) == before
    calibrate(result, x)
    largest = 127 * best_scale_by_hand(x, 8, True)
    assert ranges(result)[0] == (-largest, largest) != before[0]


def with_min_max_ranges(model: keras.Model, x: np.ndarray) -> None:
    """Give every quantizer the range of all values that reach it, the outliers included."""
    for name, quantizer in activation_quantizers(model):
        source = model.get_layer(name).input
        values = np.asarray(keras.Model(model.input, source)(x, training=False))
        quantizer.set_range(float(values.min()), float(values.max()))
        quantizer.frozen = True


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_calibration_beats_min_and_max_on_heavy_tails(alpha):
    model = random_net()
    config = flat_config(model, 4)
    x, other = heavy_tailed(256, (6, 6, 3)), heavy_tailed(256, (6, 6, 3), seed=1)
    expected = outputs(model, other)
    errors = []
    for set_ranges in (calibrate, with_min_max_ranges):
        result = quantize_model(model, config, alpha)
        set_ranges(result, x)
        first = keras.Model(result.input, result.get_layer("activation").output)
        errors.append(
            (np.mean((outputs(first, other) - other) ** 2), np.mean((outputs(result, other) - expected) ** 2))
        )
    (input_error, output_error), (input_error_of_min_max, output_error_of_min_max) = errors
    assert input_error < 0.8 * input_error_of_min_max
    assert output_error < 0.8 * output_error_of_min_max


@pytest.mark.parametrize("seed", range(4))
def test_real_scales_take_the_best_of_the_searched_fractions(seed):
    """Fractions 2**(-k / 4) of the observed range, k = 0 to 12; the scale is the range's end over 7."""
    model = identity_net(None)
    result = quantize_model(model, bits_of(model, 4, 16), "auto")
    x = heavy_tailed(seed=seed)
    calibrate(result, x)
    max_abs = float(np.abs(x).max())
    fractions = [2.0 ** (-k / 4) for k in range(13)]
    errors = [np.mean((x - quantize_to_steps(x.astype(float), f * max_abs / 7, 4, True)) ** 2) for f in fractions]
    best = int(np.argmin(errors))
    assert best == (10, 9, 7, 11)[seed]  # neither the first nor the last, and odd ones among them
    found = np.float32(max(-ranges(result)[0][0], ranges(result)[0][1]))
    np.testing.assert_array_max_ulp(found, np.float32(fractions[best] * max_abs), RANGE_ULPS)


def test_inputs_of_nothing_but_zeros_are_refused_and_the_quantizer_named():
    """Else every tensor would get the range of 1, and 3 * 2 + 5 * 4 would be 1.98."""
    model = keras.Sequential([keras.Input((2,), name="input"), layers.Dense(1, name="dense")])
    model.layers[0].set_weights([np.array([[3.0], [5.0]]), np.zeros(1)])
    quantized = quantize_model(model, flat_config(model, 8))
    first, _ = (name for name, _ in activation_quantizers(quantized))
    assert f"quantizer {first!r}" in refusal(calibrate, quantized, np.zeros((4, 2), np.float32))
    assert f"quantizer {first!r}" in refusal(freeze_scales, quantized)
    assert "samples" in refusal(calibrate, quantized, np.zeros((0, 2), np.float32))
    x = np.array([[2.0, 4.0]], np.float32)
    calibrate(quantized, x)
    freeze_scales(quantized)
    assert abs(float(outputs(quantized, x)[0, 0]) - 26.0) < 0.5
    assert f"quantizer {first!r}" in refusal(calibrate, quantized, np.zeros((4, 2), np.float32))


@pytest.mark.parametrize("rule", ["mse", "max", "percentile", "entropy"])
@pytest.mark.parametrize("alpha", ["auto", "auto_po2", "learned_po2"])
def test_units_that_no_input_activates_get_a_range_a_warning_and_a_network_that_computes(alpha, rule):
    model = identity_net("relu", None)
    model.layers[0].set_weights([np.eye(4), np.full(4, -100.0)])
    model.layers[1].set_weights([np.eye(4), np.arange(4.0)])
    quantized = quantize_model(model, bits_of(model, 8, 8, 8), alpha)
    (_, dead, _) = (name for name, _ in activation_quantizers(quantized))
    with pytest.warns(CalibrationWarning, match=f"{dead!r} sees nothing but zeros"):
        calibrate(quantized, data(), rule)
    low, high = ranges(quantized)[1]
    assert low == 0.0 and 1.0 <= high < 2.0
    freeze_scales(quantized)
    np.testing.assert_allclose(outputs(quantized, data()), np.tile(np.arange(4.0), (64, 1)), atol=0.02)


def test_a_percentile_of_0_leaves_the_range_of_the_largest_value():
    model = identity_net("relu", None)
    model.layers[0].set_weights([np.eye(4), np.full(4, -2.5)])
    x = np.zeros((4096, 4), np.float32)
    x[::1024, 0] = 4.0
    quantized = quantize_model(model, bits_of(model, 16, 8, 8), "auto")
    calibrate(quantized, x + 1.0 / 16.0, "max,activation_1=percentile:99")
    np.testing.assert_allclose(ranges(quantized)[1], (0.0, 1.5625), atol=0.001)


def outlier_net(bits: int = 8, alpha: str = "auto_po2") -> tuple[keras.Model, np.ndarray]:
    """Return a network of one quantizer that matters, and its inputs: 20 000 normal values, one of which is 500."""
    x = data(2000, (10,))
    x[7, 3] = 500.0
    model = keras.Sequential([keras.Input((10,), name="input"), layers.Flatten(name="flatten")])
    return quantize_model(model, flat_config(model, bits), alpha), x


def limit_of(model: keras.Model) -> float:
    ((_, quantizer),) = activation_quantizers(model)
    return quantizer.range[1]


@pytest.mark.parametrize("alpha", ["auto_po2", "auto", "learned_po2"])
def test_a_rule_decides_whether_one_outlier_sets_the_range(alpha):
    model, x = outlier_net(alpha=alpha)
    agreement = {}
    for rule in ("max", "percentile", "entropy"):
        calibrate(model, x, rule)
        logits = np.delete(x, 7, axis=0)
        agreement[rule] = np.mean(outputs(model, logits).argmax(axis=1) == logits.argmax(axis=1))
        assert (limit_of(model) >= 500.0) == (rule == "max")
    assert agreement["max"] < 0.5 and min(agreement["percentile"], agreement["entropy"]) > 0.97


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("alpha", ["auto_po2", "auto"])
def test_the_rule_of_entropy_keeps_values_apart_that_are_few(bits, alpha):
    """Pixels of 7 shades of grey have a level each, so that nothing is lost."""
    x = np.random.default_rng(0).integers(0, 8, (200, 10)).astype(np.float32) / 8
    model = keras.Sequential([keras.Input((10,), name="input"), layers.Flatten(name="flatten")])
    quantized = quantize_model(model, flat_config(model, bits), alpha)
    calibrate(quantized, x, "entropy")
    assert len(np.unique(outputs(quantized, x))) == 8


def test_powers_of_two_are_the_smallest_that_hold_what_the_rule_says():
    model, x = outlier_net()
    for share in (99.0, 99.99, 100.0):
        calibrate(model, x, f"percentile:{share}")
        limit, wanted = limit_of(model), np.quantile(np.abs(x), share / 100)
        assert math.log2(limit / 127).is_integer() and limit / 2 < wanted <= limit
    assert limit == 508.0


def test_real_scales_get_the_percentile_itself():
    model, x = outlier_net(alpha="auto")
    calibrate(model, x, "percentile:99.9")
    assert limit_of(model) == pytest.approx(np.quantile(np.abs(x), 0.999), rel=1e-6)


def test_single_quantizers_have_rules_of_their_own():
    model = identity_net("linear", "linear")
    quantized, x = quantize_model(model, flat_config(model, 8)), data(500)
    x[3] = 100.0
    calibrate(quantized, x, "percentile:99,activation_1=max")
    ranges = {name: quantizer.range[1] for name, quantizer in activation_quantizers(quantized)}
    assert ranges["activation"] < 5.0
    calibrate(quantized, x, "max,activation_1=percentile:99")
    ranges = {name: quantizer.range[1] for name, quantizer in activation_quantizers(quantized)}
    assert ranges["activation"] > 100.0 and ranges["activation_1"] < 5.0
    assert "among activation, activation_1, activation_2. Received: 'logits'" in refusal(
        calibrate, quantized, x, "mse,logits=max"
    )


def test_a_configuration_says_the_rule_of_an_activation():
    model = identity_net("linear")
    config = flat_config(model, 8).with_calibration("mse,activation_1=max")
    assert BitConfig.from_json(config.to_json()) == config
    quantized, x = quantize_model(model, config), data(500)
    x[3] = 100.0
    rules = {name: quantizer.get_config()["calibration"] for name, quantizer in activation_quantizers(quantized)}
    assert rules == {"activation": "mse", "activation_1": "max"}
    calibrate(quantized, x)
    calibrated = dict(activation_quantizers(quantized))["activation_1"].range
    calibrate(quantized, x, "max")
    assert dict(activation_quantizers(quantized))["activation_1"].range == calibrated
    assert config.without_calibration("mse") == config
    assert config.without_calibration("mse,activation_1=max") == flat_config(model, 8)


def test_unknown_rules_are_refused():
    model, x = outlier_net()
    for rule in ("min", "percentile:101", "percentile:x", "entropy:3", "max,", "max,activation", ""):
        assert "calibration must be one of mse, max, percentile, entropy" in refusal(calibrate, model, x, rule)


def test_a_range_that_serves_one_outlier_is_warned_of():
    model, x = outlier_net()
    with pytest.warns(CalibrationWarning, match=r"quantizer 'activation' has a range of which 7.\d bits serve less"):
        calibrate(model, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(model, x, "percentile")
        calibrate(model, np.delete(x, 7, axis=0))


def test_negative_values_at_an_unsigned_input_are_warned_of():
    model = identity_net("relu")
    quantized = quantize_model(model, flat_config(model, 8), placement=Placement(signed_input=False))
    with pytest.warns(CalibrationWarning, match="'activation' is unsigned, and negative values reach it"):
        calibrate(quantized, data())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(quantized, np.abs(data()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite_are_refused_by_input_and_sample(value):
    quantized = quantize_model(identity_net("relu"), flat_config(identity_net("relu"), 8))
    x = data()
    x[5, 2] = value
    before = [quantizer.range for _, quantizer in activation_quantizers(quantized)]
    assert "NaN or infinity in sample 5 of input 'input'" in refusal(calibrate, quantized, x)
    assert before == [quantizer.range for _, quantizer in activation_quantizers(quantized)]


@pytest.mark.slow
def test_values_that_overflow_inside_are_refused_by_quantizer():
    model = identity_net("linear", "linear")
    model.layers[-1].set_weights([np.full((4, 4), 3e38), np.zeros(4)])
    quantized = quantize_model(model, flat_config(model, 8))
    assert "values at quantizer 'activation_2' must be finite" in refusal(calibrate, quantized, np.abs(data()) + 9)
