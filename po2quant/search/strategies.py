"""How the trials of a search are chosen: a function of the problem for each strategy, and one table of them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable

import keras_tuner

from po2quant.runs.request import BAYESIAN, GRADIENT, HESSIAN, HYPERBAND, INFORMED, RANDOM
from po2quant.search.advice import Advisor
from po2quant.search.allocation import Allocator
from po2quant.search.oracle import OBJECTIVE, SeededOracle, first_seed
from po2quant.search.problem import SearchProblem

Strategy = Callable[[SearchProblem], keras_tuner.Oracle]


def informed(problem: SearchProblem) -> SeededOracle:
    """Return an oracle that needs few trials, because it knows what each width costs alone.

    It tries the flat configurations, known ones, these without the bits that hardly lower the error, two allocations of
    sizes between the smallest and the reference's or the limit, the one at the limit, what sensitivities and trials
    together promise, and at last what the Gaussian process chooses.
    """
    rows, limit = problem.sensitivities(), problem.goal.limit
    allocator, advisor = Allocator.of(problem, rows), Advisor(problem, rows)
    _, *between, largest = allocator.spread_budgets(4, limit)
    allocations = allocator.pareto(between if limit is None else [*between, largest])
    allocated = [problem.space.values_of(allocation.widths, problem.layers) for allocation in allocations]
    promising = [*problem.known, *map(advisor.trimmed, problem.known), *allocated]
    return SeededOracle(problem, promising, advisor, random_trials=0)


def bayesian(problem: SearchProblem) -> SeededOracle:
    """Return an oracle that tries the flat configurations, some at random, then what a Gaussian process chooses."""
    return SeededOracle(problem)


def random(problem: SearchProblem) -> SeededOracle:
    """Return an oracle that tries the flat configurations, then others at random, none twice."""
    return SeededOracle(problem, random_trials=problem.max_trials)


def gradient(problem: SearchProblem) -> SeededOracle:
    """Return an oracle that tries the flat configurations, widths trained by gradient, then what a process chooses."""
    return SeededOracle(problem, problem.trained(), random_trials=0)


def hessian(problem: SearchProblem) -> SeededOracle:
    """Return the oracle of :func:`informed`, with sensitivities by Hessian traces in place of measured ones."""
    return informed(dataclasses.replace(problem, sensitivities=problem.curvatures))


def hyperband(
    problem: SearchProblem, max_epochs: int | None = None, factor: int = 3, hyperband_iterations: int = 1
) -> keras_tuner.Oracle:
    """Return Keras Tuner's Hyperband: many trials of few epochs, the best of them again with more.

    Args:
        problem: its number of trials does not count.
        max_epochs: epochs of the longest trials, by default the problem's.
        factor: share of trials that is left out before the others get as many times more epochs.
        hyperband_iterations: how often it is done.

    Raises:
        ValueError: where the goal has a limit, which Keras Tuner's choices do not heed.

    Reference:
        Li et al., JMLR 18, 2018, 185.
    """
    check_strategy(HYPERBAND, next((limit.maximum for limit in problem.goal.all_limits), None))
    return keras_tuner.oracles.HyperbandOracle(
        objective=OBJECTIVE,
        max_epochs=max_epochs or problem.epochs,
        factor=factor,
        hyperband_iterations=hyperband_iterations,
        hyperparameters=problem.space.hyperparameters(problem.layers),
        allow_new_entries=False,
        seed=first_seed(problem),
        max_consecutive_failed_trials=sys.maxsize,
    )


STRATEGIES: dict[str, Strategy] = {
    INFORMED: informed,
    BAYESIAN: bayesian,
    RANDOM: random,
    GRADIENT: gradient,
    HESSIAN: hessian,
    HYPERBAND: hyperband,
}


def check_strategy(name: str, limit: float | None = None) -> None:
    """Raise ValueError for an unknown strategy, or one that does not heed a limit of the cost."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: strategy={name!r}")
    if name == HYPERBAND and limit is not None:
        raise ValueError(f"{HYPERBAND} must have no limit of the cost. Received: limit={limit}")
