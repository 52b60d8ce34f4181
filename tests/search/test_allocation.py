"""Allocation under a bit budget: the optimum of brute force, in the accounting of the cost module."""

import ctypes
import itertools
import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import DENSE_NETWORK

from po2quant.cost import LayerShape, network_size, reference_config
from po2quant.search.allocation import MEASURES, Allocator
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import config_from_values

LAYERS = [*DENSE_NETWORK, LayerShape("dense", "Dense", "weights", (2,), 0, 0, 8, 2)]  # called again
SLOTS = ("activation.activation", "dense.kernel", "dense.bias")
WIDTHS = (4, 8, 16)


def rows_of(costs, widths=WIDTHS, slots=SLOTS):
    """Return rows from the costs of the slots' narrower widths; the loss increases are twice the output errors."""
    return [
        Sensitivity(slot, bits, 2 * cost, cost)
        for slot, narrow in zip(slots, costs, strict=True)
        for bits, cost in zip(widths, (*narrow, 0.0), strict=True)
    ]


ROWS = rows_of([(0.3, 0.1), (0.2, 0.02), (0.01, 0.001)])


def size_of(widths, layers=LAYERS):
    return network_size(layers, config_from_values(widths, layers)).total_bits


@st.composite
def problems(draw):
    """Draw layers, sensitivities and groups small enough for brute force."""
    dimension = st.integers(1, 10**6)
    layers = [LayerShape("input", "InputLayer", "input", (draw(dimension),))]
    for index in range(draw(st.integers(1, 2))):
        layers.append(LayerShape(f"activation_{index}", "Activation", "activation", (draw(dimension), 2)))
    for index in range(draw(st.integers(1, 2))):
        layers.append(LayerShape(f"dense_{index}", "Dense", "weights", (3,), draw(dimension), draw(st.integers(1, 9))))
    layers += draw(st.lists(st.just(LayerShape("softmax", "Activation", "softmax", (3,))), max_size=1))
    slots = [f"{layer.name}.activation" for layer in layers if layer.kind == "activation"]
    slots += [f"{layer.name}.{part}" for layer in layers if layer.kind == "weights" for part in ("kernel", "bias")]
    cost = st.one_of(st.floats(1e-9, 1e-3), st.floats(-0.1, 100.0))
    rows = rows_of([(draw(cost), draw(cost)) for _ in slots], slots=slots)
    groups = draw(st.dictionaries(st.sampled_from(slots), st.sampled_from(["first", "second"])))
    return layers, slots, rows, groups


@settings(max_examples=60, deadline=None)
@given(problems(), st.floats(0.0, 1.1), st.sampled_from(MEASURES))
def test_it_finds_the_optimum_of_brute_force(problem, share, measure):
    layers, slots, rows, groups = problem
    costs = {(row.slot, row.bits): getattr(row, measure) for row in rows}
    names = [groups.get(slot, slot) for slot in slots]
    tried = []
    for bits in itertools.product(WIDTHS, repeat=len(set(names))):
        bits_of = dict(zip(dict.fromkeys(names), bits, strict=True))
        widths = {slot: bits_of[name] for slot, name in zip(slots, names, strict=True)}
        tried.append((size_of(widths, layers), sum(costs[item] for item in widths.items())))
    smallest, largest = min(tried)[0], max(tried)[0]
    budget = smallest + math.floor(share * (largest - smallest))
    found = Allocator(rows, layers, groups, measure).allocate(budget)
    assert found.size_bits == size_of(found.widths, layers) <= budget
    assert all(found.widths[a] == found.widths[b] for a in groups for b in groups if groups[a] == groups[b])
    optimum = min(cost for size, cost in tried if size <= budget)
    scale = max(map(abs, costs.values()))
    assert sum(costs[item] for item in found.widths.items()) == pytest.approx(optimum, rel=1e-9, abs=1e-9 * scale)
    assert getattr(found, measure) == pytest.approx(optimum, rel=1e-9, abs=1e-9 * scale)


