"""The front of a search, and the choice among its best trials."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from po2quant.benchmark import Dataset, Split, point_of_search
from po2quant.bit_config import BitConfig, LayerBits
from po2quant.search.front import Front
from po2quant.search.repeats import FOLDS, Repeat, Repeats, choose, fold_of, is_distinguishable, paired_means
from po2quant.search.trial_log import COMPLETED, FAILED, TrialLog, TrialRow


def row(trial_id, metric, status=COMPLETED):
    return TrialRow(trial_id, status, metric, metric, 100, 1.0, 0.1)


def searched(folder, *kernels):
    for trial_id, bits in enumerate(kernels):
        place = folder / "trials" / str(trial_id)
        place.mkdir(parents=True)
        BitConfig({"dense": LayerBits(bits, 16), "x": LayerBits(activation=20 - bits)}).save(place / "config.json")
    return Front(folder, {"kernel": lambda w: w["dense.kernel"], "activation": lambda w: w["x.activation"]})


def test_the_front_has_what_no_other_trial_beats(tmp_path):
    front = searched(tmp_path, 4, 8, 16, 8, 12)
    rows = [row("0", 0.5), row("1", 0.9), row("2", 0.9), row("3", 0.8), row("4", 0.0, FAILED)]
    points = front.points(rows)
    assert [point.row.trial_id for point in points] == ["1", "2", "0"]
    assert front.points(rows[:1])[0].costs == {"kernel": 4, "activation": 16}


@settings(max_examples=20, deadline=None)
@given(metrics=st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=5, max_size=5))
def test_every_trial_is_on_the_front_or_beaten_or_equalled_by_one_of_it(tmp_path_factory, metrics):
    folder = tmp_path_factory.mktemp("front")
    kernels = (4, 8, 4, 8, 12)
    front = searched(folder, *kernels)
    rows = [row(str(i), metric) for i, metric in enumerate(metrics)]
    points = front.points(rows)
    for i, metric in enumerate(metrics):
        assert any(point.row.metric >= metric and point.costs["kernel"] == kernels[i] for point in points)
    assert not any(a.beats(b) for a in points for b in points)


def test_the_file_of_the_front_names_metric_costs_and_configuration(tmp_path):
    front = searched(tmp_path, 4)
    front.write(tmp_path / "front.csv", front.points([row("0", 0.5)]))
    (line,) = csv.DictReader((tmp_path / "front.csv").read_text().splitlines())
    assert line == {
        "point": "0",
        "metric": "0.5",
        "standard_error": "",
        "score": "0.5",
        "kernel": "4",
        "activation": "16",
        "config": "trials/0/config.json",
        "weights": "",
    }
    assert point_of_search(f"{tmp_path}:0") == tmp_path / "trials/0/config.json"
    assert point_of_search(f"{tmp_path}:7") is None and point_of_search("flat8") is None


class Trainings(Repeats):
    """Repeats whose metrics are a normal noise around a truth, the same for all trials of one repeat."""

    def __init__(self, truth, noise, folder):
        super().__init__(SimpleNamespace(), 1, 0, folder)
        self.truth, self.noise = truth, noise

    def run(self, trial_id):
        number = len(self.metrics(trial_id))
        shared = np.random.default_rng(number).normal(0, 0.05)
        own = np.random.default_rng((number, int(trial_id))).normal(0, self.noise)
        self.rows.append(Repeat(trial_id, number, self.truth[trial_id] + shared + own))


def chosen(tmp_path, truth, noise, budget):
    log = TrialLog(tmp_path / "trials.csv", list("012345"))
    for trial_id, metric in enumerate((0.93, 0.92, 0.91, 0.90, 0.89, 0.1)):
        log.append(row(str(trial_id), metric))
    tuner = SimpleNamespace(log=log, keep_best_weights=lambda: None)
    trainings = Trainings(truth, noise, tmp_path)
    return choose(tuner, trainings, budget), trainings, log


def test_repeats_find_the_best_of_the_trials_that_luck_had_ranked(tmp_path):
    truth = {"0": 0.80, "1": 0.82, "2": 0.81, "3": 0.90, "4": 0.83}
    candidates, trainings, log = chosen(tmp_path, truth, 0.005, 100)
    assert candidates[0].row.trial_id == "3" and log.best().trial_id == "3"
    assert all(candidate.is_worse for candidate in candidates[1:]) and len(trainings.rows) < 40
    assert log.best().repeats >= 2 and log.best().standard_error > 0
    assert TrialLog(tmp_path / "trials.csv", list("012345")).rows == log.rows


def test_equal_trials_spend_the_budget_and_are_said_to_be_not_distinguishable(tmp_path):
    candidates, trainings, _ = chosen(tmp_path, dict.fromkeys("01234", 0.8), 0.02, 25)
    assert len(trainings.rows) == 25
    assert sum(not candidate.is_worse for candidate in candidates) > 2


def test_differences_are_paired():
    assert is_distinguishable([0.9, 0.5, 0.7], [0.89, 0.49, 0.691])
    assert not is_distinguishable([0.9, 0.5, 0.7], [0.5, 0.9, 0.7])
    assert not is_distinguishable([0.9], [0.1])


def test_two_equal_differences_are_no_proof_and_few_repeats_need_a_clear_one():
    assert not is_distinguishable([0.9, 0.8], [0.7, 0.6])
    assert not is_distinguishable([0.91, 0.90, 0.89], [0.88, 0.89, 0.88])  # 3.5 standard errors; Student asks for 4.3
    assert is_distinguishable([0.91, 0.90, 0.89, 0.90], [0.88, 0.89, 0.87, 0.88])


def test_an_easy_fold_lifts_no_trial_above_those_that_had_none():
    means = paired_means({"lucky": [0.80, 0.80, 0.95, 0.95], "good": [0.82, 0.82]})
    assert means["good"] - means["lucky"] == pytest.approx(0.02)
    assert paired_means({"a": [0.5, 0.7], "b": [0.6, 0.9]}) == pytest.approx({"a": 0.6, "b": 0.75})


def test_folds_share_no_sample_and_cover_all(tmp_path):
    x = np.arange(53.0)[:, None]
    data = Dataset("d", "own", Split(x[:3], None), Split(x[3:40], None), Split(x[40:], None))
    folds = [fold_of(data, fold, seed=1) for fold in range(FOLDS)]
    held_out = np.concatenate([fold.validation.x for fold in folds])
    assert sorted(held_out.ravel()) == sorted(x[3:].ravel())
    for fold in folds:
        assert not set(fold.train.x.ravel()) & set(fold.validation.x.ravel())
        assert len(fold.train) + len(fold.validation) == 50
    with pytest.raises(ValueError):
        fold_of(Dataset("d", "own", Split(x, None)), 0, 0)
