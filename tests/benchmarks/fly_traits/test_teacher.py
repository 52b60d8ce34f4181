"""Pseudo-labels of flies whose traits nobody has told."""

import numpy as np
import pytest

from benchmarks.fly_traits.data import split_of
from benchmarks.fly_traits.generator import crops
from benchmarks.fly_traits.teacher import TEACHERS, with_hidden_labels, with_pseudo_labels

FLIES = split_of(crops(6, 16, 0))
HIDDEN = with_hidden_labels(FLIES, 4)


def test_hidden_labels_are_unknown_and_the_others_as_before():
    assert np.all(np.isnan(HIDDEN.y[4:])) and HIDDEN.x is FLIES.x
    np.testing.assert_array_equal(HIDDEN.y[:4], FLIES.y[:4])


def test_a_teacher_says_what_is_not_known_where_it_is_sure():
    said = np.full((6, 3), 0.95, np.float32)
    said[4] = [0.02, 0.6, 0.9]
    filled = with_pseudo_labels(HIDDEN, lambda x: said, confidence=0.9).y
    np.testing.assert_array_equal(filled[:4], FLIES.y[:4])
    np.testing.assert_array_equal(filled[4:, :3], [[0, np.nan, 1], [1, 1, 1]])
    assert np.all(np.isnan(filled[4:, 3:])) and np.all(np.isnan(HIDDEN.y[4:]))


@pytest.mark.parametrize("confidence", [0.5, 1.01, float("nan")])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(ValueError, match=r"confidence must be in .* Received"):
        with_pseudo_labels(HIDDEN, lambda x: np.zeros((6, 3)), confidence)


@pytest.mark.parametrize("labelled", [0, -1, 7])
def test_a_number_of_labels_that_there_is_not_is_refused(labelled):
    with pytest.raises(ValueError, match=r"labelled must be in .* Received"):
        with_hidden_labels(FLIES, labelled)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_gives_probabilities_of_the_traits_of_pictures_of_any_size(name):
    teacher = TEACHERS[name]()
    for size in (32, 48):
        outputs = np.asarray(teacher(np.zeros((2, size, size, 3), np.float32)))
        assert outputs.shape == (2, 3) and np.all((outputs > 0) & (outputs < 1))
