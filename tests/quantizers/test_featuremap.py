"""``quantized_bits_featuremap``: ranges that training moves, calibration, per-sample scales, the affine map."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import strategies
import tensorflow as tf
from gradients import gradient
from hypothesis import given
from hypothesis import strategies as st
from refusals import complaint

from po2quant.fixed_point import ROUNDING_MODES, integer_range, round_to_integer
from po2quant.quantizers import affine_scale, quantized_bits_featuremap

TENSOR_SETTINGS = strategies.TENSOR_SETTINGS

ROUNDING_OF_FLOAT32_IN_LSB = 1e-3
"""A scale in float32 is off by at most 1e-7 of itself, a value of up to 255 LSB by less than this."""

CALIBRATED_FRACTIONS = [2.0 ** (-quarter / 4) for quarter in range(13)]


def _featuremap(bits: int = 8, keep_negative: int = 1, symmetric: int = 1, **arguments) -> quantized_bits_featuremap:
    return quantized_bits_featuremap(bits, bits, symmetric, keep_negative, **({"alpha": "auto_po2"} | arguments))


def _with_range(minimum: float, maximum: float, *arguments, **keywords) -> quantized_bits_featuremap:
    quantizer = _featuremap(*arguments, **keywords)
    quantizer.set_range(minimum, maximum)
    return quantizer


def _normal(shape: tuple[int, ...], sigma: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, sigma, shape).astype(np.float32)


def _range_of(x: np.ndarray) -> tuple[float, float]:
    return min(float(x.min()), 0.0), max(float(x.max()), 0.0)


def _static_po2(x: np.ndarray, limit: float, bits: int, signed: bool = True) -> np.ndarray:
    """Return the definition: the smallest exponent that holds ``limit``, rounding to even, symmetric clipping."""
    largest = oracles.largest_magnitude(bits, signed)
    return oracles.quantize(x, oracles.smallest_exponent(limit, largest), -largest if signed else 0, largest)


def _squared_error(quantizer: quantized_bits_featuremap, x: np.ndarray) -> float:
    return np.sum(np.square(x.astype(np.float64) - quantizer(x).numpy()))


# ---------------------------------------------------------------- where the range comes from


def test_an_unknown_range_is_that_of_the_batch():
    quantizer = _featuremap()
    for sigma in (0.01, 30.0):
        x = _normal((4, 6), sigma)
        np.testing.assert_array_equal(quantizer(x), _static_po2(x, np.abs(x).max(), 8))
        assert quantizer.range == (0.0, 0.0)


def test_the_first_training_batch_initialises_the_range():
    for momentum in (0.0, 0.9, 0.99):
        x, quantizer = _normal((4, 6)), _featuremap(momentum=momentum)
        quantizer(x, training=True)
        assert quantizer.range == _range_of(x)


def test_an_all_zero_first_batch_leaves_the_range_unknown():
    quantizer = _featuremap()
    np.testing.assert_array_equal(quantizer(np.zeros((2, 3), np.float32), training=True), 0)
    x = _normal((4, 6))
    quantizer(x, training=True)
    assert quantizer.range == _range_of(x)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_moves_the_range_by_the_momentum_exactly(momentum, dtype):
    quantizer = _featuremap(momentum=momentum, dtype=np.dtype(dtype).name)
    expected = None
    for step in range(6):
        x = _normal((4, 6), sigma=1 + step, seed=step).astype(dtype)
        quantizer(x, training=True)
        batch = np.array([min(x.min(), 0), max(x.max(), 0)], dtype)
        past = dtype(momentum)
        expected = batch if expected is None else past * expected + (dtype(1) - past) * batch
        assert quantizer.range == tuple(expected.tolist()), step


def test_the_moved_range_quantizes_the_batch_that_moved_it():
    quantizer = _with_range(-1.0, 1.0, momentum=0.5)
    x = np.array([[-3.0, 0.1, 7.0]], np.float32)
    y = quantizer(x, training=True)
    assert quantizer.range == (-2.0, 4.0)
    np.testing.assert_array_equal(y, _static_po2(x, 4.0, 8))


@pytest.mark.parametrize(("x", "expected"), [([[2.0, 5.0]], (0.0, 5.0)), ([[-5.0, -2.0]], (-5.0, 0.0))])
def test_a_range_always_holds_zero(x, expected):
    quantizer = _featuremap()
    quantizer(np.array(x, np.float32), training=True)
    assert quantizer.range == expected
    quantizer.set_range(np.min(x), np.max(x))
    assert quantizer.range == expected


@pytest.mark.parametrize("training", [False, None])
def test_inference_never_moves_the_range(training):
    for quantizer in (_featuremap(), _with_range(-1.0, 2.0)):
        before = quantizer.range
        quantizer(_normal((4, 6), sigma=100.0), training=training)
        assert quantizer.range == before


def test_a_frozen_range_stays():
    quantizer = _with_range(-1.0, 2.0, momentum=0.5)
    quantizer.frozen = True
    x = _normal((4, 6), sigma=100.0)
    y = quantizer(x, training=True)
    assert quantizer.frozen and quantizer.range == (-1.0, 2.0)
    np.testing.assert_array_equal(y, _static_po2(x, 2.0, 8))
    quantizer.frozen = False
    quantizer(x, training=True)
    assert quantizer.range != (-1.0, 2.0)


def test_a_range_frozen_at_zero_stays():
    quantizer = _featuremap()
    quantizer.calibrate(np.zeros((2, 3), np.float32))
    quantizer.frozen = True
    quantizer(_normal((4, 6)), training=True)
    assert quantizer.range == (0.0, 0.0)


def test_the_range_follows_training_in_a_graph():
    quantizer = _featuremap(momentum=0.5)
    train = tf.function(lambda x: quantizer(x, training=True))
    train(np.array([[-1.0, 2.0]], np.float32))
    assert quantizer.range == (-1.0, 2.0)
    train(np.array([[-3.0, 1.0]], np.float32))
    assert quantizer.range == (-2.0, 1.5)
    quantizer.frozen = True
    train(np.array([[-30.0, 10.0]], np.float32))
    assert quantizer.range == (-2.0, 1.5)


@pytest.mark.parametrize(
    ("minimum", "maximum"), [(1.0, -1.0), (0.0, np.inf), (-np.inf, 0.0), (np.nan, 1.0), (0.0, np.nan)]
)
def test_a_range_out_of_order_or_infinite_is_named(minimum, maximum):
    quantizer = _with_range(-1.0, 2.0)
    with pytest.raises(ValueError, match="finite and ascending") as error:
        quantizer.set_range(minimum, maximum)
    assert f"[{minimum}, {maximum}]" in str(error.value)
    assert quantizer.range == (-1.0, 2.0)


@TENSOR_SETTINGS
@given(x=strategies.tensors(strategies.activation_shapes), bits=st.integers(2, 16), limit=st.floats(1e-6, 1e6))
def test_static_scales_quantize_by_the_definition(x, bits, limit):
    limit = float(np.float32(limit))
    np.testing.assert_array_equal(_with_range(-limit, limit / 2, bits)(x), _static_po2(x, limit, bits))
    np.testing.assert_array_equal(_with_range(-limit, limit, bits, 0)(x), _static_po2(x, limit, bits, signed=False))


def test_an_unsigned_range_is_set_by_its_maximum_alone():
    assert _with_range(-100.0, 1.0, 8, 0).scale == 2.0**-7
    assert _with_range(-100.0, 1.0, 8, 1).scale == 1.0


@pytest.mark.parametrize("keep_negative", [True, False])
@pytest.mark.parametrize("integer", [0, 2, -1])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_fixed_point_has_a_step_instead_of_a_range(bits, integer, keep_negative):
    for alpha in (None, 0.5):
        quantizer = quantized_bits_featuremap(bits, integer, 1, keep_negative, alpha)
        quantizer(_normal((4, 6)), training=True)
        assert quantizer.scale == 2.0 ** (integer - bits + keep_negative)
        assert not quantizer.is_static and not quantizer.frozen


# ---------------------------------------------------------------- integers


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10])
@pytest.mark.parametrize("exponent", [-9, 0, 3])
@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_unsigned_ranges_reach_all_their_levels(bits, exponent, alpha):
    levels = np.arange(2**bits, dtype=np.float32) * np.float32(2.0**exponent)
    quantizer = _featuremap(bits, 0, alpha=alpha)
    np.testing.assert_array_equal(quantizer(levels[np.newaxis])[0], levels)
    quantizer.set_range(0.0, float(levels[-1]))
    assert quantizer.scale == 2.0**exponent
    x = np.linspace(-levels[-1], 2 * levels[-1], 7 * 2**bits, dtype=np.float32)[np.newaxis]
    assert set(np.unique(quantizer(x))) == set(levels.tolist())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_signed_ranges_use_the_symmetric_levels(bits):
    largest = 2 ** (bits - 1) - 1
    x = np.linspace(-2.0 * largest, 2.0 * largest, 64 * largest, dtype=np.float32)[np.newaxis]
    levels = np.unique(_with_range(-largest, largest, bits)(x))
    np.testing.assert_array_equal(levels, np.arange(-largest, largest + 1))


def test_ties_go_to_the_even_integer():
    x = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 126.5, 127.5]], np.float32)
    expected = [[-2, -2, 0, 0, 2, 2, 126, 127]]
    quantizer = _with_range(-127.0, 127.0)
    np.testing.assert_array_equal(quantizer(x), expected)
    np.testing.assert_array_equal(tf.function(quantizer)(x), expected)


@pytest.mark.parametrize("bits", [2, 8, 16])
@pytest.mark.parametrize("signed", [True, False])
def test_auto_scale_is_the_range_over_the_largest_integer(bits, signed):
    x = _normal((4, 8))
    limit = np.abs(x).max() if signed else x.max()
    quantizer = _featuremap(bits, int(signed), alpha="auto")
    largest = np.float32(oracles.largest_magnitude(bits, signed))
    scale = limit / largest
    low = -largest if signed else 0
    expected = np.clip(np.rint(x * (np.float32(1) / scale)), low, largest) * scale
    np.testing.assert_array_equal(quantizer(x), expected)


# ---------------------------------------------------------------- calibration


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("kind", ["normal", "laplace", "relu", "heavy", "outlier"])
def test_calibration_finds_the_exponent_of_least_squared_error(kind, signed, bits):
    rng = np.random.default_rng(0)
    x = {
        "normal": lambda: rng.normal(0, 0.3, 8000),
        "laplace": lambda: rng.laplace(0, 3.0, 8000),
        "relu": lambda: np.maximum(rng.normal(-0.5, 1.0, 8000), 0),
        "heavy": lambda: rng.standard_t(2, 8000),
        "outlier": lambda: np.append(rng.normal(0, 1, 7999), 60.0),
    }[kind]()
    x = x.reshape(10, -1).astype(np.float32)
    x = x if signed else np.abs(x)
    quantizer = _featuremap(bits, int(signed))
    quantizer.calibrate(x)
    least = oracles.least_squared_error(x, bits, (0, 1), signed).item()
    assert _squared_error(quantizer, x) <= least * oracles.NEAR_TIE


@TENSOR_SETTINGS
@given(x=strategies.tensors(strategies.activation_shapes), bits=st.integers(2, 16), signed=st.booleans())
def test_calibration_is_best_for_any_activations(x, bits, signed):
    x = x if signed else np.abs(x)
    quantizer = _featuremap(bits, int(signed))
    quantizer.calibrate(x)
    least = oracles.least_squared_error(x, bits, tuple(range(x.ndim)), signed).item()
    assert _squared_error(quantizer, x) <= least * oracles.NEAR_TIE
    assert quantizer.scale == np.exp2(np.round(np.log2(quantizer.scale)))


def test_calibration_of_a_large_tensor_clips_a_far_outlier():
    x = _normal((100, 10_000))
    x[0, 0] = 512.0
    quantizer = _featuremap(4)
    quantizer.calibrate(x)
    assert _squared_error(quantizer, x) <= 1.05 * oracles.least_squared_error(x, 4, (0, 1)).item()


def test_unsigned_calibration_is_not_led_by_negative_values_that_it_cannot_hold():
    x = np.abs(_normal((10, 100), sigma=0.1))
    x[0, 0] = -1000.0
    quantizer = _featuremap(8, 0)
    quantizer.calibrate(x)
    kept = np.maximum(x, 0)
    error = np.sum(np.square(kept.astype(np.float64) - quantizer(x).numpy()))
    assert error <= oracles.least_squared_error(kept, 8, (0, 1), signed=False).item() * oracles.NEAR_TIE


@pytest.mark.parametrize("bits", [4, 8, 16, 24, 26, 31, 32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calibration_of_either_dtype_gives_the_exponent_that_holds_the_values(bits, dtype):
    x = np.array([[0.9, -0.3]], dtype)  # no exponent below that of the max rule can be better for two values
    quantizer = _featuremap(bits)
    quantizer.calibrate(x)
    assert quantizer.scale == 2.0 ** (1 - bits)


def test_calibration_of_zeros_gives_zeros():
    for arguments in ({}, {"keep_negative": 0}, {"alpha": "auto"}, {"alpha": "auto", "symmetric": 0}):
        quantizer = _featuremap(**arguments)
        quantizer.calibrate(np.zeros((2, 3), np.float32))
        assert quantizer.range == (0.0, 0.0)
        assert np.isfinite(quantizer.scale) and quantizer.scale > 0
        np.testing.assert_array_equal(quantizer(np.zeros((2, 3), np.float32)), 0)


@pytest.mark.parametrize(("signed", "symmetric"), [(1, 1), (0, 1), (1, 0)])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_auto_calibration_finds_the_best_of_the_searched_fractions(bits, signed, symmetric):
    x = np.random.default_rng(0).standard_t(3, (20, 200)).astype(np.float32) + np.float32(0.5)
    x = x if signed else np.abs(x)
    quantizer = _featuremap(bits, signed, alpha="auto", affine=not symmetric)
    quantizer.calibrate(x)
    low, high = (-(2 ** (bits - 1)) + symmetric, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def error(fraction: float) -> float:
        smallest, largest = fraction * min(x.min(), 0), fraction * max(x.max(), 0)
        if symmetric:
            scale, zero_point = max(largest, -smallest if signed else 0) / high, 0
        else:
            scale = (largest - smallest) / (high - low)
            zero_point = np.rint(low - smallest / scale)
        y = (np.clip(np.rint(x.astype(np.float64) / scale) + zero_point, low, high) - zero_point) * scale
        return float(np.mean(np.square(x - y)))

    errors = [error(fraction) for fraction in CALIBRATED_FRACTIONS]
    assert min(errors) < 0.9 * errors[0], "the data must reward clipping, or this test proves nothing"
    best = CALIBRATED_FRACTIONS[int(np.argmin(errors))]
    np.testing.assert_allclose(quantizer.range, best * np.array(_range_of(x)), rtol=1e-6)  # float32


def test_calibration_sets_a_range_that_inference_uses():
    x = _normal((50, 40))
    quantizer = _featuremap(4)
    quantizer.calibrate(x)
    exponent = round(np.log2(quantizer.scale))
    other = _normal((5, 4), sigma=9.0, seed=1)
    np.testing.assert_array_equal(quantizer(other), oracles.quantize(other, exponent, -7, 7))


def test_calibration_leaves_a_quantizer_without_static_range_alone():
    x = _normal((4, 6))
    for arguments in ({"scale_axis": 0}, {"alpha": None}):
        quantizer = _featuremap(**arguments)
        before = quantizer(x).numpy()
        quantizer.calibrate(100 * x)
        np.testing.assert_array_equal(quantizer(x), before)


def test_calibration_refuses_nan():
    with pytest.raises(ValueError, match="finite"):
        _featuremap().calibrate(np.array([[1.0, np.nan]], np.float32))


# ---------------------------------------------------------------- one scale per sample


@pytest.mark.parametrize("shape", [(7,), (7, 5), (12, 4, 4, 3)])
@pytest.mark.parametrize(
    "arguments", [{}, {"keep_negative": 0}, {"alpha": "auto"}, {"alpha": "auto", "symmetric": 0}], ids=str
)
def test_every_sample_gets_its_own_scale(shape, arguments):
    magnitudes = np.logspace(-4, 4, shape[0]).astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
    x = _normal(shape) * magnitudes
    quantizer = _featuremap(scale_axis=0, **arguments)
    expected = np.concatenate([_featuremap(scale_axis=0, **arguments)(x[i : i + 1]) for i in range(shape[0])])
    alone = np.concatenate([_featuremap(**arguments)(x[i : i + 1]) for i in range(shape[0])])
    for training in (False, True):
        np.testing.assert_array_equal(quantizer(x, training=training), expected)
    np.testing.assert_array_equal(expected, alone)
    np.testing.assert_array_equal(tf.function(quantizer)(x), expected)


def test_per_sample_po2_scales_follow_the_definition():
    x = _normal((9, 30)) * np.logspace(-4, 4, 9)[:, np.newaxis].astype(np.float32)
    expected = [_static_po2(row, np.abs(row).max(), 8) for row in x]
    np.testing.assert_array_equal(_featuremap(scale_axis=0)(x), expected)


def test_per_sample_scales_have_no_state():
    quantizer = _featuremap(scale_axis=0)
    assert not quantizer.is_static and not quantizer.frozen
    quantizer.frozen = True
    assert not quantizer.frozen
    assert [variable.name for variable in quantizer.variables] == ["bit_width"]


# ---------------------------------------------------------------- the affine map

RANGES = [(-1.0, 3.0), (-3.0, 1.0), (0.0, 5.0), (-5.0, 0.0), (-0.1, 100.0), (2.0, 5.0), (-5.0, -2.0), (-1.28, 1.27)]


@pytest.mark.parametrize(("minimum", "maximum"), RANGES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_affine_quantization_follows_the_formula(bits, minimum, maximum):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    minimum, maximum = np.float32(minimum), np.float32(maximum)
    start, end = min(float(minimum), 0.0), max(float(maximum), 0.0)
    scale = (end - start) / (high - low)
    zero_point = np.clip(np.rint((end * low - start * high) / (end - start)), low, high)
    x = np.linspace(start - 1, end + 1, 997).astype(np.float32)
    steps = x.astype(np.float64) / scale
    expected = (np.clip(np.rint(steps) + zero_point, low, high) - zero_point) * scale
    clear = np.abs(np.abs(steps - np.rint(steps)) - 0.5) > ROUNDING_OF_FLOAT32_IN_LSB  # no ties
    assert clear.mean() > 0.9
    y = _with_range(minimum, maximum, bits, affine=True, alpha="auto")(x[np.newaxis]).numpy()[0]
    np.testing.assert_allclose(y[clear], expected[clear], rtol=0, atol=ROUNDING_OF_FLOAT32_IN_LSB * scale)
    assert len(np.unique(y)) == 2**bits


@pytest.mark.parametrize(("minimum", "maximum"), RANGES)
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_zero_is_exact_under_an_affine_map(bits, minimum, maximum):
    quantizer = _with_range(minimum, maximum, bits, affine=True, alpha="auto")
    np.testing.assert_array_equal(quantizer(np.zeros((1, 3), np.float32)), 0.0)


def test_affine_scale_and_zero_point_of_known_ranges():
    scale, zero_point = affine_scale(
        *(tf.constant(v) for v in ([-1.0, 0.0, 2.0, 0.0], [1.55, 2.55, 2.55, 0.0], -128.0, 127.0))
    )
    np.testing.assert_allclose(scale, [0.01, 0.01, 0.01, 1.0], rtol=1e-6)  # float32
    np.testing.assert_array_equal(zero_point, [-28, -128, -128, 0])


def test_affine_levels_are_an_integer_grid_through_zero():
    quantizer = _with_range(-1.0, 3.0, 4, affine=True, alpha="auto")
    levels = np.unique(quantizer(np.linspace(-2, 4, 500, dtype=np.float32)[np.newaxis]))
    integers = levels.astype(np.float64) / quantizer.scale
    np.testing.assert_allclose(integers, np.rint(integers), rtol=0, atol=ROUNDING_OF_FLOAT32_IN_LSB)
    np.testing.assert_array_equal(np.rint(integers), np.arange(-4, 12))


def test_symmetric_or_unsigned_maps_are_not_affine():
    assert _featuremap(affine=True, alpha="auto").is_affine
    for arguments in ({"alpha": "auto"}, {"alpha": "auto", "symmetric": 0, "keep_negative": 0}, {"symmetric": 0}):
        assert not _featuremap(**arguments).is_affine


def test_the_affine_range_follows_a_batch_that_is_not_centred():
    x = np.linspace(-1, 9, 400, dtype=np.float32).reshape(4, 100)
    affine, symmetric = _featuremap(affine=True, alpha="auto"), _featuremap(alpha="auto")
    assert oracles.relative_rmse(x, affine(x)) < 0.6 * oracles.relative_rmse(x, symmetric(x))


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    ("arguments", "low", "high", "step"),
    [
        ({}, -7, 7, 0.25),
        ({"keep_negative": 0}, 0, 15, 0.125),
        ({"alpha": "auto"}, -7, 7, 1.75 / 7),
        ({"alpha": None, "symmetric": 0}, -8, 7, 2.0),
    ],
    ids=str,
)
def test_gradient_is_zero_where_values_are_clipped(arguments, low, high, step):
    x = np.linspace(-40, 40, 640, dtype=np.float32)[np.newaxis] * np.float32(step)
    upstream = _normal(x.shape, seed=1)
    integers = np.rint(x.astype(np.float64) / step)
    inside = (integers >= low) & (integers <= high)
    assert 0.1 < inside.mean() < 0.9
    quantizer = _featuremap(4, **arguments)
    whole = _featuremap(4, **arguments, clipped_gradient=False)
    for each in (quantizer, whole):
        if each.is_static:
            each.set_range(-1.75, 1.75)
            each.frozen = True
    for training in (False, True):
        np.testing.assert_array_equal(
            gradient(quantizer, x, upstream, training=training), np.where(inside, upstream, 0)
        )
        np.testing.assert_array_equal(gradient(whole, x, upstream, training=training), upstream)


def test_affine_gradient_is_zero_where_values_are_clipped():
    quantizer = _with_range(-1.0, 3.0, 4, affine=True, alpha="auto")  # step 4/15: integers -4..11
    x = np.linspace(-3, 5, 800, dtype=np.float32)[np.newaxis]
    integers = np.rint(x.astype(np.float64) / (4 / 15))
    np.testing.assert_array_equal(gradient(quantizer, x), (integers >= -4) & (integers <= 11))


@pytest.mark.parametrize("scale_axis", [None, 0])
@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_gradient_is_one_within_the_range_of_the_batch(alpha, scale_axis):
    x = _normal((4, 50))
    quantizer = _featuremap(alpha=alpha, scale_axis=scale_axis)
    np.testing.assert_array_equal(gradient(quantizer, x, training=True), np.ones_like(x))


@pytest.mark.parametrize("keep_negative", [0, 1])
@pytest.mark.parametrize("clipped_gradient", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_relu_that_is_taken_along_in_a_graph_changes_nothing(keep_negative, clipped_gradient, training, frozen):
    edges = np.array([0.0, -0.0, 1e-30, -1e-30, 15.0, 15.5, 16.0, -7.5, 7.5, np.nan, np.inf, -np.inf], np.float32)
    x = np.concatenate([edges / 16, _normal((6000,), 0.7)]) if frozen else _normal((6000,), 0.7)
    upstream = _normal(x.shape, seed=1)
    results = []
    for compiled in (tf.function, lambda function: function):
        quantizer = _with_range(0.0, 15 / 16, 4, keep_negative, clipped_gradient=clipped_gradient)
        quantizer.frozen = frozen
        relu_then_quantize = compiled(lambda x, quantizer=quantizer: quantizer(tf.nn.relu(x), training=training))
        results.append((relu_then_quantize(x), gradient(relu_then_quantize, x, upstream), quantizer.range))
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_other_readers_of_a_relu_keep_their_gradient():
    x, quantizer = np.array([-1.0, 0.0, 0.5, 9.0], np.float32), _with_range(0.0, 1.0, 4, 0)

    @tf.function
    def residual(x):
        rectified = tf.nn.relu(x)
        return quantizer(rectified) + 2.0 * rectified

    np.testing.assert_array_equal(gradient(residual, x), [0, 0, 3, 2])


def test_gradient_of_unsigned_is_zero_below_zero():
    x = np.array([[-3.0, -0.01, 0.0, 0.01, 2.0]], np.float32)  # step 2/255, half of it 0.004
    np.testing.assert_array_equal(gradient(_featuremap(8, 0), x), [[0, 0, 1, 1, 1]])


# ---------------------------------------------------------------- dtypes, extremes


@pytest.mark.parametrize("arguments", [{}, {"keep_negative": 0}, {"scale_axis": 0}], ids=str)
@pytest.mark.parametrize("bits", [2, 8, 16, 31])
def test_float64_quantizers_compute_in_float64(bits, arguments):
    x = np.random.default_rng(0).normal(0, 0.3, (1, 400))
    y = _featuremap(bits, **arguments, dtype="float64")(x)
    signed = arguments.get("keep_negative", 1) == 1
    assert y.dtype == tf.float64
    np.testing.assert_array_equal(y, _static_po2(x, np.abs(x).max() if signed else x.max(), bits, signed))


def test_a_float64_range_keeps_float64():
    quantizer = _featuremap(16, alpha="auto", dtype="float64")
    quantizer(np.array([[0.1, -0.3]]), training=True)
    assert quantizer.range == (-0.3, 0.1)


@pytest.mark.parametrize(
    "arguments", [{}, {"alpha": "auto"}, {"alpha": "auto", "symmetric": 0}, {"keep_negative": 0}], ids=str
)
@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("scale_axis", [None, 0])
@pytest.mark.parametrize(
    "x",
    [[0.0, 0.0], [1e-6, 0.0], [1e-36, 0.0], [1e-40, 0.0], [1e30, -1e-6], [2.5e38, 0.0], [-1.0, -2.0]],
    ids=str,
)
def test_extreme_values_stay_finite(x, scale_axis, bits, arguments):
    x = np.array([x], np.float32)
    for training in (False, True):
        y = _featuremap(bits, scale_axis=scale_axis, **arguments)(x, training=training).numpy()
        assert np.all(np.isfinite(y)), y
        np.testing.assert_array_equal(y[x == 0], 0)


@pytest.mark.parametrize("rounding", ROUNDING_MODES)
@pytest.mark.parametrize("alpha", ["auto_po2", "learned_po2"])
def test_values_are_rounded_in_every_mode(rounding, alpha):
    """Ties, their neighbours and many values, signed to the most negative integer, unsigned after a ReLU."""
    ties = np.arange(-160, 160, dtype=np.float32) / 16
    values = np.concatenate([ties, np.nextafter(ties, 9), np.nextafter(ties, -9), np.linspace(-9, 9, 7000)])
    for bits, signed in ((3, True), (4, False)):
        quantizer = quantized_bits_featuremap(
            bits, bits, 1, signed, alpha=alpha, rounding=rounding, full_range=signed, static_range=(-4.0 * signed, 4.0)
        )
        low, high = integer_range(bits, signed)
        expected = np.clip(round_to_integer(values.astype(np.float32) / quantizer.scale, rounding), low, high)
        copy = quantized_bits_featuremap.from_config(quantizer.get_config())
        for found in (quantizer, copy):
            quantized = found(tf.constant(values, tf.float32)).numpy()
            np.testing.assert_array_equal(quantized, expected * quantizer.scale)
        assert expected.min() == low


@pytest.mark.parametrize("rounding", ROUNDING_MODES)
def test_what_is_clipped_gets_no_gradient_in_any_mode(rounding):
    """Rounded down, a whole step above the largest value is still inside, and nothing below the smallest."""
    quantizer = quantized_bits_featuremap(3, 3, 1, 1, alpha="auto_po2", rounding=rounding, static_range=(-3.0, 3.0))
    x = tf.constant([-3.9, -3.4, -2.5, 0.3, 2.6, 3.4, 3.9, 4.1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(quantizer(x))
    inside = [0, 0, 1, 1, 1, 1, 1, 0] if rounding == "floor" else [0, 1, 1, 1, 1, 1, 0, 0]
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), inside)


@pytest.mark.slow
def test_a_full_range_needs_powers_of_two():
    assert "alpha" in complaint(quantized_bits_featuremap, 8, alpha="auto", full_range=True)
