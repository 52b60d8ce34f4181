"""The next trial by measured sensitivities and the trials so far: a model of the score that costs nothing to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from sklearn.isotonic import IsotonicRegression

from po2quant.cost import LayerShape
from po2quant.search.allocation import pareto_seeds, spread_budgets
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import BETWEEN_SLOTS, SearchSpace, size_of_values

BUDGETS = 32
TOLERATED_ERROR = 0.01
"""Share of its error that a configuration may gain where it is trimmed."""

_LEAST_ERROR = 1e-12
"""Stands for no error on the logarithmic scale."""


class Advisor:
    """Proposes the untried configuration of highest predicted score.

    Equation:
        score = metric(log sum_s e_s(w_s)) * factor(size), where e_s(w) is the output error of slot s at width w alone,
        and the metric is an isotonic regression over the trials: it falls, in whatever way, as the error grows.

    Candidates are the allocations of least error at :data:`BUDGETS` sizes and the changes of one choice of the best
    trial. A search over one number, the error, needs few trials where one over all widths needs hundreds.

    Args:
        space: widths to choose from.
        layers: the network as the bit accounting sees it.
        sensitivities: what each width of each slot costs.
        size_factor: given a size in bits, returns the factor of the metric.
        max_bits: largest size of a network; None: any.

    Reference:
        Dong et al., "HAWQ-V2", arXiv 1911.03852: the sum of independent errors ranks configurations.
    """

    def __init__(
        self,
        space: SearchSpace,
        layers: Sequence[LayerShape],
        sensitivities: Sequence[Sensitivity],
        size_factor: Callable[[int], float],
        max_bits: int | None = None,
    ) -> None:
        self._layers, self._size_factor = layers, size_factor
        self._predicted: dict[tuple[int, ...], tuple[float, float]] = {}
        self._errors = {(row.slot, row.bits): row.output_error for row in sensitivities}
        self._choices = {choice.name: choice.values for choice in space.hyperparameters(layers).space}
        budgets = spread_budgets(sensitivities, layers, BUDGETS, space.groups, max_bits)
        allocations = pareto_seeds(sensitivities, layers, budgets, space.groups)
        self._allocations = [space.values_of(allocation.widths, layers) for allocation in allocations]

    def __call__(
        self, trials: Sequence[tuple[Mapping[str, int], float]], taken: Sequence[Mapping[str, int]] = ()
    ) -> dict[str, int] | None:
        """Return the values of the next trial.

        Where no better one is expected, every second answer is None, so that another model has its turn: the prediction
        is rough, and a candidate that is expected to come close may still win.

        Args:
            trials: values and score of each finished trial.
            taken: values of further ones: trials that failed, or that other workers run.
        """
        if not trials:
            return None
        errors, factors = zip(*(self._log_error_and_factor(values) for values, _ in trials), strict=True)
        metric = IsotonicRegression(increasing=False, out_of_bounds="clip")
        metric.fit(errors, [score / factor for (_, score), factor in zip(trials, factors, strict=True)])
        best_values, best_score = max(trials, key=lambda trial: trial[1])
        tried = {self._key(values) for values in (*(values for values, _ in trials), *taken)}
        candidates = [
            values
            for values in (*self._allocations, *self._changes(best_values))
            if self._key(values) not in tried and self._log_error_and_factor(values)[1] > 0.0
        ]
        if not candidates:
            return None
        errors, factors = zip(*map(self._log_error_and_factor, candidates), strict=True)
        scores = metric.predict(errors) * factors
        chosen = int(np.argmax(scores))
        has_turn = scores[chosen] > best_score or len(trials) % 2 == 0
        return dict(candidates[chosen]) if has_turn else None

    def trimmed(self, values: Mapping[str, int]) -> dict[str, int]:
        """Return values without the bits that hardly lower the error, cheapest bits first.

        The summed error grows by at most :data:`TOLERATED_ERROR` of itself.
        """
        limit = (1.0 + TOLERATED_ERROR) * self._error(values)
        steps = [(name, bits) for name, widths in self._choices.items() for bits in widths if bits < values[name]]
        trimmed = dict(values)
        for name, bits in sorted(steps, key=lambda step: self._error({**values, step[0]: step[1]})):
            narrower = {**trimmed, name: bits}
            if bits < trimmed[name] and self._error(narrower) <= limit:
                trimmed = narrower
        return trimmed

    def _changes(self, values: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """Yield the configurations that differ from the given one in one choice."""
        for name, widths in self._choices.items():
            for bits in widths:
                if bits != values[name]:
                    yield {**values, name: bits}

    def _key(self, values: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(values[name] for name in self._choices)

    def _log_error_and_factor(self, values: Mapping[str, int]) -> tuple[float, float]:
        key = self._key(values)
        if key not in self._predicted:
            size = size_of_values(values, self._layers)
            self._predicted[key] = float(np.log(self._error(values) + _LEAST_ERROR)), self._size_factor(size)
        return self._predicted[key]

    def _error(self, values: Mapping[str, int]) -> float:
        slots = ((slot, bits) for name, bits in values.items() for slot in name.split(BETWEEN_SLOTS))
        return sum(self._errors[slot, bits] for slot, bits in slots)
