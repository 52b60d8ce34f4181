"""Places in the arena: no two buffers that some step needs together share a byte."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import complaint

from po2quant.export.c.arena import ALIGNMENT_BYTES, Buffer, plan_arena


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Buffer]:
    """Draw buffers of any size, some of one step, some of all."""
    spans = draw(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 12), st.integers(0, 12)), max_size=25))
    return [Buffer(str(i), size, first, first + steps) for i, (size, first, steps) in enumerate(spans)]


@given(lifetimes())
def test_buffers_that_live_together_do_not_overlap(buffers):
    """And all are aligned and inside."""
    arena = plan_arena(buffers)
    start = arena.offsets_bytes
    assert start.keys() == {buffer.name for buffer in buffers}
    for a, b in itertools.combinations(buffers, 2):
        live_together = set(range(a.first, a.last + 1)) & set(range(b.first, b.last + 1))
        apart = start[a.name] + a.size_bytes <= start[b.name] or start[b.name] + b.size_bytes <= start[a.name]
        assert apart or not live_together
    for buffer in buffers:
        assert start[buffer.name] >= 0 and start[buffer.name] % ALIGNMENT_BYTES == 0
        assert start[buffer.name] + buffer.size_bytes <= arena.size_bytes


@given(lifetimes())
def test_the_arena_is_between_the_fullest_step_and_all_buffers(buffers):
    """It cannot be smaller than what one step needs, and need not be larger than everything side by side."""
    steps = range(max((buffer.last for buffer in buffers), default=0) + 1)
    live = [sum(buffer.size_bytes for buffer in buffers if buffer.first <= step <= buffer.last) for step in steps]
    everything = sum(buffer.size_bytes + ALIGNMENT_BYTES - 1 for buffer in buffers)
    assert max(live, default=0) <= plan_arena(buffers).size_bytes <= everything


def test_a_chain_needs_its_largest_pair_only():
    """Each tensor of a chain dies once the next is there, and the smallest gap that fits is taken."""
    sizes = [80, 64, 128, 16, 96]
    chain = [Buffer(str(i), size, i, i + 1) for i, size in enumerate(sizes)]
    assert plan_arena(chain).size_bytes == 64 + 128
    around = [Buffer("a", 104, 0, 0), Buffer("b", 96, 1, 2), Buffer("c", 64, 0, 2), Buffer("d", 8, 0, 0)]
    placed = plan_arena(around)
    assert placed.offsets_bytes == {"a": 0, "b": 0, "c": 104, "d": 168}


@pytest.mark.parametrize(("size", "first", "last"), [(0, 0, 0), (8, 2, 1)])
def test_buffers_that_cannot_be_are_refused(size, first, last):
    assert f"{size} bytes" in complaint(Buffer, "x", size, first, last)
