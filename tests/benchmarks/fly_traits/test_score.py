"""What the classifier of traits is trained for and scored by."""

import numpy as np
import pytest

from benchmarks.fly_traits.data import split_of
from benchmarks.fly_traits.generator import crops
from benchmarks.fly_traits.score import loss, targets, trait_accuracy, traits_score

POINTS = np.array([[[0.1, 0.5], [0.7, 0.5], [0.8, 0.4], [0.8, 0.7]], [[0.5, 0.1], [0.5, 0.8], [0.3, 0.6], [0.7, 0.5]]])
TARGETS = targets(np.array([[1, 0, 1], [0, 0, 1]]), POINTS)


def _without(targets, columns):
    changed = targets.copy()
    changed[0, columns] = np.nan
    return changed


def test_targets_are_traits_and_the_code_of_the_key_points():
    np.testing.assert_allclose(TARGETS[1], [0, 0, 1, 0.5, 0.1, 0.5, 0.8, 0.5, 0.55, 0.4, 0.1, 0], atol=1e-7)


def test_right_outputs_have_no_loss_and_full_accuracy():
    np.testing.assert_allclose(loss(TARGETS, TARGETS), 0.0, atol=1e-5)
    np.testing.assert_array_equal(trait_accuracy(TARGETS, TARGETS), 1.0)


@pytest.mark.parametrize("columns", [[0], [1, 2], list(range(3, 12)), [11]])
def test_what_is_not_known_counts_nothing(columns):
    outputs = np.random.default_rng(0).uniform(0.1, 0.9, TARGETS.shape).astype(np.float32)
    others = outputs.copy()
    others[0, columns] = 0.5
    unknown = _without(TARGETS, columns)
    values = np.asarray(loss(unknown, outputs))
    assert np.all(np.isfinite(values))
    np.testing.assert_array_equal(values, loss(unknown, others))
    np.testing.assert_array_equal(trait_accuracy(unknown, outputs), trait_accuracy(unknown, others))


def test_the_loss_is_the_weighted_sum_of_its_parts():
    outputs = np.random.default_rng(1).uniform(0.1, 0.9, TARGETS.shape).astype(np.float32)
    entropy = -np.where(TARGETS > 0.5, np.log(outputs), np.log(1 - outputs))
    squared = np.square(TARGETS - outputs)[:, 3:11].mean(axis=1)
    expected = 0.5 * entropy[:, :3].mean(axis=1) + 2.0 * (squared + 0.02 * entropy[:, 11])
    np.testing.assert_allclose(loss(TARGETS, outputs, 0.5, 2.0), expected, rtol=1e-5)


def test_a_network_without_key_points_learns_traits_alone():
    np.testing.assert_allclose(loss(TARGETS, TARGETS[:, :3], 1.0, 7.0), 0.0, atol=1e-5)


def test_the_score_has_each_trait_and_distances_of_points():
    split = split_of(crops(16, 24, 0))
    outputs = split.y.copy()
    outputs[:4, 0] = 1 - outputs[:4, 0]
    outputs[:, 3] += 0.25
    score = traits_score(lambda x: outputs, split)
    assert score.details["wing"] == 0.75 and score.details["eye"] == score.details["sex"] == 1.0
    assert score.value == pytest.approx(1 - 4 / 48) and score.samples == 16
    assert score.details["head and tail distance"] == pytest.approx(0.125)
    assert score.details["wing tip distance"] == pytest.approx(0.0, abs=1e-6)


def test_the_score_leaves_out_what_is_not_known():
    split = split_of(crops(8, 24, 0))
    split.y[:, 1] = np.nan
    split.y[0, 5] = np.nan
    score = traits_score(lambda x: np.where(np.isnan(split.y), 0.5, split.y), split)
    assert score.value == 1.0 and "eye" not in score.details and score.details["wing tip distance"] < 1e-6
