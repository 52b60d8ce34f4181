"""Measures of one tensor, against numbers worked by hand and numpy as its definitions read."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import activation_shapes, tensors, weight_shapes

from po2quant.diagnostics.tensors import (
    clip_ratio,
    distinct_levels,
    flip_ratio,
    oscillation_ratio,
    quantize,
    sqnr_db,
    update_size,
    zero_ratio,
)


def test_zeros_are_counted_with_both_signs():
    assert zero_ratio(np.array([0.0, -0.0, 1e-30, -3.0])) == 0.5


def test_a_value_is_clipped_where_it_rounds_to_an_integer_that_the_format_lacks():
    values = np.array([7.49, 7.5, 8.0, -7.49, -7.5, -9.0, 0.0, 6.5], np.float32)
    assert clip_ratio(values, 1.0, -7, 7) == 4 / 8
    assert clip_ratio(values, 1.0, -8, 7) == 3 / 8
    assert clip_ratio(values / 4, 0.25, -7, 7) == 4 / 8


def test_each_channel_is_clipped_by_its_own_scale():
    values = np.array([[1.0, 1.0], [3.0, 3.0]], np.float32)
    assert clip_ratio(values, np.array([[1.0, 0.25]]), -3, 3) == 2 / 4


def test_the_largest_weight_of_a_wide_format_is_not_clipped_by_rounding_of_float32():
    high = 2**30 - 1
    values = np.array([1.0, 0.3], np.float32)
    assert clip_ratio(values, np.float32(1.0 / high), -high, high) == 0.0


@given(tensors(activation_shapes), st.integers(-12, 12), st.integers(2, 9), st.booleans())
@settings(deadline=None)
def test_clipping_repeats_the_definition(values, exponent, bits, signed):
    scale, high = 2.0**exponent, 2 ** (bits - 1) - 1
    low = -high if signed else 0
    multiples = np.rint(values.astype(np.float64) / scale)
    assert clip_ratio(values, np.float32(scale), low, high) == np.mean((multiples < low) | (multiples > high))


@pytest.mark.parametrize("spread", [5, 3_000_000])
def test_levels_are_counted_alike_in_narrow_and_wide_spans(spread):
    integers = np.random.default_rng(0).integers(-spread, spread, 1000)
    assert distinct_levels(integers) == len(set(integers.tolist()))


def test_sqnr_is_in_decibels_of_power():
    signal = np.array([3.0, 4.0])
    assert sqnr_db(signal, signal * 0.9) == pytest.approx(20.0)
    assert sqnr_db(signal, np.zeros(2)) == 0.0
    assert sqnr_db(signal, signal) == math.inf
    assert sqnr_db(np.zeros(2), np.ones(2)) is None


def test_each_bit_of_a_full_scale_uniform_signal_is_worth_six_decibels():
    signal = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32)
    ratios = [sqnr_db(signal, quantize(signal, 2.0 ** (1 - bits), -(2**bits), 2**bits)) for bits in range(4, 13)]
    np.testing.assert_allclose(np.diff(ratios), 20 * math.log10(2), atol=0.05)


def test_an_update_is_measured_in_three_units():
    now, before = np.array([[1.0, -2.0], [0.5, 4.0]]), np.array([[2.0, -2.0], [0.5, 0.0]])
    update = update_size(now, before, np.array([[0.5, 0.25]]))
    assert (update.mean, update.largest, update.signed) == (5 / 4, 4.0, 3 / 4)
    assert (update.relative_mean, update.relative_largest) == (5 / 4.5, 2.0)
    assert (update.lsb_mean, update.lsb_largest) == ((2 + 16) / 4, 16.0)


def test_an_update_from_zeros_has_no_relative_size_and_without_a_scale_none_in_lsb():
    update = update_size(np.ones(3), np.zeros(3))
    assert (update.relative_mean, update.relative_largest, update.lsb_mean, update.lsb_largest) == (None,) * 4


def test_a_value_oscillates_when_it_left_and_came_back():
    two_ago, one_ago, now = np.array([[1, 1, 1, 1], [1, 2, 2, 3], [1, 1, 2, 4]])
    assert flip_ratio(now, one_ago) == 2 / 4
    assert oscillation_ratio(now, one_ago, two_ago) == 1 / 4


@given(tensors(weight_shapes), st.integers(-20, 4), st.integers(2, 12))
@settings(deadline=None)
def test_quantized_values_are_multiples_in_range_and_nearest(values, exponent, bits):
    scale, high = np.float32(2.0**exponent), 2 ** (bits - 1) - 1
    integers = quantize(values, scale, -high, high).astype(np.float64) / scale
    np.testing.assert_array_equal(integers, np.rint(integers))
    exact = np.clip(values.astype(np.float64) / scale, -high, high)
    assert np.max(np.abs(integers - exact)) <= 0.5
