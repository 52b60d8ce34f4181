"""The advisor: it finds the best configuration of a score that follows its model, and knows when to stop."""

import itertools
import math

import numpy as np
import pytest

from po2quant.cost import LayerShape
from po2quant.search.advice import Advisor, MetricByError
from po2quant.search.problem import Goal, SearchProblem, SizeCost
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import SearchSpace

LAYERS = [LayerShape(f"dense_{index}", "Dense", "weights", (2,), 100 * 3**index, 2) for index in range(4)]
SPACE = SearchSpace(kernel=(4, 8, 16), bias=(16,))
ERRORS = {4: 0.1, 8: 0.004, 16: 0.0}
SENSITIVITIES = [
    row
    for index in range(4)
    for row in (
        *(Sensitivity(f"dense_{index}.kernel", bits, error, error / (index + 1)) for bits, error in ERRORS.items()),
        Sensitivity(f"dense_{index}.bias", 16, 0.0, 0.0),
    )
]


GOAL = Goal(SizeCost(LAYERS), reference=100_000)


def advisor_of(sensitivities=SENSITIVITIES, space=SPACE):
    return Advisor(SearchProblem(space, LAYERS, GOAL, max_trials=81), sensitivities)


def error(values):
    return sum(row.output_error for row in SENSITIVITIES if values[row.slot] == row.bits)


def score(values, fall=0.08):
    """Return a score whose metric falls with the error, steeply about a given one."""
    metric = 1.0 / (1.0 + math.exp(60.0 * (error(values) - fall)))
    return metric * GOAL.factor(GOAL.cost(values))


def everything():
    for kernels in itertools.product((4, 8, 16), repeat=4):
        yield {f"dense_{index}.kernel": bits for index, bits in enumerate(kernels)} | {
            f"dense_{index}.bias": 16 for index in range(4)
        }


@pytest.mark.parametrize(
    ("fall", "share"), [(0.02, 0.998), (0.08, 0.998), (0.15, 0.998), (0.25, 0.998), (0.3, 0.997), (0.39, 0.998)]
)
def test_a_few_trials_come_near_the_best_of_81_configurations(fall, share):
    advisor = advisor_of()
    trials = [(values, score(values, fall)) for values in SPACE.flat_values(LAYERS)]
    while len(trials) < 8 and (values := advisor(trials)) is not None:
        assert values not in [tried for tried, _ in trials]
        trials.append((values, score(values, fall)))
    assert max(found for _, found in trials) > share * max(score(values, fall) for values in everything())


def test_the_improvement_is_that_of_a_fall_at_any_place_between_two_trials():
    errors, metrics = np.array([-6.0, -4.0, -1.0]), np.array([0.9, 0.6, 0.5])
    asked, factors, best = np.array([-7.0, -6.0, -5.5, -3.0, -1.0, 0.0]), np.array([1.1, 1.1, 1.2, 1.8, 2.0, 2.0]), 0.95
    improvements = MetricByError(errors, metrics).expected_improvement(asked, factors, best)
    places = np.linspace(0.0, 1.0, 100_001)
    for value, factor, improvement in zip(asked, factors, improvements, strict=True):
        metric = np.full(places.shape, metrics[0])
        for index, (low, high) in enumerate(itertools.pairwise(errors)):
            metric[value > low + places * (high - low)] = metrics[index + 1]
        expected = np.mean(np.maximum(metric * factor - best, 0.0))
        assert improvement == pytest.approx(expected, abs=1e-4)


def test_noise_is_regressed_away():
    metric = MetricByError(np.array([-3.0, -2.0, -1.0]), np.array([0.8, 0.9, 0.7]))
    assert metric.expected(np.array([-4.0, -3.0, -2.5, -1.5, 0.0])) == pytest.approx([0.85, 0.85, 0.85, 0.775, 0.7])


def test_nothing_is_advised_before_the_first_trial_or_where_nothing_is_left():
    advisor = advisor_of()
    assert advisor([]) is None
    assert advisor([(values, score(values)) for values in everything()]) is None


def test_what_other_workers_run_is_not_advised_again():
    advisor = advisor_of()
    everywhere = list(everything())
    trials = [(values, score(values)) for values in everywhere[:2]]
    running = [advisor(trials)]
    running.append(advisor(trials, running))
    assert running[0] != running[1]
    others = [values for values in everywhere if values not in running]
    assert advisor(trials, others) in running


def test_where_nothing_better_is_expected_every_second_turn_is_passed_on():
    advisor = advisor_of()
    ranked = sorted(((values, score(values)) for values in everything()), key=lambda trial: trial[1], reverse=True)
    assert advisor(ranked[:40]) is not None
    assert advisor(ranked[:41]) is None


def test_groups_are_advised_as_one_choice():
    groups = {"dense_0.kernel": "front", "dense_1.kernel": "front"}
    space = SearchSpace(kernel=(4, 8, 16), bias=(16,), groups=groups)
    flats = space.flat_values(LAYERS)
    factors = [GOAL.factor(GOAL.cost(values)) for values in flats]
    metrics = (0.94, 0.99, 1.0)
    trials = [(values, metric * factor) for values, metric, factor in zip(flats, metrics, factors, strict=True)]
    advised = advisor_of(space=space)(trials)
    assert advised.keys() == flats[0].keys()
    assert "dense_0.kernel/dense_1.kernel" in advised


def test_sensitivities_must_cover_the_network():
    rows = [row for row in SENSITIVITIES if row.slot != "dense_0.kernel"]
    with pytest.raises(ValueError, match=r"without dense_0\.kernel"):
        advisor_of(rows)


@pytest.mark.slow
def test_trimming_takes_away_the_bits_that_hardly_matter_and_no_others(monkeypatch):
    cheap = {4: 0.0011, 8: 0.0005, 16: 0.0}
    rows = [
        Sensitivity(row.slot, row.bits, 0.0, cheap[row.bits]) if row.slot == "dense_2.kernel" else row
        for row in SENSITIVITIES
    ]
    advisor = advisor_of(rows)
    wide = dict.fromkeys((f"dense_{index}.bias" for index in range(4)), 16)
    wide |= {"dense_0.kernel": 4, "dense_1.kernel": 8, "dense_2.kernel": 16, "dense_3.kernel": 16}
    assert advisor.trimmed(wide) == wide | {"dense_2.kernel": 8}
    monkeypatch.setattr("po2quant.search.advice.TOLERATED_ERROR", 0.012)
    assert advisor.trimmed(wide) == wide | {"dense_2.kernel": 4}
    monkeypatch.setattr("po2quant.search.advice.TOLERATED_ERROR", 0.0)
    assert advisor.trimmed(wide) == wide
