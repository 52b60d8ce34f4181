"""Widths under a bit budget, by integer programming over measured sensitivities: good first trials of a search."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from scipy import optimize, sparse

from po2quant.cost import LayerShape, reference_config
from po2quant.search.problem import Cost, Limit, SearchProblem, SizeCost
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import elements_by_slot, size_of_values, widths_of_config

LOSS_INCREASE, OUTPUT_ERROR = "loss_increase", "output_error"
MEASURES = (OUTPUT_ERROR, LOSS_INCREASE)
SEEDS = 8
TIGHTENINGS = 25
"""How often a budget is tightened because a cost was not the sum that it was taken for."""

INFEASIBLE = 2
"""What scipy.optimize.milp calls a program without a solution."""

_LARGEST_COST = 1e6
"""Costs are scaled to it, since the solver stops 1e-6 from the optimum."""


@dataclasses.dataclass(frozen=True)
class Allocation:
    """One width per slot, and what the sensitivities predict of it.

    Args:
        widths: bits by slot, as the values of a trial.
        size_bits: size of the network.
        loss_increase: sum of the slots' loss increases.
        output_error: sum of the slots' output errors.
    """

    widths: Mapping[str, int]
    size_bits: int
    loss_increase: float
    output_error: float


@dataclasses.dataclass(frozen=True)
class _Choice:
    """A width of a group of slots: the error that it makes, and what it costs more than the narrowest width."""

    group: str
    bits: int
    error: float
    extra: tuple[float, ...]


class Allocator:
    """Finds the widths of least summed sensitivity that fit a budget.

    Equation:
        minimise sum_sw c_sw x_sw over x_sw in {0, 1}, with sum_w x_sw = 1 for each slot s and
        the cost of the widths <= budget, where c_sw is the measure of slot s at width w.

    The sum stands for the whole network's loss as far as the errors of the slots are independent: then their mean
    squares add up. A cost is taken for a sum over slots, too: what each width adds where all others are at their
    narrowest. The size in bits is one; where another is not, budgets are tightened until the cost itself fits.

    Args:
        rows: sensitivities of every slot at each width that it may take.
        layers: layers of the network as the bit accounting sees them.
        groups: group of a slot; the slots of one group get one width. Others are on their own.
        measure: ``'output_error'`` or ``'loss_increase'``.
        cost: what budgets are of; by default the size in bits.
        limits: of further costs.

    Raises:
        ValueError: for rows that do not cover the network, or groups whose slots share no width.

    Reference:
        Yao et al., "HAWQ-V3", arXiv 2011.10680: bit widths by an integer linear program.
    """

    def __init__(
        self,
        rows: Sequence[Sensitivity],
        layers: Sequence[LayerShape],
        groups: Mapping[str, str] | None = None,
        measure: str = OUTPUT_ERROR,
        cost: Cost | None = None,
        limits: Sequence[Limit] = (),
    ) -> None:
        _check_measure(measure)
        self._layers, slots = layers, elements_by_slot(layers)
        self._rows = _rows_by_slot(rows, slots)
        self._cost = SizeCost(layers) if cost is None else cost
        self._limits, self._costs = limits, (self._cost, *(limit.cost for limit in limits))
        self._groups = {slot: (groups or {}).get(slot, slot) for slot in slots}
        members: dict[str, list[str]] = {}
        for slot, group in self._groups.items():
            members.setdefault(group, []).append(slot)
        shared = {group: self._shared_widths(own) for group, own in members.items()}
        narrowest = {group: widths[0] for group, widths in shared.items()}
        self._least = [cost(self._widths(narrowest)) for cost in self._costs]
        self._choices = [
            choice
            for group, own in members.items()
            for choice in self._choices_of(own, shared[group], measure, narrowest)
        ]
        cheapest = {choice.group: choice.bits for choice in sorted(self._choices, key=lambda c: -c.extra[0])}
        self._smallest = self._cost(self._widths(cheapest))

    @classmethod
    def of(cls, problem: SearchProblem, rows: Sequence[Sensitivity]) -> Allocator:
        """Return the allocator of a search's problem: budgets are of its goal's cost."""
        goal = problem.goal
        return cls(rows, problem.layers, problem.space.groups, cost=goal.cost, limits=goal.limits)

    def _shared_widths(self, slots: Sequence[str]) -> list[int]:
        shared = sorted(set.intersection(*(set(self._rows[slot]) for slot in slots)))
        if not shared:
            raise ValueError(f"slots of a group must share a width. Received: none for {', '.join(slots)}")
        return shared

    def _choices_of(
        self, slots: Sequence[str], widths: Sequence[int], measure: str, narrowest: Mapping[str, int]
    ) -> list[_Choice]:
        """Return the widths that all slots of a group may take, narrow to wide, each better than those before it."""
        group, choices = self._groups[slots[0]], list[_Choice]()
        for bits in widths:
            error = sum(getattr(self._rows[slot][bits], measure) for slot in slots)
            if not choices or error < choices[-1].error:
                costs = [cost(self._widths({**narrowest, group: bits})) for cost in self._costs]
                extra = tuple(cost - least for cost, least in zip(costs, self._least, strict=True))
                choices.append(_Choice(group, bits, error, extra))
        return choices

    def _widths(self, bits_by_group: Mapping[str, int]) -> dict[str, int]:
        return {slot: bits_by_group[group] for slot, group in self._groups.items()}

    def spread_budgets(self, count: int, max_cost: float | None = None) -> list[float]:
        """Return costs from the smallest possible one to the reference's or a limit, each larger by the same factor.

        AutoQKeras' score rises by the same amount with each factor. The largest cost that is of use takes the place of
        a larger end. Where the narrowest widths are not the cheapest, as with packed weights that must be unpacked, the
        end is no smaller than what they cost.
        """
        largest = self._cost(self._widths({choice.group: choice.bits for choice in self._choices}))
        reference = widths_of_config(reference_config(self._layers))
        wanted = self._cost(reference) if max_cost is None else max_cost
        top = max(min(largest, wanted), self._smallest)
        if max_cost is None and self._least[0] > self._smallest:
            top = max(top, self._least[0])
        return np.geomspace(self._smallest, top, count).round().astype(int).tolist()

    def pareto(self, budgets: Iterable[float] | None = None) -> list[Allocation]:
        """Return the different allocations at several budgets, small to large; by default at :data:`SEEDS` of them.

        Budgets within which the limits of other costs leave nothing are left out.
        """
        budgets = self.spread_budgets(SEEDS) if budgets is None else sorted(budgets)
        allocations = []
        for budget in budgets:
            with contextlib.suppress(NothingFitsError):
                allocations.append(self.allocate(budget))
        return list({tuple(allocation.widths.values()): allocation for allocation in allocations}.values())

    def allocate(self, budget: float) -> Allocation:
        """Return the allocation of least summed sensitivity whose cost, in bits by default, is within a budget.

        Raises:
            ValueError: for a budget below the smallest size.
            NothingFitsError: where no widths were found that keep all limits.
        """
        if budget < math.floor(self._smallest):
            raise ValueError(
                f"budget_bits must be at least {self._smallest:.0f}, the cost of the network at its cheapest widths. "
                f"Received: budget_bits={budget}"
            )
        maxima = np.array([budget, *(limit.maximum for limit in self._limits)])
        capacities = maxima - self._least
        for _ in range(TIGHTENINGS):
            chosen = {choice.group: choice.bits for choice in _least_error(self._choices, capacities)}
            excess = np.array([cost(self._widths(chosen)) for cost in self._costs]) - maxima
            if np.all(excess <= 0):
                return self._allocation(chosen)
            capacities = capacities - np.maximum(excess, 0)
        raise NothingFitsError(f"no widths of a cost of {budget} keep all limits")

    def _allocation(self, bits_by_group: Mapping[str, int]) -> Allocation:
        widths = self._widths(bits_by_group)
        measured = [self._rows[slot][bits] for slot, bits in widths.items()]
        return Allocation(
            widths,
            size_of_values(widths, self._layers),
            sum(row.loss_increase for row in measured),
            sum(row.output_error for row in measured),
        )


class NothingFitsError(RuntimeError):
    """No widths were found that keep all limits."""


def _least_error(choices: Sequence[_Choice], capacities: np.ndarray) -> list[_Choice]:
    """Return one choice per group, of least summed error, whose extra costs fit."""
    errors = np.array([choice.error for choice in choices])
    largest = np.max(np.abs(errors))
    groups = {group: index for index, group in enumerate(dict.fromkeys(choice.group for choice in choices))}
    members = ([groups[choice.group] for choice in choices], range(len(choices)))
    one_each = sparse.csr_array((np.ones(len(choices)), members), shape=(len(groups), len(choices)))
    extra = np.array([choice.extra for choice in choices], float).T
    with _standard_output_closed():
        result = optimize.milp(
            errors * (_LARGEST_COST / largest) if largest else errors,
            integrality=np.ones(len(choices)),
            bounds=optimize.Bounds(0, 1),
            constraints=[
                optimize.LinearConstraint(one_each, 1, 1),
                *(
                    optimize.LinearConstraint(row[None] / _unit(row), -np.inf, np.floor(capacity / _unit(row)))
                    for row, capacity in zip(extra, capacities, strict=True)
                ),
            ],
            options={"mip_rel_gap": 0.0},
        )
    if result.status == INFEASIBLE:
        raise NothingFitsError("no widths keep all limits")
    if not result.success:
        raise RuntimeError(f"the integer program was not solved: {result.message}")
    return [choice for choice, share in zip(choices, result.x, strict=True) if share > 0.5]


def _unit(costs: np.ndarray) -> float:
    """Return what divides all numbers, or makes them no larger than :data:`_LARGEST_COST`."""
    if np.all(costs == np.rint(costs)):
        return float(max(math.gcd(*map(int, costs)), 1))
    return float(np.max(np.abs(costs)) / _LARGEST_COST)


@contextlib.contextmanager
def _standard_output_closed() -> Iterator[None]:
    """Drop what C code writes to standard output: HiGHS 1.12 left a debugging line in (its issue 2783)."""
    flush = ctypes.CDLL(None).fflush if os.name == "posix" else lambda stream: None
    sys.stdout.flush()
    flush(None)
    kept, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(sink)


def _check_measure(measure: str) -> None:
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}. Received: measure={measure!r}")


def _rows_by_slot(rows: Sequence[Sensitivity], slots: Iterable[str]) -> dict[str, dict[int, Sensitivity]]:
    by_slot: dict[str, dict[int, Sensitivity]] = {}
    for row in rows:
        if not (math.isfinite(row.loss_increase) and math.isfinite(row.output_error)):
            raise ValueError(f"sensitivities must be finite. Received: {row}")
        by_slot.setdefault(row.slot, {})[row.bits] = row
    missing, unknown = [slot for slot in slots if slot not in by_slot], sorted(set(by_slot) - set(slots))
    if missing or unknown:
        raise ValueError(
            "sensitivities must cover every slot of the network and no other. "
            f"Received: without {', '.join(missing) or 'none'}, with unknown {', '.join(unknown) or 'none'}"
        )
    return by_slot
