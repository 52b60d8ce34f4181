"""Exponents of power-of-two scales against exact comparisons and brute-force searches."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import oracles
import pytest
import strategies
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from po2quant import scale

TENSOR_SETTINGS = strategies.TENSOR_SETTINGS
DTYPES = (np.float32, np.float64)


def _next(values: np.ndarray, towards: float) -> np.ndarray:
    return np.nextafter(values, values.dtype.type(towards))


def _magnitudes(dtype: type) -> np.ndarray:
    """Return magnitudes 1e-38..1e38: random ones, powers of two, multiples of L, and all their neighbours."""
    rng = np.random.default_rng(0)
    random = 10.0 ** rng.uniform(-37.9, 38.0, 60)
    powers = np.exp2([-126, -100, -31, -7, -1, 0, 1, 6, 30, 100, 126])
    largest = np.array([1, 3, 7, 127, 255, 32767, 2**24 - 1, 2**31 - 1.0])
    values = np.concatenate([random, powers, largest, largest * 2.0**-20, largest * 2.0**60]).astype(dtype)
    values = np.concatenate([values, _next(values, 0.0), _next(values, np.inf)])
    return values[values >= np.finfo(np.float32).tiny]


# ---------------------------------------------------------------- powers and logarithms


@pytest.mark.parametrize(("dtype", "exponents"), [(np.float32, range(-126, 128)), (np.float64, range(-1022, 1024))])
def test_power_of_two_is_exact_for_every_normal_number(dtype, exponents):
    powers = scale.power_of_two(tf.constant(list(exponents)), dtype).numpy()
    assert powers.dtype == dtype
    assert [Fraction(float(power)) for power in powers] == [Fraction(2) ** e for e in exponents]


@pytest.mark.parametrize("dtype", DTYPES)
def test_reciprocals_of_powers_of_two_are_exact_in_a_graph_too(dtype):
    exponents = np.arange(oracles.EXPONENT_BOUNDS[0], oracles.EXPONENT_BOUNDS[1] + 1)
    powers = tf.constant(np.ldexp(1.0, exponents), dtype)
    for reciprocal in (scale.exact_reciprocal, tf.function(scale.exact_reciprocal)):
        np.testing.assert_array_equal(reciprocal(powers), np.ldexp(1.0, -exponents))


@pytest.mark.parametrize("dtype", DTYPES)
def test_floor_log2_equals_frexp(dtype):
    x = _magnitudes(dtype)
    x = np.concatenate([x, -x, [np.finfo(dtype).tiny, np.finfo(dtype).max]]).astype(dtype)
    np.testing.assert_array_equal(scale.floor_log2(tf.constant(x)), [math.frexp(float(v))[1] - 1 for v in x])


@pytest.mark.parametrize(("dtype", "below_normal"), [(np.float32, -127), (np.float64, -1023)])
def test_floor_log2_of_zero_and_subnormals_is_below_every_normal_number(dtype, below_normal):
    x = np.array([0.0, -0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny / 2], dtype)
    np.testing.assert_array_equal(scale.floor_log2(tf.constant(x)), [below_normal] * 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_largest_integer_is_exact_where_the_dtype_holds_it_else_the_number_below(dtype):
    for magnitude_bits in range(1, 33):
        expected = dtype(2**magnitude_bits - 1)
        if Fraction(float(expected)) > 2**magnitude_bits - 1:
            expected = np.nextafter(expected, dtype(0))
        assert scale.largest_integer(magnitude_bits, dtype).numpy() == expected, magnitude_bits


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
def test_other_dtypes_are_named(dtype):
    with pytest.raises(ValueError, match=f"float32 or float64.*dtype={dtype}"):
        scale.power_of_two(0, tf.as_dtype(dtype))


# ---------------------------------------------------------------- the max rule


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8, 9, 16, 24, 25, 26, 31, 32])
def test_max_exponent_is_the_smallest_that_holds_the_value(bits, dtype):
    x, largest = _magnitudes(dtype), 2 ** (bits - 1) - 1
    exponents = scale.max_exponent(tf.constant(x), bits - 1).numpy()
    lowest, highest = oracles.EXPONENT_BOUNDS
    assert np.mean((lowest < exponents) & (exponents < highest)) > 0.7  # few are kept back by the bounds
    for value, exponent in zip(x.tolist(), exponents.tolist(), strict=True):
        value = Fraction(value)
        assert value <= largest * Fraction(2) ** exponent or exponent == highest, (value, exponent)
        assert value > largest * Fraction(2) ** (exponent - 1) or exponent == lowest, (value, exponent)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [-90, -7, 0, 1, 60])
@pytest.mark.parametrize("bits", [2, 4, 8, 16, 24])
def test_max_exponent_steps_exactly_at_the_largest_integer(bits, exponent, dtype):
    limit = dtype((2 ** (bits - 1) - 1) * 2.0**exponent)
    x = np.array([np.nextafter(limit, dtype(0)), limit, np.nextafter(limit, dtype(np.inf))])
    np.testing.assert_array_equal(scale.max_exponent(tf.constant(x), bits - 1), [exponent, exponent, exponent + 1])


def test_max_exponent_is_kept_where_scale_and_inverse_are_normal():
    assert scale.max_exponent(tf.constant([1e-37, 3e38]), 1).numpy().tolist() == [-122, 126]
    assert scale.max_exponent(tf.constant([1e-37]), 31).numpy().tolist() == [-126]
    assert scale.max_exponent(tf.constant([1e300], tf.float64), 7).numpy().tolist() == [126]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [2, 8, 31, 32])
def test_zero_and_subnormals_get_the_exponent_of_one(bits, dtype):
    x = np.array([0.0, 1e-45, 1e-40, 1.1754942e-38], dtype)
    expected = oracles.smallest_exponent(1.0, 2 ** (bits - 1) - 1)
    np.testing.assert_array_equal(scale.max_exponent(tf.constant(x), bits - 1), [expected] * 4)


def test_max_exponent_of_unsigned_32_bits():
    x = np.array([1.0, 2.0**32 - 1, 2.0**32])
    np.testing.assert_array_equal(scale.max_exponent(tf.constant(x), 32), [-31, 0, 1])


@pytest.mark.parametrize("bits", range(2, 33))
def test_max_exponent_agrees_between_dtypes(bits):
    x = _magnitudes(np.float32)
    np.testing.assert_array_equal(
        scale.max_exponent(tf.constant(x), bits - 1), scale.max_exponent(tf.constant(x, tf.float64), bits - 1)
    )


# ---------------------------------------------------------------- the nearest rule


def _is_nearest(value: float, bits: int, exponent: int) -> bool:
    """Return whether ``exponent - 1/2 < log2(value / L) < exponent + 1/2``, by comparing squares."""
    ratio = 2 * Fraction(value) ** 2 / (2 ** (bits - 1) - 1) ** 2
    return Fraction(4) ** exponent < ratio < Fraction(4) ** (exponent + 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", range(2, 33))
def test_nearest_exponent_rounds_the_logarithm(bits, dtype):
    middle = np.array([(2 ** (bits - 1) - 1) / math.sqrt(2) * 2.0**exponent for exponent in (-60, -1, 0, 40)], dtype)
    x = np.concatenate([_magnitudes(dtype), middle, _next(middle, 0.0), _next(middle, np.inf)])
    exponents = scale.nearest_exponent(tf.constant(x), bits - 1).numpy()
    lowest, highest = oracles.EXPONENT_BOUNDS
    for value, exponent in zip(x.tolist(), exponents.tolist(), strict=True):
        assert _is_nearest(value, bits, exponent) or exponent in (lowest, highest), (value, exponent)


def test_nearest_exponent_of_zero_and_beyond_the_bounds():
    x = tf.constant([0.0, 1e-40, 1.0, 1e-37, 3e38])
    assert scale.nearest_exponent(x, 7).numpy().tolist() == [-7, -7, -7, -126, 121]
    assert scale.nearest_exponent(tf.constant([3e38]), 1).numpy().tolist() == [126]


# ---------------------------------------------------------------- the mse rule


def _assert_least_squares(x: np.ndarray, bits: int, axes: tuple[int, ...], signed: bool = True) -> None:
    exponent = scale.mse_exponent(tf.constant(x), bits - signed, axes, signed).numpy()
    assert exponent.dtype == np.int32
    assert exponent.shape == tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    error = oracles.squared_error(x, exponent, bits, axes, signed)
    best = oracles.least_squared_error(x, bits, axes, signed)
    assert np.all(error <= best * oracles.NEAR_TIE), (error / best, exponent)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.05, 1.0, 1e6])
def test_8_bit_kernels_get_the_best_exponent_of_every_channel(sigma, dtype):
    rng = np.random.default_rng(1)
    x = rng.normal(0, sigma, (4000, 16)) * rng.uniform(0.1, 10, 16)
    x[0, :8] *= 2.0 ** np.arange(8)  # outliers of up to 128 times
    _assert_least_squares(x.astype(dtype), 8, (0,))


def test_8_bit_heavy_tails_get_the_best_exponent_of_every_channel():
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.standard_t(df, (4000, 4)) for df in (1, 2, 3, 5)], axis=1).astype(np.float32)
    _assert_least_squares(x, 8, (0,))


@TENSOR_SETTINGS
@given(x=strategies.tensors(), bits=st.integers(2, 16), signed=st.booleans())
def test_the_best_exponent_for_any_weights(x, bits, signed):
    x = x if signed else np.abs(x)
    _assert_least_squares(x, bits, tuple(range(x.ndim - 1)) if x.ndim > 1 else (0,), signed)


@TENSOR_SETTINGS
@given(x=strategies.tensors(dtype=np.float64), bits=st.integers(2, 16))
def test_the_best_exponent_in_float64(x, bits):
    _assert_least_squares(x, bits, tuple(range(x.ndim)))


@TENSOR_SETTINGS
@given(x=strategies.tensors(), bits=st.integers(2, 16))
def test_float32_and_float64_choose_equally_good_exponents(x, bits):
    axes = tuple(range(x.ndim))
    single, double = (
        oracles.squared_error(x, scale.mse_exponent(tf.constant(x, dtype), bits - 1, axes).numpy(), bits, axes)
        for dtype in (tf.float32, tf.float64)
    )
    assert np.all(double <= single) and np.all(single <= double * oracles.NEAR_TIE)


def test_float32_and_float64_choose_the_same_exponent_without_ties():
    x = np.random.default_rng(3).normal(0, 1, (500, 64)).astype(np.float32)
    for bits in (2, 4, 8, 12, 16):
        single, double = (
            scale.mse_exponent(tf.constant(x, dtype), bits - 1, (0,)) for dtype in (tf.float32, tf.float64)
        )
        np.testing.assert_array_equal(single, double)


def test_an_outlier_is_clipped_where_that_is_better():
    x = np.full((1, 400), 0.1, np.float32)
    x[0, 0] = 1.0
    clipping = scale.mse_exponent(tf.constant(x), 1, (0, 1)).numpy().item()
    assert clipping < scale.max_exponent(tf.constant(1.0), 1).numpy()
    _assert_least_squares(x, 2, (0, 1))


def test_values_on_the_grid_keep_the_exponent_that_clips_nothing():
    x = np.array([[-7.0, -3.0, 0.0, 1.0, 7.0]], np.float32) * 2.0**-9
    assert scale.mse_exponent(tf.constant(x), 3, (0, 1)).numpy().item() == -9


@TENSOR_SETTINGS
@given(x=strategies.tensors(), bits=st.integers(2, 16), candidates=st.integers(1, 20), signed=st.booleans())
def test_all_candidates_or_those_that_may_win_give_the_same_exponents(x, bits, candidates, signed):
    x, axes = tf.constant(x if signed else np.maximum(x, 0)), tuple(range(x.ndim - 1)) if x.ndim > 1 else (0,)
    top = scale.max_exponent(tf.reduce_max(tf.abs(x), axes, keepdims=True), bits - signed)
    errors, high = [], 2.0 ** (bits - signed) - 1
    scaled = x * scale.power_of_two(-top)
    for offset in range(candidates):
        quantized = tf.clip_by_value(tf.round(scaled * 2.0**offset), -high, high) * 2.0**-offset
        errors.append(tf.reduce_sum(tf.square(scaled - quantized), axes, keepdims=True))
    expected = top - np.argmin(errors, axis=0)
    in_a_graph = tf.function(lambda bits: scale.mse_exponent(x, bits, axes, signed, candidates))
    np.testing.assert_array_equal(scale.mse_exponent(x, bits - signed, axes, signed, candidates), expected)
    np.testing.assert_array_equal(in_a_graph(tf.constant(bits - signed)), expected)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shape", [(6000, 3), (3, 3, 32, 16), (20_000, 1)])
def test_large_tensors_get_the_exponents_that_trying_all_candidates_gives(shape, signed):
    rng = np.random.default_rng(8)
    x = rng.standard_t(2, shape).astype(np.float32) * np.exp2(rng.integers(-9, 9, shape[-1])).astype(np.float32)
    axes = tuple(range(len(shape) - 1))
    kept = np.maximum(x, 0) if not signed else x
    bits = tf.Variable(4)
    in_a_graph = tf.function(lambda x: scale.mse_exponent(x, bits - int(signed), axes, signed, 12))
    of_unknown_size = in_a_graph.get_concrete_function(tf.TensorSpec((None, *shape[1:])))
    offsets = set()
    for width in (2, 3, 4, 6, 8, 16, 26):
        bits.assign(width)
        top = oracles.never_clipping_exponent(kept, width, axes, signed)
        errors = [oracles.squared_error(kept, top - k, width, axes, signed) for k in range(12)]
        expected = top - np.argmin(errors, axis=0)
        offsets.update((top - expected).ravel().tolist())
        for exponents in (
            scale.mse_exponent(tf.constant(x), width - signed, axes, signed, 12),
            in_a_graph(tf.constant(x)),
            of_unknown_size(tf.constant(x)),
        ):
            np.testing.assert_array_equal(exponents, expected, err_msg=f"{width} bits")
    assert len(offsets) >= 3  # otherwise little was searched


def test_as_many_candidates_are_tried_as_are_asked_for():
    x = np.random.default_rng(6).normal(0, 1, (200_000, 1)).astype(np.float32)
    x[0] = 512.0
    top = oracles.never_clipping_exponent(x, 4, (0,)).item()
    errors = [oracles.squared_error(x, np.array(top - k), 4, (0,)).item() for k in range(12)]
    for candidates in (1, 2, 4, 8, 12):
        exponent = scale.mse_exponent(tf.constant(x), 3, (0,), candidates=candidates).numpy().item()
        assert exponent == top - int(np.argmin(errors[:candidates]))


def test_unsigned_exponents_ignore_negative_values():
    x = np.abs(np.random.default_rng(7).normal(0, 0.1, (200, 3))).astype(np.float32)
    expected = scale.mse_exponent(tf.constant(x), 8, (0,), signed=False).numpy()
    x = np.concatenate([x, np.full((1, 3), -1000.0, np.float32)])
    np.testing.assert_array_equal(scale.mse_exponent(tf.constant(x), 8, (0,), signed=False), expected)


@pytest.mark.parametrize("bits", [2, 8, 31, 32])
def test_zeros_get_the_exponent_of_one(bits):
    exponent = scale.mse_exponent(tf.zeros((3, 2)), bits - 1, (0,)).numpy()
    np.testing.assert_array_equal(exponent, np.full((1, 2), oracles.smallest_exponent(1.0, 2 ** (bits - 1) - 1)))


@pytest.mark.parametrize("magnitude", [2.0**-120, 1e-30, 1e30, 1e37])
def test_squares_of_extreme_magnitudes_neither_vanish_nor_overflow(magnitude):
    x = (np.random.default_rng(4).normal(0, 1, (500, 3)) * magnitude).astype(np.float32)
    _assert_least_squares(x, 4, (0,))
    _assert_least_squares(x, 8, (0,))


def test_exponents_follow_bits_that_are_a_variable_in_a_graph():
    x = tf.constant(np.random.default_rng(5).normal(0, 0.1, (200, 8)), tf.float32)
    bits = tf.Variable(8)
    traces = []

    @tf.function
    def exponents():
        traces.append(True)
        max_abs = tf.reduce_max(tf.abs(x), axis=0, keepdims=True)
        return scale.max_exponent(max_abs, bits - 1), scale.mse_exponent(x, bits - 1, (0,))

    for width in (8, 2, 4, 16, 31):
        bits.assign(width)
        largest, best = exponents()
        np.testing.assert_array_equal(largest, oracles.never_clipping_exponent(x.numpy(), width, (0,)))
        np.testing.assert_array_equal(best, scale.mse_exponent(x, width - 1, (0,)))
    assert len(traces) == 1


# ---------------------------------------------------------------- granularity


@pytest.mark.parametrize(
    ("shape", "scale_axis", "expected"),
    [
        ((), None, ()),
        ((7,), None, (0,)),
        ((7,), 0, ()),
        ((7, 5), None, (0,)),
        ((7, 5), 0, (1,)),
        ((7, 5), (), (0, 1)),
        ((3, 3, 8, 16), None, (0, 1, 2)),
        ((3, 3, 8, 1), None, (0, 1)),
        ((3, 3, 8, 2), None, (0, 1, 2)),
        ((3, 3, 8, 16), 2, (0, 1, 3)),
        ((3, 3, 8, 16), -1, (0, 1, 2)),
        ((3, 3, 8, 16), (-1, 2), (0, 1)),
        ((3, 3, 8, 16), [0, 3], (1, 2)),
        ((3, 3, 8, 1), -1, (0, 1, 2)),
        ((None, 8, 8, 4), 0, (1, 2, 3)),
        ((5, 4, 3), None, (0, 1)),
    ],
)
def test_reduced_axes(shape, scale_axis, expected):
    assert scale.reduced_axes(shape, scale_axis) == expected


@pytest.mark.parametrize(("shape", "scale_axis"), [((3, 4), 2), ((3, 4), -3), ((3, 3, 8, 16), (0, 4)), ((5,), 1)])
def test_an_axis_that_the_tensor_lacks_is_named(shape, scale_axis):
    with pytest.raises(ValueError, match="scale_axis") as error:
        scale.reduced_axes(shape, scale_axis)
    assert f"Received: scale_axis={scale_axis}" in str(error.value)
    assert f"[{-len(shape)}, {len(shape) - 1}]" in str(error.value)
