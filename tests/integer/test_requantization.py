"""One addition and one shift are the rounding of the plan, for every accumulator."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from po2quant.fixed_point import HALF_AWAY, HALF_EVEN, HALF_UP, ROUNDING_MODES, shift_right
from po2quant.integer.plan import jam_array
from po2quant.integer.requantization import fold_channels


@settings(max_examples=600)
@given(
    st.tuples(st.integers(-300, 0), st.integers(0, 300)),
    st.integers(-5, 8),
    st.integers(-5000, 5000),
    st.integers(-2, 12),
    st.tuples(st.integers(-128, 0), st.integers(1, 255)),
    st.sampled_from(ROUNDING_MODES),
)
def test_a_folded_channel_is_the_formula_of_the_plan(accumulator, left, bias, shift, limits, rounding):
    """All accumulators of a channel, with ties above even and odd outputs, and outputs that are clipped."""
    folded = fold_channels([accumulator], [-left], [bias], [shift], limits, rounding)
    a = np.arange(accumulator[0], accumulator[1] + 1)
    sums = jam_array(a, np.array(-left)) + bias
    expected = np.clip(shift_right(sums, shift, rounding), *limits)
    if folded is None:
        half_up = np.clip(shift_right(sums, shift, HALF_UP), *limits)
        assert not 0 <= left <= shift or (rounding == HALF_AWAY and np.any(half_up != expected))
        return
    assert rounding == HALF_EVEN or not folded.has_ties[0]
    u = a + folded.bias
    up = np.clip(u >> folded.shifts, *limits)
    is_tie = ((u & folded.tie_masks) == 0).astype(int)
    even = np.clip((u >> folded.shifts) & ~is_tie, *limits)
    np.testing.assert_array_equal(even, expected)
    if not folded.has_ties[0]:
        np.testing.assert_array_equal(up, expected)
    else:
        assert np.any(up != expected)
    assert folded.limits[0] <= u.min() and u.max() <= folded.limits[1]
