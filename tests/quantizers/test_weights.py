"""``quantized_bits``: the scales that QKeras loses, its fixed point bit for bit, gradients and state."""

from __future__ import annotations

import json

import keras
import numpy as np
import oracles
import pytest
import qkeras
import strategies
import tensorflow as tf
from gradients import gradient
from hypothesis import given
from hypothesis import strategies as st

from po2quant.bit_config import SCALE_RULE_NAMES
from po2quant.quantizers import SCALE_RULES, quantized_bits

TENSOR_SETTINGS = strategies.TENSOR_SETTINGS
PO2_RULES = ("mse", "max")

STANDARD_ERRORS = 5.0
"""A mean this many standard errors from the truth is biased: chance reaches it once in two million."""


def _normal(shape: tuple[int, ...], sigma: float = 0.05, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, sigma, shape).astype(np.float32)


def _po2(bits: int, **arguments) -> quantized_bits:
    return quantized_bits(bits, bits, 1, 1, alpha="auto_po2", **arguments)


def _stock(bits: int, integer: int, **arguments) -> qkeras.quantizers.quantized_bits:
    return qkeras.quantizers.quantized_bits(bits, integer, 1, 1, **arguments)


# ---------------------------------------------------------------- the scales that QKeras loses


def test_16_bit_kernels_keep_16_bits():
    x = _normal((3, 3, 64, 64))
    assert oracles.relative_rmse(x, _po2(16)(x).numpy()) < 1e-4


def test_stock_16_bit_kernels_keep_about_4_bits():
    x = _normal((3, 3, 64, 64))
    y = _po2(16, scale_rule="stock")(x).numpy()
    assert oracles.relative_rmse(x, y) == pytest.approx(0.108, abs=0.001)
    assert np.mean(y == 0) == pytest.approx(0.138, abs=0.005)


def test_31_bit_biases_survive():
    x = _normal((64,), sigma=0.2)
    assert oracles.relative_rmse(x, _po2(31)(x).numpy()) < 1e-6


def test_stock_31_bit_biases_vanish():
    assert not np.any(_po2(31, scale_rule="stock")(_normal((64,), sigma=0.2)).numpy())


def test_small_16_bit_weights_survive():
    x = _normal((3, 3, 64, 64), sigma=1e-3)
    y = _po2(16)(x).numpy()
    assert oracles.relative_rmse(x, y) < 1e-4
    assert np.mean(y == 0) < 0.01
    assert np.mean(_po2(16, scale_rule="stock")(x).numpy() == 0) > 0.999


@pytest.mark.parametrize("shape", [(3, 3, 64, 64), (3, 3, 64, 1), (512, 32), (1000,)])
def test_8_bit_error_is_the_least_in_every_channel(shape):
    x = _normal(shape)
    x *= np.random.default_rng(1).uniform(0.01, 10, shape[-2:] if shape[-1] == 1 else shape[-1:]).astype(np.float32)
    axes = {4: (0, 1) if shape[-1] == 1 else (0, 1, 2), 2: (0,), 1: (0,)}[len(shape)]
    error = np.sum(np.square(x.astype(np.float64) - _po2(8)(x).numpy()), axis=axes, keepdims=True)
    assert np.all(error <= oracles.least_squared_error(x, 8, axes) * oracles.NEAR_TIE)


# ---------------------------------------------------------------- what every output is


@pytest.mark.parametrize("scale_rule", PO2_RULES)
@TENSOR_SETTINGS
@given(x=strategies.tensors(), bits=st.integers(2, 16))
def test_values_are_the_definition_at_a_power_of_two(scale_rule, x, bits):
    quantizer = _po2(bits, scale_rule=scale_rule)
    fraction, exponent = np.frexp(quantizer.compute_scale(x).numpy())
    np.testing.assert_array_equal(fraction, 0.5)
    largest = 2 ** (bits - 1) - 1
    np.testing.assert_array_equal(quantizer(x), oracles.quantize(x, exponent - 1, -largest, largest))


@pytest.mark.parametrize("scale_rule", PO2_RULES)
@TENSOR_SETTINGS
@given(x=strategies.tensors(), bits=st.integers(2, 32))
def test_quantizing_quantized_weights_changes_nothing(scale_rule, x, bits):
    quantizer = _po2(bits, scale_rule=scale_rule)
    y = quantizer(x).numpy()
    np.testing.assert_array_equal(quantizer(y), y)


