"""The code of a fly's key points, in which the two wing tips have no order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.fly_traits.key_points import CODE, decode, decode_pair, distances, encode, encode_pair, moved

GRID = 2.0**-12  # halves of sums of its multiples are exact
COORDINATE = st.integers(-(2**13), 2**13).map(lambda steps: steps * GRID)


def _pairs(count=2):
    return arrays(np.float64, (count, 2), elements=COORDINATE)


def _as_set(points):
    return sorted(map(tuple, points.tolist()))


@given(_pairs())
def test_the_code_of_two_points_has_no_order(points):
    np.testing.assert_array_equal(encode_pair(points), encode_pair(points[::-1]))


@given(arrays(np.float64, (2, 2), elements=st.floats(-1e300, 1e300)))
def test_the_code_of_any_two_points_has_no_order(points):
    np.testing.assert_array_equal(encode_pair(points), encode_pair(points[::-1]))


@given(_pairs())
def test_decoding_returns_the_two_points(points):
    assert _as_set(decode_pair(encode_pair(points))) == _as_set(points)


@given(_pairs(), st.sampled_from(["same point", "same x", "same y"]), st.sampled_from([0.0, 1.0]))
def test_where_points_share_a_coordinate_both_values_of_e_return_them(points, shared, e):
    axes = {"same point": [0, 1], "same x": [0], "same y": [1]}[shared]
    points[1, axes] = points[0, axes]
    code = encode_pair(points)
    assert code[4] == 0.0
    code[4] = e
    assert _as_set(decode_pair(code)) == _as_set(points)


def test_e_tells_tiny_differences_apart_whose_product_is_zero():
    code = encode_pair(np.array([[0.0, 0.0], [1e-200, 1e-200]]))
    assert code[4] == 1.0


def test_the_code_of_unknown_points_is_unknown():
    assert np.all(np.isnan(encode(np.full((2, 4, 2), np.nan)))) and np.all(np.isnan(decode(np.full(9, np.nan))))


def test_the_code_is_that_of_the_document():
    rising, falling = np.array([[0.25, 0.5], [0.75, 1.0]]), np.array([[0.25, 1.0], [0.75, 0.5]])
    codes = encode_pair(np.stack([rising, falling]))
    np.testing.assert_array_equal(codes, [[0.5, 0.75, 0.5, 0.5, 1.0], [0.5, 0.75, 0.5, 0.5, 0.0]])


@given(arrays(np.float64, (3, 4, 2), elements=COORDINATE))
def test_a_fly_is_decoded_to_its_four_points(points):
    code = encode(points)
    assert code.shape == (3, len(CODE))
    again = decode(code)
    np.testing.assert_array_equal(again[:, :2], points[:, :2])
    for fly, tips in zip(points, again[:, 2:], strict=True):
        assert _as_set(fly[2:]) == _as_set(tips)
    np.testing.assert_array_equal(distances(again, points), 0.0)


def test_distances_are_those_of_each_point_with_the_tips_in_the_better_order():
    points = np.array([[[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 4.0]]])
    others = np.array([[[0.0, 3.0], [1.0, 0.0], [0.0, 4.5], [0.0, 2.0]]])
    np.testing.assert_array_equal(distances(points, others), [[3.0, 0.0, 0.0, 0.5]])


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ([[0, -1, 1], [1, 0, 0]], [0.75, 0.25]),  # a quarter turn of the unit square
        ([[-1, 0, 1], [0, 1, 0]], [0.75, 0.25]),  # mirrored left to right
        ([[1, 0, 0.5], [0, 1, -0.25]], [0.75, 0.0]),
    ],
)
def test_points_move_with_their_picture(transform, expected):
    np.testing.assert_allclose(moved(np.array([0.25, 0.25]), np.array(transform, float)), expected)
