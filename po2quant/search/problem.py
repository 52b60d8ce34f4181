"""What a search is asked: which widths a network may have, what they cost, what is maximised."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from po2quant.cost import ForgivingFactor, LayerShape, network_size, reference_config
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import SearchSpace, size_of_values

Values = Mapping[str, int]
"""Width of every choice, by the names of :meth:`~po2quant.search.space.SearchSpace.hyperparameters`."""
Cost = Callable[[Values], float]
"""Given the widths of a network, what it costs: less is better."""


@dataclasses.dataclass(frozen=True)
class SizeCost:
    """Size of a network in bits, as :func:`po2quant.cost.network_size` counts it.

    Args:
        layers: the network as the bit accounting sees it.
        extra_bits: what is added to it.
    """

    layers: Sequence[LayerShape]
    extra_bits: int = 0

    def __call__(self, values: Values) -> int:
        """Return the size in bits."""
        return size_of_values(values, self.layers) + self.extra_bits


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a search maximises.

    Equation:
        score = metric * factor(cost)

    Args:
        cost: of the widths of a trial.
        reference: cost that others are compared with.
        trade: of metric for cost.
        limit: largest cost. Then the score is the metric alone. None: any cost.

    Example:
        >>> Goal(SizeCost([]), reference=400).factor(200), Goal(SizeCost([]), reference=400, limit=300).factor(200)
        (1.05, 1.0)
    """

    cost: Cost
    reference: float
    trade: ForgivingFactor = dataclasses.field(default_factory=ForgivingFactor)
    limit: float | None = None

    @classmethod
    def of_size(cls, layers: Sequence[LayerShape], max_bits: int | None = None) -> Goal:
        """Return the goal of few bits, against the reference of the bit accounting."""
        return cls(SizeCost(layers), network_size(layers, reference_config(layers)).total_bits, limit=max_bits)

    def allows(self, cost: float) -> bool:
        """Return whether a trial may cost so much."""
        return self.limit is None or cost <= self.limit

    def factor(self, cost: float) -> float:
        """Return what multiplies the metric of a trial."""
        return self.trade(cost, self.reference) if self.limit is None else 1.0


@dataclasses.dataclass(frozen=True)
class SearchProblem:
    """All that a strategy needs to know, see :data:`po2quant.search.strategies.STRATEGIES`.

    Args:
        space: widths to choose from.
        layers: the network as the bit accounting sees it.
        goal: what is maximised.
        max_trials: trials in all.
        epochs: epochs of a trial.
        seed: of the choices, and of the trials.
        sensitivities: measures what each width of each slot costs, for strategies that ask for it.
        known: widths of configurations that are known to be good.
    """

    space: SearchSpace
    layers: Sequence[LayerShape]
    goal: Goal
    max_trials: int
    epochs: int = 1
    seed: int = 0
    sensitivities: Callable[[], Sequence[Sensitivity]] = tuple
    known: Sequence[Values] = ()

    def fits(self, values: Values) -> bool:
        """Return whether the goal allows what a trial costs."""
        return self.goal.allows(self.goal.cost(values))
