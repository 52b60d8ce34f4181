"""What a search is asked: which widths a network may have, what they cost, what is maximised."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from po2quant.bit_config import BitConfig
from po2quant.cost import ForgivingFactor, LayerShape, layer_size, network_size, reference_config
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import SearchSpace, elements_by_slot, parts_of, widths_of

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

    @functools.cached_property
    def _elements(self) -> dict[str, int]:
        return elements_by_slot(self.layers)

    @functools.cached_property
    def _fixed_bits(self) -> int:
        nothing = BitConfig({})
        fixed = [layer_size(layer, nothing) for layer in self.layers if not parts_of(layer)]
        return self.extra_bits + sum(size.total_bits for size in fixed)

    def __call__(self, values: Values) -> int:
        """Return the size in bits."""
        widths = widths_of(values)
        return self._fixed_bits + sum(size * widths[slot] for slot, size in self._elements.items())


class Limit(NamedTuple):
    """The most of a cost that a trial may have.

    Args:
        name: of the cost, for people.
        cost: of the widths of a trial.
        maximum: largest cost.
    """

    name: str
    cost: Cost
    maximum: float


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a search maximises, and what it must keep.

    Equation:
        score = metric * factor(cost)

    Args:
        cost: of the widths of a trial.
        reference: cost that others are compared with.
        trade: of metric for cost; None: the score is the metric alone.
        limit: largest cost. Then the score is the metric alone. None: any cost.
        limits: of other costs.
        name: of the cost, for people.

    Example:
        >>> Goal(SizeCost([]), reference=400).factor(200), Goal(SizeCost([]), reference=400, limit=300).factor(200)
        (1.05, 1.0)
    """

    cost: Cost
    reference: float
    trade: ForgivingFactor | None = dataclasses.field(default_factory=ForgivingFactor)
    limit: float | None = None
    limits: Sequence[Limit] = ()
    name: str = "bits"

    @classmethod
    def of_size(cls, layers: Sequence[LayerShape], max_bits: int | None = None) -> Goal:
        """Return the goal of few bits, against the reference of the bit accounting."""
        return cls(SizeCost(layers), network_size(layers, reference_config(layers)).total_bits, limit=max_bits)

    @property
    def all_limits(self) -> list[Limit]:
        """The limit of its own cost, if it has one, and those of others."""
        own = [] if self.limit is None else [Limit(self.name, self.cost, self.limit)]
        return [*own, *self.limits]

    def allows(self, values: Values) -> bool:
        """Return whether a trial may have such widths."""
        return all(limit.cost(values) <= limit.maximum for limit in self.all_limits)

    def factor(self, cost: float) -> float:
        """Return what multiplies the metric of a trial."""
        return 1.0 if self.trade is None or self.limit is not None else self.trade(cost, self.reference)


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
        trained: trains widths by gradient, for strategies that ask for it.
        curvatures: tells what each width of each slot costs by the second order of the loss, for strategies that ask.
        costs: what is told of each trial, by name; several make a front, whose trials keep their weights.
    """

    space: SearchSpace
    layers: Sequence[LayerShape]
    goal: Goal
    max_trials: int
    epochs: int = 1
    seed: int = 0
    sensitivities: Callable[[], Sequence[Sensitivity]] = tuple
    known: Sequence[Values] = ()
    trained: Callable[[], Sequence[Values]] = tuple
    curvatures: Callable[[], Sequence[Sensitivity]] = tuple
    costs: Mapping[str, Cost] = dataclasses.field(default_factory=dict)

    def fits(self, values: Values) -> bool:
        """Return whether the goal allows a trial of these widths."""
        return self.goal.allows(values)
