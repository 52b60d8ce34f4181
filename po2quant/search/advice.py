"""The next trial by measured sensitivities and the trials so far: a model of the score that costs nothing to ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from sklearn.isotonic import IsotonicRegression

from po2quant.search.allocation import Allocator
from po2quant.search.problem import SearchProblem, Values
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import BETWEEN_SLOTS

BUDGETS = 32
TOLERATED_ERROR = 0.01
"""Share of its error that a configuration may gain where it is trimmed."""

LEAST_IMPROVEMENT = 0.001
"""Share of the best score below which an improvement drowns in the noise of the metric."""

_LEAST_ERROR = 1e-12
"""Stands for no error on the logarithmic scale."""


class MetricByError:
    """What trials say of the metric of a configuration, by its error: it falls, in whatever way, as the error grows.

    Args:
        errors: log error of each trial.
        metrics: its metric.
    """

    def __init__(self, errors: np.ndarray, metrics: np.ndarray) -> None:
        self._errors = np.unique(errors)
        regression = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(errors, metrics)
        self._metrics = regression.predict(self._errors)

    def expected(self, errors: np.ndarray) -> np.ndarray:
        """Return the mean of what may come out at an error."""
        return np.interp(errors, self._errors, self._metrics)

    def expected_improvement(self, errors: np.ndarray, factors: np.ndarray, best_score: float) -> np.ndarray:
        """Return the mean of what may come out above the best score.

        Between two trials the metric is taken to fall at once, at any log error with equal chance. A configuration half
        way between a good trial and a bad one so has an even chance to be as good at a smaller size.
        """
        place = np.interp(errors, self._errors, np.arange(len(self._errors)))
        below, above = np.floor(place).astype(int), np.ceil(place).astype(int)
        chance_of_fall = place - below
        better, worse = (np.maximum(self._metrics[side] * factors - best_score, 0.0) for side in (below, above))
        return (1.0 - chance_of_fall) * better + chance_of_fall * worse


class Advisor:
    """Proposes the untried configuration of which most improvement is expected.

    Equation:
        score = metric(log sum_s e_s(w_s)) * factor(cost), where e_s(w) is the output error of slot s at width w alone,
        and the metric is regressed over the trials (:class:`MetricByError`). Improvements are over the best of these
        scores, not over a measured one, which may be luck.

    Candidates are the allocations of least error at :data:`BUDGETS` sizes and the changes of one choice of the best
    trial. A search over one number, the error, needs few trials where one over all widths needs hundreds.

    Args:
        problem: what is searched.
        sensitivities: what each width of each slot costs.

    Reference:
        Dong et al., "HAWQ-V2", arXiv 1911.03852: the sum of independent errors ranks configurations.
    """

    def __init__(self, problem: SearchProblem, sensitivities: Sequence[Sensitivity]) -> None:
        space, layers, self._goal = problem.space, problem.layers, problem.goal
        self._extra = space.extra
        self._predicted: dict[tuple[int, ...], tuple[float, float]] = {}
        self._errors = {(row.slot, row.bits): row.output_error for row in sensitivities}
        self._choices = {choice.name: choice.values for choice in space.hyperparameters(layers).space}
        allocator = Allocator.of(problem, sensitivities)
        allocations = allocator.pareto(allocator.spread_budgets(BUDGETS, problem.goal.limit))
        self._allocations = [space.values_of(allocation.widths, layers) for allocation in allocations]

    def __call__(self, trials: Sequence[tuple[Values, float]], taken: Sequence[Values] = ()) -> dict[str, int] | None:
        """Return the values of the next trial.

        Where hardly any improvement is expected, every second answer is None, so that another model has its turn, and
        the others are those of highest predicted score: the prediction is rough.

        Args:
            trials: values and score of each finished trial.
            taken: values of further ones: trials that failed, or that other workers run.
        """
        if not trials:
            return None
        errors, factors = self._log_errors_and_factors(values for values, _ in trials)
        metric = MetricByError(errors, np.array([score for _, score in trials]) / factors)
        best_values, _ = max(trials, key=lambda trial: trial[1])
        best_score = max(metric.expected(errors) * factors)
        tried = {self._key(values) for values in (*(values for values, _ in trials), *taken)}
        candidates = [
            values
            for values in (*self._allocations, *self._changes(best_values))
            if self._key(values) not in tried and self._goal.allows(values)
        ]
        if not candidates:
            return None
        errors, factors = self._log_errors_and_factors(candidates)
        improvements = metric.expected_improvement(errors, factors, best_score)
        if max(improvements) > LEAST_IMPROVEMENT * best_score:
            return dict(candidates[int(np.argmax(improvements))])
        return dict(candidates[int(np.argmax(metric.expected(errors) * factors))]) if len(trials) % 2 == 0 else None

    def trimmed(self, values: Values) -> dict[str, int]:
        """Return values without the bits that hardly lower the error, cheapest bits first.

        The summed error grows by at most :data:`TOLERATED_ERROR` of itself.
        """
        limit = (1.0 + TOLERATED_ERROR) * self._error(values)
        choices = [(name, widths) for name, widths in self._choices.items() if name not in self._extra]
        steps = [(name, bits) for name, widths in choices for bits in widths if bits < values[name]]
        trimmed = dict(values)
        for name, bits in sorted(steps, key=lambda step: self._error({**values, step[0]: step[1]})):
            narrower = {**trimmed, name: bits}
            if bits < trimmed[name] and self._error(narrower) <= limit:
                trimmed = narrower
        return trimmed

    def _changes(self, values: Values) -> Iterator[dict[str, int]]:
        """Yield the configurations that differ from the given one in one choice."""
        for name, widths in self._choices.items():
            for bits in widths:
                if bits != values[name]:
                    yield {**values, name: bits}

    def _key(self, values: Values) -> tuple[int, ...]:
        return tuple(values[name] for name in self._choices)

    def _log_errors_and_factors(self, configurations: Iterable[Values]) -> tuple[np.ndarray, np.ndarray]:
        errors, costs = zip(*map(self._log_error_and_cost, configurations), strict=True)
        return np.array(errors), np.array(list(map(self._goal.factor, costs)))

    def _log_error_and_cost(self, values: Values) -> tuple[float, float]:
        key = self._key(values)
        if key not in self._predicted:
            self._predicted[key] = float(np.log(self._error(values) + _LEAST_ERROR)), self._goal.cost(values)
        return self._predicted[key]

    def _error(self, values: Values) -> float:
        slots = ((slot, bits) for name, bits in values.items() for slot in name.split(BETWEEN_SLOTS))
        return sum(self._errors.get((slot, bits), 0.0) for slot, bits in slots)