def test_an_infeasible_budget_names_the_smallest_size():
    smallest = size_of(dict.fromkeys(SLOTS, 4))
    assert Allocator(ROWS, LAYERS).allocate(smallest).widths == dict.fromkeys(SLOTS, 4)
    with pytest.raises(ValueError, match=rf"budget_bits must be at least {smallest}, .* budget_bits={smallest - 1}"):
        Allocator(ROWS, LAYERS).allocate(smallest - 1)


def test_slots_of_a_group_take_the_widths_they_share():
    rows = [row for row in ROWS if (row.slot, row.bits) != ("dense.bias", 4)]
    groups = {"dense.kernel": "dense", "dense.bias": "dense"}
    allocator = Allocator(rows, LAYERS, groups)
    widths = allocator.allocate(allocator.spread_budgets(2)[0]).widths
    assert widths == {"activation.activation": 4, "dense.kernel": 8, "dense.bias": 8}
    apart = [row for row in rows if (row.slot == "dense.kernel") == (row.bits == 4) or row.slot == SLOTS[0]]
    with pytest.raises(ValueError, match=r"must share a width\. Received: none for dense\.kernel, dense\.bias"):
        Allocator(apart, LAYERS, groups)


def test_the_solver_says_nothing_on_standard_output(capfd):
    """HiGHS 1.12 leaves a debugging line there for some budgets of this network."""
    rng = np.random.default_rng(3)
    names = [f"activation_{index}" for index in range(100)]
    layers = [LayerShape(name, "Activation", "activation", (int(rng.integers(8, 10**5)),)) for name in names]
    costs = [(cost, cost * rng.uniform(0.002, 0.006)) for cost in (np.exp(rng.normal(-9.0, 3.0)) for _ in names)]
    Allocator(rows_of(costs, slots=[f"{name}.activation" for name in names]), layers).pareto()
    ctypes.CDLL(None).fflush(None)
    os.write(1, b"afterwards")
    assert capfd.readouterr().out == "afterwards"


def test_budgets_spread_from_the_smallest_size_to_the_reference():
    budgets = Allocator(ROWS, LAYERS).spread_budgets(3)
    reference = network_size(LAYERS, reference_config(LAYERS)).total_bits
    largest = size_of(dict.fromkeys(SLOTS, 16))
    assert (budgets[0], budgets[2]) == (size_of(dict.fromkeys(SLOTS, 4)), min(largest, reference))
    assert budgets[1] == pytest.approx(math.sqrt(budgets[0] * budgets[2]), abs=1)


def test_seeds_differ_and_grow():
    seeds = Allocator(ROWS, LAYERS).pareto()
    sizes, errors = [seed.size_bits for seed in seeds], [seed.output_error for seed in seeds]
    assert sizes == sorted(set(sizes)) and errors == sorted(set(errors), reverse=True)
    assert seeds[0].widths == dict.fromkeys(SLOTS, 4) and seeds[-1].output_error == 0.0
    assert Allocator(ROWS, LAYERS).pareto([10**6, 10**7]) == [seeds[-1]]


def test_a_width_that_gains_nothing_is_not_paid_for():
    rows = rows_of([(0.0, 0.0), (0.2, 0.0), (0.3, 0.3)])
    widths = {"activation.activation": 4, "dense.kernel": 8, "dense.bias": 16}
    assert Allocator(rows, LAYERS).allocate(10**6).widths == widths
    assert Allocator(rows, LAYERS).spread_budgets(2)[-1] == size_of(widths)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"measure must be one of output_error, loss_increase\. Received: .*'loss'"):
        Allocator(ROWS, LAYERS, measure="loss")
    with pytest.raises(ValueError, match=r"without dense\.bias, with unknown other\.kernel"):
        Allocator([*ROWS[:6], Sensitivity("other.kernel", 4, 0.0, 0.0)], LAYERS)
    with pytest.raises(ValueError, match=r"must be finite\. Received: Sensitivity\(slot='dense\.kernel', bits=4"):
        Allocator([*ROWS, Sensitivity("dense.kernel", 4, math.nan, 0.0)], LAYERS)
