"""Classes that lie apart are found again, and where there are none the index is about zero."""

import numpy as np
import pytest

from benchmarks.studies.clusters import embed, knee

LABELS = np.repeat(np.arange(3), 40)


def test_separate_classes_are_found_again_by_both_methods():
    rng = np.random.default_rng(0)
    features = 20.0 * np.eye(3)[LABELS] + rng.normal(size=(120, 3))
    found = embed(features, LABELS)
    assert found.points.shape == (120, 2)
    assert found.kmeans_ari == found.dbscan_ari == pytest.approx(1.0)


def test_labels_that_features_do_not_know_give_an_index_of_about_zero():
    found = embed(np.random.default_rng(0).normal(size=(120, 4)), LABELS)
    assert abs(found.kmeans_ari) < 0.1 and found.dbscan_ari < 0.15


def test_the_knee_is_where_a_curve_begins_to_rise():
    assert knee(np.array([5.0, 0.0, 1.0, 0.5, 0.75])) == 1.0
