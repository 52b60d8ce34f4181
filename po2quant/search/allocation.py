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

from po2quant.cost import LayerShape, network_size, reference_config
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import parts_of, size_of_values

LOSS_INCREASE, OUTPUT_ERROR = "loss_increase", "output_error"
MEASURES = (OUTPUT_ERROR, LOSS_INCREASE)
SEEDS = 8

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
    """A width of a group of slots; its size counts only what the narrowest width does not need."""

    group: str
    bits: int
    cost: float
    extra_bits: int


class Allocator:
    """Finds the widths of least summed sensitivity that fit a budget.

    Equation:
        minimise sum_sw c_sw x_sw over x_sw in {0, 1}, with sum_w x_sw = 1 for each slot s and
        ``network_size`` of the widths <= budget, where c_sw is the measure of slot s at width w.

    The sum stands for the whole network's loss as far as the errors of the slots are independent: then their mean
    squares add up.

    Args:
        rows: sensitivities of every slot at each width that it may take.
        layers: layers of the network as the bit accounting sees them.
        groups: group of a slot; the slots of one group get one width. Others are on their own.
        measure: ``'output_error'`` or ``'loss_increase'``.

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
    ) -> None:
        _check_measure(measure)
        self._layers, elements = layers, _elements_by_slot(layers)
        self._rows = _rows_by_slot(rows, elements)
        self._groups = {slot: (groups or {}).get(slot, slot) for slot in elements}
        self._choices = [
            choice
            for group in dict.fromkeys(self._groups.values())
            for choice in self._choices_of(
                [slot for slot in elements if self._groups[slot] == group], elements, measure
            )
        ]
        self._smallest_bits = self._size({choice.group: choice.bits for choice in reversed(self._choices)})

    def _choices_of(self, slots: Sequence[str], elements: Mapping[str, int], measure: str) -> list[_Choice]:
        """Return the widths that all slots of a group may take, narrow to wide, each better than those before it."""
        shared = sorted(set.intersection(*(set(self._rows[slot]) for slot in slots)))
        if not shared:
            raise ValueError(f"slots of a group must share a width. Received: none for {', '.join(slots)}")
        size = sum(elements[slot] for slot in slots)
        choices: list[_Choice] = []
        for bits in shared:
            cost = sum(getattr(self._rows[slot][bits], measure) for slot in slots)
            if not choices or cost < choices[-1].cost:
                choices.append(_Choice(self._groups[slots[0]], bits, cost, (bits - shared[0]) * size))
        return choices

    def _widths(self, bits_by_group: Mapping[str, int]) -> dict[str, int]:
        return {slot: bits_by_group[group] for slot, group in self._groups.items()}

    def _size(self, bits_by_group: Mapping[str, int]) -> int:
        return size_of_values(self._widths(bits_by_group), self._layers)

    def spread_budgets(self, count: int, max_bits: float | None = None) -> list[int]:
        """Return sizes from the smallest possible one to the reference's or a limit, each larger by the same factor.

        AutoQKeras' score rises by the same amount with each factor. The largest size that is of use takes the place of
        a larger end.
        """
        largest = self._size({choice.group: choice.bits for choice in self._choices})
        wanted = network_size(self._layers, reference_config(self._layers)).total_bits if max_bits is None else max_bits
        top = max(min(largest, wanted), self._smallest_bits)
        return np.geomspace(self._smallest_bits, top, count).round().astype(int).tolist()

    def pareto(self, budgets: Iterable[int] | None = None) -> list[Allocation]:
        """Return the different allocations at several budgets, small to large; by default at :data:`SEEDS` of them."""
        budgets = self.spread_budgets(SEEDS) if budgets is None else sorted(budgets)
        allocations = map(self.allocate, budgets)
        return list({tuple(allocation.widths.values()): allocation for allocation in allocations}.values())

    def allocate(self, budget_bits: int) -> Allocation:
        """Return the allocation of least summed sensitivity whose size in bits is within a budget.

        Raises:
            ValueError: for a budget below the smallest size.
        """
        if budget_bits < self._smallest_bits:
            raise ValueError(
                f"budget_bits must be at least {self._smallest_bits}, the size of the network at its narrowest widths. "
                f"Received: budget_bits={budget_bits}"
            )
        chosen = _least_cost(self._choices, budget_bits - self._smallest_bits)
        bits_by_group = {choice.group: choice.bits for choice in chosen}
        widths = self._widths(bits_by_group)
        measured = [self._rows[slot][bits] for slot, bits in widths.items()]
        return Allocation(
            widths,
            self._size(bits_by_group),
            sum(row.loss_increase for row in measured),
            sum(row.output_error for row in measured),
        )


def _least_cost(choices: Sequence[_Choice], capacity_bits: int) -> list[_Choice]:
    """Return one choice per group, of least summed cost, whose extra bits fit."""
    costs = np.array([choice.cost for choice in choices])
    largest = np.max(np.abs(costs))
    groups = {group: index for index, group in enumerate(dict.fromkeys(choice.group for choice in choices))}
    members = ([groups[choice.group] for choice in choices], range(len(choices)))
    one_each = sparse.csr_array((np.ones(len(choices)), members), shape=(len(groups), len(choices)))
    extra_bits = np.array([[choice.extra_bits for choice in choices]])
    unit = max(math.gcd(*extra_bits[0].tolist()), 1)
    with _standard_output_closed():
        result = optimize.milp(
            costs * (_LARGEST_COST / largest) if largest else costs,
            integrality=np.ones(len(choices)),
            bounds=optimize.Bounds(0, 1),
            constraints=[
                optimize.LinearConstraint(one_each, 1, 1),
                optimize.LinearConstraint(extra_bits // unit, -np.inf, capacity_bits // unit),
            ],
            options={"mip_rel_gap": 0.0},
        )
    if not result.success:
        raise RuntimeError(f"the integer program was not solved: {result.message}")
    chosen = [choice for choice, share in zip(choices, result.x, strict=True) if share > 0.5]
    # The solver takes 0.999999 for 1, which is some bits of a large tensor.
    excess = sum(choice.extra_bits for choice in chosen) - capacity_bits
    return chosen if excess <= 0 else _least_cost(choices, capacity_bits - excess)


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


def _elements_by_slot(layers: Sequence[LayerShape]) -> dict[str, int]:
    """Return how many numbers each slot quantizes; a layer that is called again counts once."""
    elements: dict[str, int] = {}
    for layer in layers:
        for part in parts_of(layer):
            size = layer.elements if part == "activation" else getattr(layer, f"{part}_parameters")
            slot = f"{layer.name}.{part}"
            elements[slot] = elements.get(slot, 0) + size
    return elements


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
