import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refusals import complaint

from benchmarks.fly_traits.boxes import anchors, decode, detections, encode, matches, overlaps, suppress

SIDES = st.floats(0.5, 40, width=32)
BOXES = st.integers(0, 12).flatmap(
    lambda count: st.tuples(
        arrays(np.float32, (count, 2), elements=st.floats(-20, 60, width=32)),
        arrays(np.float32, (count, 2), elements=SIDES),
    ).map(lambda parts: np.concatenate(parts, axis=1))
)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    x, y, width, height = map(float, first)
    u, v, columns, rows = map(float, second)
    shared = max(min(x + width, u + columns) - max(x, u), 0) * max(min(y + height, v + rows) - max(y, v), 0)
    return shared / (width * height + columns * rows - shared)


@given(BOXES, BOXES)
def test_overlaps_are_those_of_each_pair(boxes: np.ndarray, others: np.ndarray) -> None:
    expected = [[iou(box, other) for other in others] for box in boxes]
    np.testing.assert_allclose(overlaps(boxes, others), np.reshape(expected, (len(boxes), len(others))), atol=1e-12)


def brute_force(boxes: np.ndarray, scores: np.ndarray, most_iou: float) -> list[int]:
    left, stays = list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda index: (scores[index], -index))
        stays.append(best)
        left = [index for index in left if index != best and iou(boxes[best], boxes[index]) <= most_iou]
    return stays


@given(BOXES, st.data(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_suppression_leaves_what_a_brute_force_search_leaves(
    boxes: np.ndarray, data: st.DataObject, most: float
) -> None:
    scores = np.array(data.draw(st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=len(boxes), max_size=len(boxes))))
    assert suppress(boxes, scores, most).tolist() == brute_force(boxes, scores, most)


@settings(max_examples=50)
@given(arrays(np.float32, (7, 2), elements=st.floats(-20, 280, width=32)), arrays(np.float32, (7, 2), elements=SIDES))
def test_a_box_is_decoded_as_it_was_encoded(corners: np.ndarray, sides: np.ndarray) -> None:
    boxes, seen_from = np.concatenate((corners, sides), axis=1), anchors(64, 96)[100:107]
    np.testing.assert_allclose(decode(encode(boxes, seen_from), seen_from), boxes, atol=2e-3)


def test_anchors_follow_the_feature_maps_rows_before_columns_before_aspects() -> None:
    found = anchors(32, 64)
    assert found.shape == (3 * (4 * 8 + 2 * 4 + 1 * 2), 4)
    middles = found[:, :2] + found[:, 2:] / 2
    np.testing.assert_allclose(middles[:6], [(4, 4)] * 3 + [(12, 4)] * 3, atol=1e-5)
    np.testing.assert_allclose(middles[24:27], [(4, 12)] * 3, atol=1e-5)
    np.testing.assert_allclose(middles[-3:], [(48, 16)] * 3, atol=1e-5)
    assert not found.flags.writeable


def test_anchors_of_a_picture_that_no_feature_map_fits_are_refused() -> None:
    assert "multiples of 32" in complaint(anchors, 33, 64)


def test_an_output_that_is_sure_of_one_anchor_is_its_box() -> None:
    output = np.full((len(anchors(64, 64)), 5), -9.0, np.float32)
    box = np.array((20.0, 30.0, 25.0, 18.0))
    for anchor in (50, 53):  # neighbours, both of which see the box
        output[anchor] = (4.0 - anchor / 100, *encode(box, anchors(64, 64)[anchor]))
    found = detections(output, (64, 64))
    np.testing.assert_allclose(found.boxes, [box], atol=1e-3)
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-3.5))], rtol=1e-6)


def test_no_box_that_is_there_is_hit_twice_and_the_surer_one_has_it() -> None:
    there = np.array([(0, 0, 10, 10), (50, 50, 10, 10)], np.float32)
    found = np.array([(1, 0, 10, 10), (0, 0, 10, 10), (30, 30, 10, 10), (50, 51, 10, 10)], np.float32)
    assert matches(found, there).tolist() == [0, -1, -1, 1]
    assert matches(found, there[:0]).tolist() == [-1] * 4


@pytest.mark.parametrize("most", [1, 2])
def test_there_are_at_most_as_many_detections_as_asked_for(most: int) -> None:
    output = np.zeros((len(anchors(64, 64)), 5), np.float32)
    assert len(detections(output, (64, 64), most=most).boxes) == most
