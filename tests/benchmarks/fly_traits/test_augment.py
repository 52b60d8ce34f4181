"""Random changes of pictures, and key points that move with what they mark."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fly_traits.augment import CHANGES, MOTIONS, OPERATIONS, RandAugment, about_centre, apply, warped
from benchmarks.fly_traits.key_points import moved

SIDE = 48
POINTS = np.array([[0.3, 0.4], [0.6, 0.5], [0.5, 0.7], [0.7, 0.35]])
QUARTER_TURN = about_centre(np.array([[0.0, -1.0], [1.0, 0.0]]))


def _dot(point):
    """A bright spot of a few pixels at a point, given in sides of the picture."""
    middle = (np.arange(SIDE) + 0.5) / SIDE
    distance = np.hypot(middle[None, :] - point[0], middle[:, None] - point[1])
    return np.repeat((255 * np.exp(-((distance * SIDE / 2.5) ** 2))).astype(np.uint8)[..., None], 3, axis=2)


def _brightest_place(picture):
    weights = picture[..., 0].astype(float)
    middle = (np.arange(SIDE) + 0.5) / SIDE
    return np.array([(weights.sum(axis=0) * middle).sum(), (weights.sum(axis=1) * middle).sum()]) / weights.sum()


def test_a_quarter_turn_moves_pixels_and_points_alike():
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(warped(picture, QUARTER_TURN), np.rot90(picture, -1))
    np.testing.assert_allclose(moved(np.array([0.25, 0.25]), QUARTER_TURN), [0.75, 0.25])


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("seed", range(5))
def test_a_point_goes_where_the_pixels_under_it_go(name, seed):
    point = POINTS[seed % len(POINTS)]
    picture, points = apply(name, _dot(point), point[None], 0.7, np.random.default_rng(seed))
    np.testing.assert_allclose(_brightest_place(picture), points[0], atol=0.5 / SIDE)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_an_operation_keeps_shape_and_type_and_leaves_its_input_alone(name, strength):
    picture = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    before = picture.copy()
    changed, points = apply(name, picture, POINTS, strength, np.random.default_rng(2))
    assert changed.shape == picture.shape and changed.dtype == np.uint8 and points.shape == POINTS.shape
    np.testing.assert_array_equal(picture, before)
    if name in CHANGES:
        np.testing.assert_array_equal(points, POINTS)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"autocontrast", "jpeg"}))
def test_an_operation_of_full_strength_changes_a_picture(name):
    picture = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    changed, _ = apply(name, picture, POINTS, 1.0, np.random.default_rng(2))
    assert np.any(changed != picture)


@given(st.integers(1, 9), st.integers(0, 2**20))
def test_between_half_and_all_operations_are_drawn_each_once(operations, seed):
    names = RandAugment(operations, 0.0).drawn(np.random.default_rng(seed))
    assert operations / 2 <= len(names) == len(set(names)) <= operations


def test_the_same_seed_gives_the_same_changes_and_another_others():
    picture = _dot(POINTS[0])
    augment = RandAugment(6, 80)
    first, again, other = (augment(picture, POINTS, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert np.any(first[0] != other[0])


def test_points_that_are_not_known_stay_unknown():
    _, points = apply("rotate", _dot(POINTS[0]), np.full((4, 2), np.nan), 1.0, np.random.default_rng(0))
    assert np.all(np.isnan(points))


@pytest.mark.parametrize(("operations", "strength"), [(0, 50), (len(OPERATIONS) + 1, 50), (6, -1), (6, 101)])
def test_values_out_of_range_are_refused(operations, strength):
    with pytest.raises(ValueError, match=r"must be in .* Received"):
        RandAugment(operations, strength)
