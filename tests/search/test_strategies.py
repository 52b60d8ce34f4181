"""The table of strategies: each one searches by the problem alone, the same trials for the same seed."""

import dataclasses
from pathlib import Path

import pytest

from po2quant.cost import LayerShape
from po2quant.runs.request import STRATEGY_NAMES
from po2quant.search import SearchSettings
from po2quant.search.problem import Goal, SearchProblem
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import SearchSpace
from po2quant.search.strategies import HESSIAN, HYPERBAND, INFORMED, STRATEGIES

LAYERS = [LayerShape(f"dense_{index}", "Dense", "weights", (2,), 100 * 3**index, 2) for index in range(4)]
SPACE = SearchSpace(kernel=(4, 8, 16), bias=(16,))
SENSITIVITIES = [
    Sensitivity(slot, bits, 0.0, 1.0 / bits**2 - 1.0 / widths[-1] ** 2)
    for slot, widths in SPACE.choices(LAYERS).items()
    for bits in widths
]
PROBLEM = SearchProblem(
    SPACE, LAYERS, Goal.of_size(LAYERS), 7, sensitivities=lambda: SENSITIVITIES, curvatures=lambda: SENSITIVITIES
)


def trials_of(strategy, folder, problem=PROBLEM):
    """Return the values of all trials of a strategy; each scores by the goal, wide kernels being no better."""
    oracle, trials = STRATEGIES[strategy](problem), []
    oracle._set_project_dir(str(folder), "tuner")
    oracle.verbose = 0
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        values = trial.hyperparameters.values
        trials.append(dict(values))
        oracle.update_trial(trial.trial_id, {"score": problem.goal.factor(problem.goal.cost(values))})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return trials


def test_each_strategy_that_a_command_may_name_is_in_the_table():
    assert tuple(STRATEGIES) == STRATEGY_NAMES


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_trials_in_the_space(strategy, tmp_path):
    first, again = (trials_of(strategy, tmp_path / name) for name in ("first", "again"))
    assert first == again
    assert all(values[slot] in widths for values in first for slot, widths in SPACE.choices(LAYERS).items())
    assert strategy == HYPERBAND or len({str(values) for values in first}) == len(first) == PROBLEM.max_trials
    assert first != trials_of(strategy, tmp_path / "other", dataclasses.replace(PROBLEM, seed=1)) or strategy in (
        INFORMED,
        HESSIAN,
    )


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != HYPERBAND])
@pytest.mark.parametrize("of_size", [True, False])
def test_no_trial_costs_more_than_the_limit_whatever_the_cost(strategy, of_size, tmp_path):
    if of_size:
        goal = Goal.of_size(LAYERS, max_bits=30_000)
    else:
        goal = Goal(lambda values: sum(bits**2 for bits in values.values()) / 4, reference=512.0, limit=400.0)
    trials = trials_of(strategy, tmp_path, dataclasses.replace(PROBLEM, goal=goal))
    assert len(trials) == PROBLEM.max_trials
    assert all(goal.cost(values) <= goal.limit for values in trials)


def test_only_a_strategy_that_asks_for_sensitivities_has_them_measured(tmp_path):
    def measure():
        raise RuntimeError("measured")

    for strategy in STRATEGIES:
        own = {"curvatures" if strategy == HESSIAN else "sensitivities": measure}
        unmeasured = dataclasses.replace(PROBLEM, **own)
        if strategy in (INFORMED, HESSIAN):
            with pytest.raises(RuntimeError, match="measured"):
                STRATEGIES[strategy](unmeasured)
        else:
            STRATEGIES[strategy](unmeasured)


def test_hyperband_refuses_a_limit_that_it_would_not_heed():
    limited = dataclasses.replace(PROBLEM, goal=Goal.of_size(LAYERS, max_bits=10**6))
    with pytest.raises(ValueError, match=r"hyperband must have no limit of the cost\. Received: limit=1000000"):
        STRATEGIES[HYPERBAND](limited)


def test_the_strategy_of_the_documentation_searches(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("\nrun_search(")[0]
    monkeypatch.setitem(STRATEGIES, "narrow_first", None)  # which is undone
    exec(example, {})
    assert SearchSettings(7, 1, "narrow_first").strategy == "narrow_first"
    trials = trials_of("narrow_first", tmp_path)
    costs = [PROBLEM.goal.cost(values) for values in trials]
    assert trials[:3] == SPACE.flat_values(LAYERS)
    assert costs[3:] == sorted(costs[3:]) and len(trials) == 7


def test_an_unknown_strategy_is_refused():
    with pytest.raises(
        ValueError, match=r"one of informed, bayesian, random, gradient, hessian, hyperband\. Received: strategy='grid'"
    ):
        SearchSettings(3, 1, "grid")
