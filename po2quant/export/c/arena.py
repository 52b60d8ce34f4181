"""Places in one static buffer for tensors that live at different times."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

ALIGNMENT_BYTES = 8


@dataclasses.dataclass(frozen=True)
class Buffer:
    """Memory that is needed for some steps of a program.

    Args:
        name: its name, different from all others.
        size_bytes: 1 or more.
        first: step that writes it first.
        last: step that reads it last, ``first`` or later; both steps need it.
    """

    name: str
    size_bytes: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.size_bytes < 1 or self.last < self.first:
            raise ValueError(
                f"a buffer must have 1 or more bytes and end after its start. Received: {self.size_bytes} bytes, "
                f"steps {self.first} to {self.last}"
            )


@dataclasses.dataclass(frozen=True)
class Arena:
    """Where each buffer lies.

    Args:
        offsets_bytes: distance of each buffer from the start, by name; multiples of :data:`ALIGNMENT_BYTES`.
        size_bytes: size of the whole.
    """

    offsets_bytes: dict[str, int]
    size_bytes: int


def plan_arena(buffers: Iterable[Buffer]) -> Arena:
    """Place buffers so that no two overlap that some step needs together.

    The largest come first; each goes into the smallest gap between those that it meets, or after them.

    Example:
        >>> chain = [Buffer("a", 100, 0, 1), Buffer("b", 40, 1, 2), Buffer("c", 90, 2, 3)]
        >>> plan_arena(chain)
        Arena(offsets_bytes={'a': 0, 'c': 0, 'b': 104}, size_bytes=144)

    Reference:
        Y. Pisarchyk and J. Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, greedy by size.
    """
    buffers = sorted(buffers, key=lambda buffer: -buffer.size_bytes)
    placed = np.zeros((4, 0), np.int64)  # start, aligned end, first and last step, by start
    offsets: dict[str, int] = {}
    for buffer in buffers:
        starts, ends, first, last = placed
        meets = (first <= buffer.last) & (buffer.first <= last)
        start = _best_start(starts[meets], ends[meets], buffer.size_bytes)
        offsets[buffer.name] = start
        place = [start, _aligned(start + buffer.size_bytes), buffer.first, buffer.last]
        placed = np.insert(placed, np.searchsorted(starts, start), place, axis=1)
    return Arena(offsets, int(placed[1].max(initial=0)))


def _best_start(starts: np.ndarray, ends: np.ndarray, size_bytes: int) -> int:
    """Return the start of the smallest gap between neighbours that holds a size, or the end of all of them."""
    reached = np.maximum.accumulate(np.append(0, ends))
    gaps = starts - reached[:-1]
    holds = gaps >= size_bytes
    return int(reached[np.argmin(np.where(holds, gaps, np.inf))] if holds.any() else reached[-1])


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
