"""Random changes of pictures: each part of the transformation, and that the seed decides all of it."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.shared.augment import random_affine, random_erasing

PICTURES = np.random.default_rng(0).integers(0, 256, (64, 9, 12, 3), dtype=np.uint8)
SEED = tf.constant([3, 4])


def changed(pictures, seed=SEED, **settings):
    return random_affine(tf.constant(pictures), seed, **settings).numpy()


def test_no_change():
    """Without any setting the pictures stay as they are, as float32."""
    result = changed(PICTURES, flip=False)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, PICTURES)


def test_flip():
    """About half of the pictures are mirrored left to right, exactly."""
    result = changed(PICTURES)
    same = (result == PICTURES).all((1, 2, 3))
    mirrored = (result == PICTURES[:, :, ::-1]).all((1, 2, 3))
    assert np.all(same ^ mirrored) and 16 < mirrored.sum() < 48


@pytest.mark.parametrize("settings", [{"rotation_degrees": 15.0}, {"shift": 0.1}, {"zoom": 0.1}, {}])
def test_seed_decides(settings):
    """The same seed gives the same pictures, another seed others."""
    np.testing.assert_array_equal(changed(PICTURES, **settings), changed(PICTURES, **settings))
    assert np.any(changed(PICTURES, **settings) != changed(PICTURES, tf.constant([3, 5]), **settings))


def test_shift():
    """A ramp is moved by at most the share of each size, in both directions, and its ends are repeated."""
    row, column = np.mgrid[:20, :40].astype(np.float32)
    ramp = np.tile(np.stack([row, column], -1), (200, 1, 1, 1))
    moved = changed(ramp, shift=0.1, flip=False) - ramp
    np.testing.assert_allclose(moved[:, 10, 20], moved[:, 8, 12], atol=1e-4)
    for axis, size in enumerate((20, 40)):
        largest = moved[:, 10, 20, axis]
        assert -0.1 * size <= largest.min() < -0.08 * size and 0.08 * size < largest.max() <= 0.1 * size
    assert moved.min() >= -4 and moved.max() <= 4


@pytest.mark.parametrize(
    ("settings", "bound"), [({"rotation_degrees": 15.0}, np.sin(np.radians(15))), ({"zoom": 0.1}, 0.1)]
)
def test_centre_stays(settings, bound):
    """Rotation and zoom leave the centre, move other pixels by their distance from it at most, and differ."""
    row, column = np.mgrid[:21, :21].astype(np.float32) - 10
    ramp = np.tile(np.stack([row, column], -1), (200, 1, 1, 1))
    moved = changed(ramp, flip=False, **settings) - ramp
    np.testing.assert_allclose(moved[:, 10, 10], 0, atol=1e-4)
    side = moved[:, 10, 15, 0 if "rotation_degrees" in settings else 1]
    assert 0.9 * 5 * bound < np.abs(side).max() <= 5 * bound + 1e-4 and side.min() < 0 < side.max()


def test_rotation_keeps_the_angle_right():
    """A rotated ramp has the slope of a rotation: the two directions change together."""
    row, column = np.mgrid[:21, :21].astype(np.float32) - 10
    ramp = np.tile(np.stack([row, column], -1), (50, 1, 1, 1))
    turned = changed(ramp, rotation_degrees=15.0, flip=False)
    across, along = turned[:, 10, 15] / 5, turned[:, 15, 10] / 5
    np.testing.assert_allclose(np.hypot(*across.T), 1, atol=1e-3)
    np.testing.assert_allclose((across * along).sum(-1), 0, atol=1e-3)


def test_values_stay_in_range():
    """Bilinear values never leave 0..255."""
    result = changed(PICTURES, rotation_degrees=15.0, shift=0.1, zoom=0.1)
    assert result.min() >= 0 and result.max() <= 255 + 1e-3


def test_in_a_map():
    """The same pictures come out of a parallel tf.data map, with static height and width."""
    pictures = tf.constant(PICTURES)

    def batch(samples, seed):
        return random_affine(tf.gather(pictures, samples), seed, rotation_degrees=15.0, shift=0.1)

    samples = tf.data.Dataset.range(64).batch(16)
    seeds = tf.data.Dataset.from_tensor_slices(np.arange(8, dtype=np.int32).reshape(4, 2))
    batches = tf.data.Dataset.zip(samples, seeds).map(batch, tf.data.AUTOTUNE)
    assert batches.element_spec.shape[1:] == (9, 12, 3)
    for number, result in enumerate(batches):
        expected = batch(tf.range(16 * number, 16 * number + 16), tf.constant([2 * number, 2 * number + 1]))
        np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_erasing_blackens_one_rectangle_of_the_sizes_asked_for(dtype):
    pictures = np.ones((400, 9, 12, 2), dtype)
    result = random_erasing(tf.constant(pictures), SEED, probability=0.5, smallest=2, largest=4).numpy()
    assert result.dtype == dtype
    erased = [np.argwhere(picture[..., 0] == 0) for picture in result if (picture == 0).any()]
    assert 150 < len(erased) < 250
    sizes = np.array([places.max(0) - places.min(0) + 1 for places in erased])
    assert [len(places) for places in erased] == sizes.prod(1).tolist(), "a rectangle, without holes"
    assert set(sizes.ravel()) == {2, 3, 4}
    for axis, size in enumerate((9, 12)):
        ends = {places[:, axis].min() for places in erased}, {places[:, axis].max() for places in erased}
        assert min(ends[0]) == 0 and max(ends[1]) == size - 1, "they reach every edge"
    np.testing.assert_array_equal(result[..., 0], result[..., 1])


def test_nothing_is_erased_at_probability_0_and_something_everywhere_at_1():
    pictures = tf.ones((50, 9, 12, 1))
    for probability, count in ((0.0, 0), (1.0, 50)):
        result = random_erasing(pictures, SEED, probability, 1, 9).numpy()
        assert np.sum((result == 0).any((1, 2, 3))) == count
