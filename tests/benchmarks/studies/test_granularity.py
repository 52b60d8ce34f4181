"""The error of kernels whose channels have widths of their own, within a budget."""

import itertools

import numpy as np
import pytest

from benchmarks.studies.granularity import GAP, NO_BITS, SIDE_BITS, Unit, errors_table, least_error, units_of

ERRORS = {
    "layer": (10, {NO_BITS: np.array([0.1, 0.7, 0.2]), 2: np.array([0.02, 0.3, 0.04]), 4: np.array([0.0, 0.1, 0.01])})
}


def test_channels_are_grouped_by_their_energy_and_a_group_has_the_sum_of_their_errors():
    whole = units_of(ERRORS, None, (2, 4))
    pairs = units_of(ERRORS, 2, (NO_BITS, 2, 4))

    assert [(unit.weights, sorted(unit.errors)) for unit in whole] == [(30, [2, 4])]
    assert whole[0].errors[2] == pytest.approx(0.36)
    assert [unit.weights for unit in pairs] == [20, 10]
    assert pairs[0].errors[2] == pytest.approx(0.06)  # the two channels of the least energy
    assert pairs[1].errors[NO_BITS] == 0.7


@pytest.mark.parametrize("budget", [80, 100, 140, 200])
def test_no_other_choice_of_widths_within_the_budget_has_a_smaller_error(budget):
    rng = np.random.default_rng(0)
    units = [Unit(10, dict(zip((2, 4, 8), sorted(rng.random(3), reverse=True), strict=True))) for _ in range(3)]

    error, bits = least_error(units, budget)

    fitting = [
        sum(unit.errors[width] for unit, width in zip(units, widths, strict=True))
        for widths in itertools.product((2, 4, 8), repeat=3)
        if SIDE_BITS * 3 + sum(10 * width for width in widths) <= budget
    ]
    assert bits <= budget
    assert error == pytest.approx(min(fitting), rel=2 * GAP)


def test_a_budget_below_the_narrowest_widths_is_refused():
    with pytest.raises(ValueError, match=r"a budget must be at least 24 bits\. Received: 20 bits"):
        least_error([Unit(10, {2: 0.5, 4: 0.1})], 20)


def test_the_table_has_a_line_for_each_granularity_and_a_column_for_each_budget():
    rows = [
        {"model": "m", "granularity": name, "kilobytes": size, "error": error}
        for name, size, error in (("a layer", "20", "0.5"), ("a layer", "26", "0.25"), ("a channel", "26", "0.125"))
    ]

    assert errors_table(rows).splitlines()[:1] + errors_table(rows).splitlines()[2:] == [
        "| network | one width for | 26 kB | 20 kB |",
        "| m | a layer | 0.2500 | 0.5000 |",
        "| m | a channel | 0.1250 |  |",
    ]