@TENSOR_SETTINGS
@given(x=strategies.tensors(), bits=st.integers(2, 16))
def test_the_max_rule_never_clips(x, bits):
    quantizer = _po2(bits, scale_rule="max")
    assert np.all(np.abs(quantizer(x).numpy().astype(np.float64) - x) <= quantizer.compute_scale(x).numpy() / 2)


@pytest.mark.parametrize("scale_rule", PO2_RULES)
def test_ties_go_to_the_even_integer(scale_rule):
    x = np.array([7.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    expected = np.array([7, 0, 2, 2, 0, -2, -2], np.float32)
    for factor in (2.0**-40, 1.0, 2.0**40):
        quantizer = _po2(4, scale_rule=scale_rule)
        np.testing.assert_array_equal(quantizer(x * np.float32(factor)), expected * np.float32(factor))


def test_unsigned_weights_use_every_integer_up_to_the_largest():
    x = np.arange(16, dtype=np.float32) / 64
    for scale_rule in PO2_RULES:
        quantizer = quantized_bits(4, 4, 1, 0, alpha="auto_po2", scale_rule=scale_rule)
        np.testing.assert_array_equal(quantizer(x), x)
        np.testing.assert_array_equal(quantizer(np.append(x, np.float32(-0.1)))[-1], 0.0)


@pytest.mark.parametrize("alpha", ["auto", "auto_po2", None, 0.5])
@pytest.mark.parametrize("bits", [2, 4, 8, 16, 31, 32])
@pytest.mark.parametrize(
    "x",
    [
        np.zeros(4),
        np.full(4, 1e-6),
        np.array([1e30, 1e-6, -1e-6, 0.0]),
        np.array([1e-40, -1e-45, 0.0, 0.0]),
        np.array([1e-40, 1.0, 0.0, 0.0]),
        np.array([1e-36, -3e-37, 0.0, 0.0]),
        np.array([1e-30, -3e-31, 0.0, 0.0]),
        np.array([2.5e38, -1.0, 0.0, 0.0]),
    ],
    ids=["zeros", "1e-6", "outlier", "denormals", "one_denormal", "1e-36", "1e-30", "2.5e38"],
)
def test_extreme_values_stay_finite(x, bits, alpha):
    x = x.astype(np.float32)
    y = quantized_bits(bits, 0, 1, 1, alpha=alpha)(x).numpy()
    assert np.all(np.isfinite(y)), y
    np.testing.assert_array_equal(y[x == 0], 0.0)
    assert np.all(y * np.sign(x) >= 0)


@pytest.mark.parametrize("scale_rule", PO2_RULES)
@pytest.mark.parametrize("magnitude", [1e-30, 1e-12, 1e12, 1e30])
def test_any_magnitude_keeps_its_bits(magnitude, scale_rule):
    x = (_normal((64, 8), sigma=1.0) * magnitude).astype(np.float32)
    assert oracles.relative_rmse(x, _po2(16, scale_rule=scale_rule)(x).numpy()) < 1e-4


def test_ties_go_to_the_even_integer_in_a_graph():
    ties = np.array([7.0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5], np.float32)
    x = np.tile(ties[:, np.newaxis], (1, 8)) * 2.0 ** np.arange(-12, 4, 2, dtype=np.float32)
    expected = np.tile(np.array([[7], [0], [2], [2], [4], [4], [6]]), (1, 8)) * 2.0 ** np.arange(-12, 4, 2)
    np.testing.assert_array_equal(tf.function(_po2(4))(x), expected)


# ---------------------------------------------------------------- stock rule and fixed point: QKeras' numbers


@pytest.mark.parametrize("shape", [(3, 3, 16, 8), (3, 3, 16, 1), (64, 8)])
@pytest.mark.parametrize(("bits", "integer"), [(4, 4), (8, 8), (16, 16), (8, 0), (4, 2)])
def test_the_stock_rule_equals_qkeras(bits, integer, shape):
    x = _normal(shape, sigma=0.3)
    ours = quantized_bits(bits, integer, 1, 1, alpha="auto_po2", scale_rule="stock")
    np.testing.assert_array_equal(ours(x), _stock(bits, integer, alpha="auto_po2")(x))


def test_the_stock_rule_equals_qkeras_with_axis_and_exponent_limits():
    x = _normal((3, 3, 16, 8), sigma=0.3)
    for arguments in ({"scale_axis": 2}, {"min_po2_exponent": -9, "max_po2_exponent": -5}):
        ours = quantized_bits(8, 0, 1, 1, alpha="auto_po2", scale_rule="stock", **arguments)
        np.testing.assert_array_equal(ours(x), _stock(8, 0, alpha="auto_po2", **arguments)(x))


@pytest.mark.parametrize("bits", [4, 8])
def test_the_nearest_rule_is_the_stock_rule_without_its_floor(bits):
    x = _normal((3, 3, 32, 64)) * np.exp2(np.random.default_rng(1).uniform(-3, 3, 64)).astype(np.float32)
    nearest = _po2(bits, scale_rule="nearest")
    stock = quantized_bits(bits, 0, 1, 1, alpha="auto_po2", scale_rule="stock")
    np.testing.assert_array_equal(nearest.compute_scale(x), stock.compute_scale(x))
    assert np.mean(np.abs(nearest(x)) < np.abs(x) - nearest.compute_scale(x) / 2) > 0  # some are clipped


def test_the_stock_rule_follows_bits_in_a_traced_graph():
    x = _normal((64, 8), sigma=0.3)
    quantizer = _po2(8, scale_rule="stock")
    traced = tf.function(quantizer)
    traced(x)
    quantizer.bits = 4
    np.testing.assert_array_equal(traced(x), _stock(4, 8, alpha="auto_po2")(x))


@pytest.mark.parametrize("shape", [(3, 3, 16, 8), (3, 3, 16, 1), (64, 8), (64,)])
def test_the_stock_rule_can_be_frozen(shape):
    x = _normal(shape, sigma=0.3)
    quantizer = _po2(8, scale_rule="stock")
    y = quantizer(x).numpy()
    quantizer.freeze(x)
    np.testing.assert_array_equal(quantizer(x), y)


def test_the_stock_rule_works_in_float64():
    x = _normal((64, 8), sigma=0.3)
    quantizer = _po2(8, scale_rule="stock", dtype="float64")
    np.testing.assert_array_equal(quantizer(x.astype(np.float64)), _stock(8, 8, alpha="auto_po2")(x))


def test_fixed_point_with_one_alpha_per_channel():
    x = (np.linspace(-40, 40, 320).reshape(80, 4) / 16).astype(np.float32)
    alpha = [0.5, 1.0, 2.0, 4.0]
    np.testing.assert_array_equal(quantized_bits(4, 1, alpha=alpha)(x), oracles.quantize(x, -2, -8, 7) * alpha)


def test_fixed_point_equals_the_definition_in_numpy():
    x = np.linspace(-3, 3, 1001).astype(np.float32)
    low, high, exponent = -8, 7, -2  # 4 bits, one of them left of the binary point
    np.testing.assert_array_equal(quantized_bits(4, 1)(x), oracles.quantize(x, exponent, low, high))
    expected = oracles.quantize(x, exponent, low, high).astype(np.float32) * np.float32(0.3)
    np.testing.assert_array_equal(quantized_bits(4, 1, alpha=0.3)(x), expected)


@pytest.mark.parametrize("integer", [31, 32, 40, 100, 126, -40, -94])
def test_fixed_point_of_large_binary_points(integer):
    x = np.array([-3.0, -0.5, 0.5, 1.5, 2.5], np.float32) * np.float32(2.0 ** (integer - 7))
    expected = oracles.quantize(x, integer - 7, -128, 127)
    np.testing.assert_array_equal(quantized_bits(8, integer)(x), expected)


# ---------------------------------------------------------------- choosing the scale


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_auto_scale_is_the_largest_magnitude_over_the_largest_integer(bits):
    x = _normal((3, 3, 16, 8))
    quantizer = quantized_bits(bits, bits, 1, 1, alpha="auto")
    largest = np.float32(2 ** (bits - 1) - 1)
    expected = np.max(np.abs(x), axis=(0, 1, 2), keepdims=True) / largest
    scale = quantizer.compute_scale(x).numpy()
    np.testing.assert_array_equal(scale, expected)
    np.testing.assert_array_equal(quantizer(x), np.rint(x * (np.float32(1) / scale)) * scale)


@pytest.mark.parametrize(
    ("shape", "scale_axis", "scale_shape"),
    [
        ((3, 3, 16, 8), None, (1, 1, 1, 8)),
        ((3, 3, 16, 1), None, (1, 1, 16, 1)),
        ((16, 8), None, (1, 8)),
        ((16,), None, (1,)),
        ((3, 3, 16, 8), 2, (1, 1, 16, 1)),
        ((3, 3, 16, 8), (2, 3), (1, 1, 16, 8)),
        ((3, 3, 16, 8), (), (1, 1, 1, 1)),
        ((16,), 0, (16,)),
    ],
)
@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_scale_axis_keeps_a_scale_for_each_of_its_places(shape, scale_axis, scale_shape, alpha):
    x = _normal(shape) * np.random.default_rng(1).uniform(0.01, 10, shape).astype(np.float32)
    quantizer = quantized_bits(8, 8, 1, 1, alpha=alpha, scale_axis=scale_axis, scale_rule="max")
    scale = quantizer.compute_scale(x).numpy()
    axes = tuple(axis for axis, size in enumerate(scale_shape) if size != shape[axis])
    assert scale.shape == scale_shape
    if alpha == "auto_po2":
        expected = np.exp2(oracles.never_clipping_exponent(x, 8, axes))
    else:
        expected = np.max(np.abs(x), axis=axes, keepdims=True) / np.float32(127)
    np.testing.assert_array_equal(scale, expected)
    quantizer.freeze(x)
    np.testing.assert_array_equal(quantizer.get_config()["frozen_scale"], scale)


def test_an_axis_that_the_weights_lack_is_named():
    with pytest.raises(ValueError, match="scale_axis=2"):
        _po2(8, scale_axis=2)(_normal((4, 4)))


def test_exponent_limits_hold():
    x = _normal((64, 4)) * np.float32([1e-3, 0.1, 1.0, 100.0])
    free = np.log2(_po2(8).compute_scale(x).numpy())
    assert free.min() < -12 and free.max() > -6
    limited = _po2(8, min_po2_exponent=-12, max_po2_exponent=-6)
    np.testing.assert_array_equal(np.log2(limited.compute_scale(x).numpy()), np.clip(free, -12, -6))
    assert np.max(np.abs(limited(x).numpy())) == 127 * 2.0**-6


@pytest.mark.parametrize("arguments", [{"min_po2_exponent": 200}, {"max_po2_exponent": -200}])
def test_exponent_limits_that_no_float_has_give_no_garbage(arguments):
    with pytest.raises(ValueError, match="200"):
        _po2(8, **arguments)(np.ones(4, np.float32))


def test_limits_of_the_exponent_that_cross_are_refused():
    with pytest.raises(ValueError, match=r"must not exceed max_po2_exponent. Received: min_po2_exponent=3, .*=-3"):
        _po2(8, min_po2_exponent=3, max_po2_exponent=-3)


@pytest.mark.parametrize("exponent", [127, -127, -140])
def test_a_stored_power_of_two_whose_reciprocal_no_float_holds_is_refused(exponent):
    with pytest.raises(ValueError, match="frozen_scale must lie in"):
        _po2(8, frozen_scale=2.0**exponent)


@pytest.mark.parametrize("integer", [200, -150, 2.5, True, "8", None])
def test_a_bad_integer_is_named(integer):
    with pytest.raises(ValueError, match="integer"):
        quantized_bits(8, integer)


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_frozen_scale_is_the_scale(alpha):
    x = _normal((64, 2), sigma=1.0)
    given_scale = np.array([[0.25, 0.03125]])
    quantizer = quantized_bits(4, 4, 1, 1, alpha=alpha, frozen_scale=given_scale)
    expected = np.clip(np.rint(x / given_scale), -7, 7) * given_scale
    np.testing.assert_array_equal(quantizer(x), expected)
    assert quantizer.frozen


def test_one_frozen_scale_serves_all_channels():
    x = _normal((64, 2), sigma=1.0)
    np.testing.assert_array_equal(_po2(4, frozen_scale=0.25)(x), np.clip(np.rint(x / 0.25), -7, 7) * 0.25)


def test_frozen_scale_with_another_rank_broadcasts():
    x = _normal((3, 3, 4, 2), sigma=1.0)
    scale = np.array([0.25, 0.125])
    np.testing.assert_array_equal(_po2(4, frozen_scale=scale)(x), np.clip(np.rint(x / scale), -7, 7) * scale)


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("use_ste", [True, False])
@pytest.mark.parametrize("factor", [0.0, 0.25, 0.5, 1.0])
def test_qnoise_factor_mixes_value_and_quantized_value(factor, use_ste):
    x = np.arange(-12, 12, dtype=np.float32) / 64
    y = oracles.quantize(x, -3, -8, 7)
    mixed = quantized_bits(4, 0, qnoise_factor=factor, use_ste=use_ste)(x).numpy()
    np.testing.assert_array_equal(mixed, (1 - factor) * x + factor * y)  # dyadic numbers: exact
    stock = qkeras.quantizers.quantized_bits(4, 0, qnoise_factor=factor, use_ste=use_ste)(x)
    np.testing.assert_array_equal(mixed, stock)


@pytest.mark.parametrize(("use_ste", "expected"), [(True, 1.0), (False, 0.75)])
def test_gradient_of_a_mix(use_ste, expected):
    x = np.linspace(-3, 3, 50).astype(np.float32)
    np.testing.assert_array_equal(gradient(quantized_bits(4, 0, qnoise_factor=0.25, use_ste=use_ste), x), expected)


def test_qnoise_factor_can_be_updated():
    x = _normal((8, 2))
    quantizer = _po2(4, qnoise_factor=0.0)
    np.testing.assert_array_equal(quantizer(x), x)
    quantizer.update_qnoise_factor(1.0)
    np.testing.assert_array_equal(quantizer(x), _po2(4)(x))


@pytest.mark.parametrize("alpha", ["auto_po2", "auto", None])
def test_stochastic_rounding_is_unbiased_in_training(alpha):
    tf.random.set_seed(1)
    values = np.array([-0.8, -0.51, -0.26, 0.07, 0.13, 0.5, 0.77], np.float32)
    repeats = 20_000
    x = np.tile(values, (repeats, 1))
    x[0, :] = 1.0 if alpha else 0.5  # the largest: the same scale for every column
    quantizer = quantized_bits(4, 0, 1, 1, alpha=alpha, use_stochastic_rounding=True, scale_rule="max")
    scale = np.broadcast_to(quantizer.compute_scale(x).numpy(), (1, values.size))[0]
    y = quantizer(x, training=True).numpy()[1:]
    floor = np.floor(values / scale) * scale
    above = np.isclose(y, floor + scale)
    assert np.all(above | np.isclose(y, floor))  # only the two neighbours
    probability = values / scale - np.floor(values / scale)
    error = np.sqrt(probability * (1 - probability) / repeats)
    assert np.all(np.abs(above.mean(axis=0) - probability) <= STANDARD_ERRORS * error + 1 / repeats)


def test_stochastic_rounding_is_deterministic_in_inference():
    x = _normal((64, 8))
    quantizer = _po2(4, use_stochastic_rounding=True)
    for training in (False, None):
        np.testing.assert_array_equal(quantizer(x, training=training), _po2(4)(x))
    assert np.any(quantizer(x, training=True).numpy() != _po2(4)(x).numpy())


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize(("symmetric", "keep_negative", "low", "high"), [(0, 1, -8, 7), (1, 1, -7, 7), (0, 0, 0, 15)])
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_gradient_is_zero_where_fixed_point_clips(symmetric, keep_negative, low, high, alpha):
    x = np.linspace(-3, 3, 601).astype(np.float32)
    upstream = np.random.default_rng(0).normal(0, 1, x.shape).astype(np.float32)
    inside = (np.rint(x.astype(np.float64) / 2.0 ** (keep_negative - 3)) >= low) & (
        np.rint(x.astype(np.float64) / 2.0 ** (keep_negative - 3)) <= high
    )
    assert 0 < inside.mean() < 1
    factor = np.float32(alpha or 1.0)
    quantizer = quantized_bits(4, 1, symmetric, keep_negative, alpha=alpha)
    np.testing.assert_array_equal(gradient(quantizer, x, upstream), np.where(inside, upstream * factor, 0))
    whole = quantized_bits(4, 1, symmetric, keep_negative, alpha=alpha, clipped_gradient=False)
    np.testing.assert_array_equal(gradient(whole, x, upstream), upstream * factor)


def test_gradient_is_zero_for_the_outlier_that_the_mse_rule_clips():
    x = _normal((1000, 3), sigma=1.0)
    x[0] = [8.0, -8.0, 0.0]
    upstream = _normal(x.shape, sigma=1.0, seed=1)
    best = oracles.never_clipping_exponent(x, 4, (0,))
    errors = [oracles.squared_error(x, best - k, 4, (0,)) for k in range(oracles.SEARCH_DEPTH)]
    best -= np.argmin(errors, axis=0)
    inside = np.abs(np.rint(np.ldexp(x.astype(np.float64), -best))) <= 7
    assert not inside[0, :2].any() and inside.mean() > 0.99
    np.testing.assert_array_equal(gradient(_po2(4), x, upstream), np.where(inside, upstream, 0))
    np.testing.assert_array_equal(gradient(_po2(4, clipped_gradient=False), x, upstream), upstream)


@pytest.mark.parametrize("arguments", [{"alpha": "auto"}, {"alpha": "auto_po2", "scale_rule": "max"}])
def test_gradient_is_one_where_nothing_clips(arguments):
    x = _normal((64, 8))
    np.testing.assert_array_equal(gradient(quantized_bits(4, 0, 1, 1, **arguments), x), np.ones_like(x))


def test_gradient_in_a_graph_equals_the_eager_one():
    x = _normal((1000, 2), sigma=1.0)
    x[0] = 8.0
    quantizer = _po2(4)
    np.testing.assert_array_equal(gradient(tf.function(quantizer), x), gradient(quantizer, x))


def test_gradient_of_frozen_weights_is_zero_where_they_left_the_range():
    quantizer = _po2(4, scale_rule="max")
    quantizer.freeze(np.full((2, 1), 7.0, np.float32))
    x = np.array([[3.2], [7.4], [7.6], [-30.0]], np.float32)
    np.testing.assert_array_equal(gradient(quantizer, x), [[1], [1], [0], [0]])


# ---------------------------------------------------------------- float64


@pytest.mark.parametrize("arguments", [{"alpha": "auto_po2"}, {"alpha": "auto_po2", "scale_rule": "max"}, {}])
@pytest.mark.parametrize("bits", [4, 8, 16, 31, 32])
def test_float64_quantizers_compute_in_float64(bits, arguments):
    x = np.random.default_rng(0).normal(0, 0.3, (100, 4))
    quantizer = quantized_bits(bits, 0, 1, 1, dtype="float64", **arguments)
    y = quantizer(x)
    assert y.dtype == tf.float64
    exponent = np.frexp(quantizer.compute_scale(tf.constant(x)).numpy())[1] - 1
    largest = 2 ** (bits - 1) - 1
    np.testing.assert_array_equal(y, oracles.quantize(x, exponent, -largest, largest))
    assert np.all(gradient(quantizer, x) == (np.abs(np.rint(np.ldexp(x, -exponent))) <= largest))


def test_float64_auto_scale_in_float64():
    x = np.random.default_rng(0).normal(0, 0.3, (100, 4))
    quantizer = quantized_bits(16, 0, 1, 1, alpha="auto", dtype="float64")
    np.testing.assert_array_equal(quantizer.compute_scale(tf.constant(x)), np.abs(x).max(0, keepdims=True) / 32767)
    quantizer.freeze(tf.constant(x))
    np.testing.assert_array_equal(quantizer.get_config()["frozen_scale"], np.abs(x).max(0, keepdims=True) / 32767)


# ---------------------------------------------------------------- state: frozen scales, widths


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_a_frozen_scale_stays_when_weights_move(alpha):
    x = _normal((64, 8))
    quantizer = quantized_bits(8, 8, 1, 1, alpha=alpha)
    scale = quantizer.compute_scale(x).numpy()
    live = quantizer(x).numpy()
    quantizer.freeze(x)
    assert quantizer.frozen
    np.testing.assert_array_equal(quantizer(x), live)
    moved = 3 * x
    np.testing.assert_array_equal(
        quantizer(moved), np.clip(np.rint(moved * (np.float32(1) / scale)), -127, 127) * scale
    )
    quantizer.unfreeze()
    assert not quantizer.frozen
    np.testing.assert_array_equal(quantizer(moved), quantized_bits(8, 8, 1, 1, alpha=alpha)(moved))


def test_freezing_reaches_a_traced_graph():
    x = _normal((64, 8))
    quantizer = _po2(8)
    traced = tf.function(quantizer)
    np.testing.assert_array_equal(traced(3 * x), _po2(8)(3 * x))
    quantizer.freeze(x)
    np.testing.assert_array_equal(traced(3 * x), quantizer(3 * x))
    assert np.any(traced(3 * x).numpy() != _po2(8)(3 * x).numpy())


def test_a_quantizer_can_be_frozen_before_its_first_call():
    x = _normal((64, 8))
    quantizer = _po2(8)
    quantizer.freeze(x)
    np.testing.assert_array_equal(quantizer(x), _po2(8)(x))


def test_unfreezing_forgets_a_given_scale():
    x = _normal((64, 8))
    for call_first in (True, False):
        quantizer = _po2(8, frozen_scale=0.5)
        if call_first:
            quantizer(x)
        quantizer.unfreeze()
        np.testing.assert_array_equal(quantizer(x), _po2(8)(x))
        assert quantizer.get_config()["frozen_scale"] is None


def test_fixed_point_has_nothing_to_freeze():
    x = _normal((64, 8))
    quantizer = quantized_bits(8, 0)
    quantizer.freeze(x)
    assert not quantizer.frozen
    quantizer.unfreeze()
    np.testing.assert_array_equal(quantizer(x), quantized_bits(8, 0)(x))


# ---------------------------------------------------------------- constructor and configuration


def test_one_bit_without_sign_is_valid():
    x = np.array([-1.0, 0.2, 0.6, 1.0, 9.0], np.float32)
    np.testing.assert_array_equal(quantized_bits(1, 1, 0, 0)(x), [0, 0, 1, 1, 1])


def test_configuration_follows_bits_and_frozen_scale():
    x = _normal((64, 8))
    quantizer = _po2(8)
    quantizer.bits = 5
    quantizer.freeze(x)
    copy = quantized_bits.from_config(json.loads(json.dumps(quantizer.get_config())))
    assert copy.bits == 5
    np.testing.assert_array_equal(copy(3 * x), quantizer(3 * x))
    assert copy.frozen


def test_numpy_numbers_are_arguments_that_can_be_saved():
    quantizer = quantized_bits(np.int64(8), np.int64(1), np.bool_(True), np.bool_(True), np.float32(0.5))
    for original in (quantizer, _po2(8, min_po2_exponent=np.int64(-9), qnoise_factor=np.float32(0.5))):
        text = json.dumps(keras.saving.serialize_keras_object(original))
        copy = keras.saving.deserialize_keras_object(json.loads(text))
        np.testing.assert_array_equal(copy(_normal((16, 4))), original(_normal((16, 4))))


def test_limits_that_qkeras_asks_for():
    assert (quantized_bits(8, 2).max(), quantized_bits(8, 2).min()) == (4.0, -4.0)
    assert (quantized_bits(8, 0, 0, 0).max(), quantized_bits(8, -2, 0, 0).min()) == (1.0, 0.0)
    for arguments in [(8, 0), (8, 3), (8, -1), (4, 1, 0, 0)]:
        stock = qkeras.quantizers.quantized_bits(*arguments)
        assert (quantized_bits(*arguments).max(), quantized_bits(*arguments).min()) == (stock.max(), stock.min())


def test_each_scale_rule_that_a_command_may_name_is_in_the_table():
    assert tuple(SCALE_RULES) == SCALE_RULE_NAMES
