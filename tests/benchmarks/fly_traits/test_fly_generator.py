import numpy as np
import pytest

from benchmarks.fly_traits.anatomy import key_points, outline, paint, random_flies
from benchmarks.fly_traits.generator import PHENOTYPES, crop_squares, crops, draw_picture


def test_a_seed_gives_the_same_picture_and_another_seed_another_one() -> None:
    first, again, other = draw_picture(3, 96, 12), draw_picture(3, 96, 12), draw_picture(4, 96, 12)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.pixels, other.pixels)


def test_a_picture_has_40_to_70_flies_whose_boxes_lie_within_it_and_hardly_overlap() -> None:
    for seed in range(5):
        picture = draw_picture(seed)
        starts, ends = picture.boxes[:, :2], picture.boxes[:, :2] + picture.boxes[:, 2:]
        assert 40 <= len(picture.boxes) == len(picture.traits) == len(picture.key_points) <= 70
        assert starts.min() >= 0 and ends.max() <= len(picture.pixels)
        shared = np.minimum(ends[:, None], ends) - np.maximum(starts[:, None], starts)
        areas = np.prod(picture.boxes[:, 2:], axis=1)
        intersection = np.prod(np.maximum(shared, 0), axis=-1) * (1 - np.eye(len(areas)))
        assert np.max(intersection / np.minimum(areas[:, None], areas)) < 0.3


def test_boxes_contain_the_pixels_that_are_drawn_and_no_side_is_far_away() -> None:
    flies = random_flies(np.array(PHENOTYPES), np.random.default_rng(0))
    scale = np.full(len(flies), 40.0)
    points = flies.in_picture(outline(flies), np.full((len(flies), 2), 48.0), scale)
    opacity = paint(flies, 96, np.full((len(flies), 2), 48.0), scale, np.ones(len(flies)))[..., 3]
    for drawn, around in zip(opacity > 0.2, points, strict=True):
        rows, columns = np.nonzero(drawn)
        lowest, highest = around.min(axis=0), around.max(axis=0)
        assert lowest[0] - 1 <= columns.min() < lowest[0] + 2 and highest[0] - 2 < columns.max() + 1 <= highest[0] + 1
        assert lowest[1] - 1 <= rows.min() < lowest[1] + 2 and highest[1] - 2 < rows.max() + 1 <= highest[1] + 1


def test_every_size_shows_the_same_flies_at_the_same_places() -> None:
    small, large = draw_picture(7, 160, 20), draw_picture(7, 320, 20)
    np.testing.assert_array_equal(small.traits, large.traits)
    np.testing.assert_allclose(2 * small.key_points, large.key_points, atol=1e-3)
    means = large.pixels.reshape(160, 2, 160, 2, 3).mean(axis=(1, 3))
    assert np.mean(np.abs(means - small.pixels)) < 8


def test_long_wings_reach_beyond_the_tail_and_small_ones_do_not() -> None:
    picture = draw_picture(1)
    head, tail, *tips = np.moveaxis(picture.key_points, 1, 0)
    axis = tail - head
    reach = [np.sum((tip - head) * axis, axis=1) / np.sum(axis**2, axis=1) for tip in tips]
    np.testing.assert_array_equal(np.min(reach, axis=0) > 1, picture.traits[:, 0] == 1)


def test_crops_repeat_show_their_key_points_and_have_the_phenotypes_of_the_ratio() -> None:
    drawn, again = crops(70, 48, 5, ratio=(9, 0, 0, 0, 0, 0, 0, 1)), crops(70, 48, 5, ratio=(9, 0, 0, 0, 0, 0, 0, 1))
    np.testing.assert_array_equal(drawn.pixels, again.pixels)
    assert drawn.pixels.shape == (70, 48, 48, 3) and drawn.pixels.dtype == np.uint8
    assert drawn.key_points.min() > 0 and drawn.key_points.max() < 1
    kinds, counts = np.unique(drawn.traits, axis=0, return_counts=True)
    np.testing.assert_array_equal(kinds, ((0, 0, 0), (1, 1, 1)))
    assert counts[1] > counts[0] > 0


def test_a_picture_of_one_phenotype_has_no_other() -> None:
    ratio = np.eye(len(PHENOTYPES))[3]
    assert np.all(draw_picture(0, 96, 15, ratio).traits == PHENOTYPES[3])


@pytest.mark.parametrize("colour", [0, 1])
def test_eyes_have_the_colour_of_the_trait(colour: int) -> None:
    flies = random_flies(np.array([(1, colour, 1)]), np.random.default_rng(1))
    patch = paint(flies, 96, np.array([(48.0, 48.0)]), np.array([60.0]), np.array([1.0]))[0]
    head = flies.in_picture(key_points(flies) * 0.8, np.array([(48.0, 48.0)]), np.array([60.0]))[0, 0]
    eyes = patch[int(head[1]) - 8 : int(head[1]) + 8, int(head[0]) - 8 : int(head[0]) + 8]
    is_red = np.any((eyes[..., 0] > 150) & (eyes[..., 1] < 60))
    assert is_red == bool(colour)


def test_the_square_of_a_crop_is_around_the_middle_of_the_box() -> None:
    np.testing.assert_allclose(crop_squares(np.array([(10.0, 20.0, 30.0, 10.0)])), [(7.0, 7.0, 36.0)])
