"""One addition and one shift are the rounding of the plan, half to even, for every accumulator."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from po2quant.fixed_point import shift_right
from po2quant.integer.plan import jam_array
from po2quant.integer.requantization import fold_channels


@settings(max_examples=600)
@given(
    st.tuples(st.integers(-300, 0), st.integers(0, 300)),
    st.integers(-5, 8),
    st.integers(-5000, 5000),
    st.integers(-2, 12),
    st.tuples(st.integers(-128, 0), st.integers(1, 255)),
)
def test_a_folded_channel_is_the_formula_of_the_plan(accumulator, left, bias, shift, limits):
    """All accumulators of a channel, with ties above even and odd outputs, and outputs that are clipped."""
    folded = fold_channels([accumulator], [-left], [bias], [shift], limits)
    if folded is None:
        assert not 0 <= left <= shift
        return
    a = np.arange(accumulator[0], accumulator[1] + 1)
    expected = np.clip(shift_right(jam_array(a, np.array(-left)) + bias, shift), *limits)
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
