"""Integer ranges, rounding, shifts and formats against Fractions and Python integers."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from po2quant import fixed_point as fp

REPOSITORY = Path(__file__).resolve().parents[1]
MODES = ("half_up", "half_even", "half_away", "floor")
INT64 = st.integers(-(2**63), 2**63 - 1)
HALF = Fraction(1, 2)


def _round_half_away(value: Fraction) -> int:
    magnitude = math.floor(abs(value) + HALF)
    return magnitude if value > 0 else -magnitude


ROUND_FRACTION = {
    "half_up": lambda value: math.floor(value + HALF),
    "half_even": round,  # of a Fraction: exact, ties to even
    "half_away": _round_half_away,
    "floor": math.floor,
}


# ---------------------------------------------------------------- ranges


@pytest.mark.parametrize(
    ("bits", "signed", "narrow_range", "expected"),
    [
        (8, True, False, (-128, 127)),
        (8, True, True, (-127, 127)),
        (8, False, False, (0, 255)),
        (8, False, True, (0, 255)),
        (2, True, False, (-2, 1)),
        (2, True, True, (-1, 1)),
        (1, False, False, (0, 1)),
        (32, True, False, (-2147483648, 2147483647)),
        (32, True, True, (-2147483647, 2147483647)),
        (32, False, False, (0, 4294967295)),
    ],
)
def test_integer_range_of_known_formats(bits, signed, narrow_range, expected):
    assert fp.integer_range(bits, signed, narrow_range) == expected


@pytest.mark.parametrize("bits", range(2, 33))
def test_a_range_has_as_many_integers_as_the_width_can_code(bits):
    for signed, narrow_range in [(True, False), (True, True), (False, False)]:
        low, high = fp.integer_range(bits, signed, narrow_range)
        assert high - low + 1 == 2**bits - narrow_range
        assert isinstance(low, int) and isinstance(high, int)


@pytest.mark.parametrize("bits", [0, 1, -1, 33, 2.5, 8.0, True, "8", None, math.nan])
def test_bad_signed_bits_are_named(bits):
    with pytest.raises(ValueError, match=r"integer in \[2, 32\]") as error:
        fp.integer_range(bits)
    assert f"bits={bits!r}" in str(error.value)


@pytest.mark.parametrize("bits", [0, 33, 1.0, False])
def test_bad_unsigned_bits_are_named(bits):
    with pytest.raises(ValueError, match=r"integer in \[1, 32\]") as error:
        fp.integer_range(bits, signed=False)
    assert f"bits={bits!r}" in str(error.value)


def test_numpy_integers_are_bits():
    assert fp.integer_range(np.int8(4)) == (-8, 7)
    assert type(fp.check_bits(np.int64(4))) is int


def test_values_beyond_a_format_become_its_ends():
    x = np.array([-(2.0**40), -129, -128, -127, 0, 127, 128, 2.0**40])
    narrow, unsigned = fp.FixedPointFormat(8, narrow_range=True), fp.FixedPointFormat(8, signed=False)
    np.testing.assert_array_equal(fp.FixedPointFormat(8).to_int(x), [-128, -128, -128, -127, 0, 127, 127, 127])
    np.testing.assert_array_equal(narrow.to_int(x), [-127, -127, -127, -127, 0, 127, 127, 127])
    np.testing.assert_array_equal(unsigned.to_int(x), [0, 0, 0, 0, 0, 127, 128, 255])


# ---------------------------------------------------------------- rounding


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("half_up", [-2, -1, 0, 1, 2, 3]),
        ("half_even", [-2, -2, 0, 0, 2, 2]),
        ("half_away", [-3, -2, -1, 1, 2, 3]),
        ("floor", [-3, -2, -1, 0, 1, 2]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_table(rounding, expected, dtype):
    ties = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], dtype)
    rounded = fp.round_to_integer(ties, rounding)
    np.testing.assert_array_equal(rounded, expected)
    assert rounded.dtype == dtype


def test_every_named_mode_is_in_the_table():
    assert set(fp.ROUNDING_MODES) == set(MODES)
    assert (fp.HALF_UP, fp.HALF_EVEN, fp.HALF_AWAY, fp.FLOOR) == MODES


def test_half_even_is_the_default():
    np.testing.assert_array_equal(fp.round_to_integer(np.array([0.5, 1.5, -2.5])), [0, 2, -2])
    np.testing.assert_array_equal(fp.shift_right(np.array([1, 3, -5]), 1), [0, 2, -2])


@pytest.mark.parametrize("rounding", MODES)
@settings(max_examples=200, deadline=None)
@given(value=st.one_of(st.floats(-1e18, 1e18), st.integers(-4000, 4000).map(lambda quarter: quarter / 4)))
def test_rounding_equals_exact_rounding_of_the_fraction(rounding, value):
    assert int(fp.round_to_integer(np.array([value]), rounding)[0]) == ROUND_FRACTION[rounding](Fraction(value))


@pytest.mark.parametrize("rounding", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_floats_next_to_a_tie_are_no_ties(rounding, dtype):
    ties = np.arange(-5.5, 6.0, dtype=dtype)
    for towards in (-np.inf, np.inf):
        values = np.nextafter(ties, dtype(towards))
        expected = [ROUND_FRACTION[rounding](Fraction(float(value))) for value in values]
        np.testing.assert_array_equal(fp.round_to_integer(values, rounding), expected)


@pytest.mark.parametrize("rounding", MODES)
def test_rounding_of_one_number_and_of_extremes(rounding):
    assert fp.round_to_integer(np.float64(7.25), rounding) == 7
    extremes = np.array([2.0**52 + 1, -(2.0**52) - 1, 2.0**60, 5e-324, -0.0, 1e300])
    expected = [ROUND_FRACTION[rounding](Fraction(value)) for value in extremes.tolist()]
    np.testing.assert_array_equal(fp.round_to_integer(extremes, rounding), np.array(expected, float))


@pytest.mark.parametrize(
    "call",
    [
        lambda rounding: fp.round_to_integer(np.zeros(1), rounding),
        lambda rounding: fp.shift_right(np.zeros(1, int), 1, rounding),
        lambda rounding: fp.FixedPointFormat(8, rounding=rounding),
        lambda rounding: fp.round_ratio(1, 2, rounding),
    ],
)
@pytest.mark.parametrize("rounding", ["nearest", "", None, "HALF_UP"])
def test_unknown_rounding_is_named_with_the_valid_ones(call, rounding):
    with pytest.raises(ValueError, match="half_up, half_even, half_away, floor") as error:
        call(rounding)
    assert repr(rounding) in str(error.value)


@pytest.mark.parametrize("rounding", MODES)
@given(numerators=st.lists(st.integers(-50, 50), min_size=1), denominator=st.integers(1, 12))
def test_a_ratio_is_rounded_as_its_fraction(rounding, numerators, denominator):
    """Arrays, Python integers and fractions alike."""
    expected = [ROUND_FRACTION[rounding](Fraction(numerator, denominator)) for numerator in numerators]
    np.testing.assert_array_equal(fp.round_ratio(np.array(numerators), denominator, rounding), expected)
    assert [fp.round_ratio(numerator, denominator, rounding) for numerator in numerators] == expected
    assert [fp.round_ratio(Fraction(n, denominator), 1, rounding) for n in numerators] == expected


# ---------------------------------------------------------------- shifts


@pytest.mark.parametrize("rounding", MODES)
@settings(max_examples=300, deadline=None)
@given(q=INT64, shift=st.integers(0, 62))
@example(q=-(2**63), shift=62)
@example(q=2**63 - 1, shift=62)
@example(q=3 * 2**61, shift=62)
@example(q=-3 * 2**61, shift=62)
@example(q=-1, shift=1)
def test_shift_right_equals_exact_division(rounding, q, shift):
    assert int(fp.shift_right(np.int64(q), shift, rounding)) == ROUND_FRACTION[rounding](Fraction(q, 2**shift))


@pytest.mark.parametrize("rounding", MODES)
@settings(max_examples=100, deadline=None)
@given(q=st.integers(-(2**42), 2**42), shift=st.integers(-20, 0))
def test_a_negative_shift_multiplies(rounding, q, shift):
    assert int(fp.shift_right(np.int64(q), shift, rounding)) == q * 2**-shift


@pytest.mark.parametrize("rounding", MODES)
@settings(max_examples=100, deadline=None)
@given(odd=st.integers(-(2**30), 2**30).map(lambda n: 2 * n + 1), shift=st.integers(1, 31))
def test_shift_right_of_ties(rounding, odd, shift):
    q = odd * 2 ** (shift - 1)
    assert int(fp.shift_right(np.int64(q), shift, rounding)) == ROUND_FRACTION[rounding](Fraction(odd, 2))


@pytest.mark.parametrize("rounding", MODES)
def test_shift_right_broadcasts_one_shift_per_channel(rounding):
    q = np.arange(-12, 12).reshape(8, 3)
    shifts = np.array([-2, 0, 3])
    expected = [
        [ROUND_FRACTION[rounding](Fraction(int(v)) / Fraction(2) ** int(s)) for v, s in zip(row, shifts, strict=True)]
        for row in q
    ]
    shifted = fp.shift_right(q, shifts, rounding)
    np.testing.assert_array_equal(shifted, expected)
    assert shifted.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_shift_right_takes_every_signed_dtype(dtype):
    q = np.array([-128, -3, 127], dtype)
    np.testing.assert_array_equal(fp.shift_right(q, 1), [-64, -2, 64])
    np.testing.assert_array_equal(fp.shift_right(q, -20), [-128 * 2**20, -3 * 2**20, 127 * 2**20])


@pytest.mark.parametrize("shift", [63, -63, 64, 1000, -1000, -(2**63)])
def test_a_shift_out_of_range_is_named(shift):
    with pytest.raises(ValueError, match=r"\[-62, 62\]") as error:
        fp.shift_right(np.array([1, 2]), shift)
    assert f"shift={shift}" in str(error.value)


def test_the_shift_at_fault_is_named_among_many():
    with pytest.raises(ValueError, match=r"shift=-70$"):
        fp.shift_right(np.zeros(3, int), np.array([4, -70, 0]))


@pytest.mark.parametrize(("q", "shift"), [(np.array([4]), 1.5), (np.array([2.7]), 1)])
def test_shift_right_does_not_truncate_silently(q, shift):
    with pytest.raises((ValueError, TypeError)):
        fp.shift_right(q, shift)


# ---------------------------------------------------------------- formats

FORMATS = [
    fp.FixedPointFormat(8, -7),
    fp.FixedPointFormat(8, 3, narrow_range=True),
    fp.FixedPointFormat(4, -20, signed=False),
    fp.FixedPointFormat(2),
    fp.FixedPointFormat(1, 5, signed=False),
    fp.FixedPointFormat(10, -126),
]


@pytest.mark.parametrize("format_", FORMATS, ids=str)
def test_every_integer_survives_the_way_to_floats_and_back(format_):
    q = np.arange(format_.min_int, format_.max_int + 1)
    values = format_.to_float(q)
    assert [Fraction(value) for value in values] == [Fraction(int(i)) * Fraction(2) ** format_.exponent for i in q]
    for rounding in MODES:
        np.testing.assert_array_equal(dataclasses.replace(format_, rounding=rounding).to_int(values), q)


@settings(max_examples=50, deadline=None)
@given(q=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), exponent=st.integers(-900, 900))
def test_32_bit_integers_survive_the_way_to_floats_and_back(q, exponent):
    format_ = fp.FixedPointFormat(32, exponent)
    np.testing.assert_array_equal(format_.to_int(format_.to_float(q)), q)


@pytest.mark.parametrize("rounding", MODES)
@settings(max_examples=100, deadline=None)
@given(
    value=st.floats(-1e9, 1e9),
    exponent=st.integers(-40, 40),
    bits=st.integers(2, 32),
    signed=st.booleans(),
    narrow_range=st.booleans(),
)
@example(value=-5e-324, exponent=1, bits=8, signed=True, narrow_range=False)
def test_to_int_equals_the_definition_in_fractions(rounding, value, exponent, bits, signed, narrow_range):
    format_ = fp.FixedPointFormat(bits, exponent, signed, narrow_range, rounding)
    high = 2 ** (bits - signed) - 1
    low = -high - (not narrow_range) if signed else 0
    exact = ROUND_FRACTION[rounding](Fraction(value) / Fraction(2) ** exponent)
    quantized = format_.to_int(np.array([value]))
    assert quantized.tolist() == [min(max(exact, low), high)]
    assert quantized.dtype == np.int64


def test_properties_of_a_format():
    format_ = fp.FixedPointFormat(8, exponent=-7)
    assert (format_.min_int, format_.max_int, format_.scale) == (-128, 127, 1 / 128)
    assert (format_.min_value, format_.max_value) == (-1.0, 127 / 128)
    unsigned = fp.FixedPointFormat(8, exponent=1, signed=False)
    assert (unsigned.min_value, unsigned.max_value) == (0.0, 510.0)


def test_infinities_saturate():
    assert fp.FixedPointFormat(8).to_int(np.array([-np.inf, np.inf])).tolist() == [-128, 127]


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        fp.FixedPointFormat(8).to_int(np.array([0.0, np.nan]))


@pytest.mark.parametrize(("bits", "signed"), [(0, False), (1, True), (33, True), (2.5, True), (True, False)])
def test_a_format_of_bad_bits_names_them(bits, signed):
    with pytest.raises(ValueError) as error:
        fp.FixedPointFormat(bits, signed=signed)
    assert f"bits={bits!r}" in str(error.value)


def test_formats_are_values():
    assert fp.FixedPointFormat(8, -7) == fp.FixedPointFormat(8, -7) != fp.FixedPointFormat(8, -6)
    assert len({fp.FixedPointFormat(8, -7), fp.FixedPointFormat(8, -7)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        fp.FixedPointFormat(8).exponent = 3


# ---------------------------------------------------------------- imports


@pytest.mark.parametrize("module", ["fixed_point", "bit_config", "cost"])
def test_module_imports_without_tensorflow_and_keras(module):
    code = (
        f"import sys, po2quant.{module}\n"
        "heavy = {'tensorflow', 'keras', 'qkeras', 'keras_tuner', 'matplotlib', 'pandas'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
