"""The C functions that an integer program calls: a text for all types of integers each, in ``kernels/``.

A kernel's text has ``$function`` for its name, ``$x``, ``$y``, ``$w`` for the types of inputs, outputs and weights,
``$acc`` for what accumulates and ``$wide`` for what aligns, adds the bias and rounds. ``$patch`` is the type of the
inputs that one output pixel sees. Some kernels have several ways to do a part: :data:`KERNELS` names the part, and the
caller says which kernel does it.

:mod:`po2quant.integer.plan` has the formula and the proof that no signed integer overflows.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
from collections import Counter
from collections.abc import Mapping
from string import Template
from typing import NamedTuple

from po2quant.fixed_point import FLOOR, HALF_AWAY, HALF_EVEN, HALF_UP


class Kernel(NamedTuple):
    """A function whose text is a file.

    Args:
        types: the types and numbers that its text depends on.
        uses: the kernels that it calls, or the names of its parts.
    """

    types: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()


_OUTPUT = ("y", "acc", "low", "high")
_WEIGHTED = ("x", "y", "w")
_TAKE = ("patch", "y", "w")
_SPREAD = Kernel(("patch", "kind"), ("halves",))

KERNELS = {
    "arithmetic": Kernel(("wide", "unsigned")),
    "rounding": Kernel(("wide", "unsigned", "mode", "added", "goes_up"), ("arithmetic",)),
    "channels": Kernel(("acc", "wide")),
    "begin_zero": Kernel(("acc",), ("channels",)),
    "begin_given": Kernel(("acc",), ("channels",)),
    "finish_floor": Kernel((*_OUTPUT, "shift_step"), ("channels",)),
    "finish_even": Kernel((*_OUTPUT, "shift_step"), ("channels",)),
    "finish_aligned": Kernel(
        (*_OUTPUT, "wide", "align", "align_step", "shift", "shift_step", "mode"), ("arithmetic", "rounding", "channels")
    ),
    "gather": Kernel(("x", "patch", "offset")),
    "plain_row_sums": Kernel(("patch", "w", "acc")),
    "row_sums_bytes": Kernel((), ("plain_row_sums",)),
    "dots": Kernel((*_TAKE, "acc"), ("row_sums", "begin", "finish", "channels")),
    "take": Kernel(_TAKE, ("dots", "channels")),
    "take_pairs": Kernel(_TAKE, ("pair_dot", "spread", "begin", "finish", "dots", "channels")),
    "take_single": Kernel(_TAKE, ("row_dot", "spread", "begin", "finish", "dots", "channels")),
    "vectors": Kernel(),
    "finish_four": Kernel(("y", "low", "high", "shift_step", "ties", "store", "vector_cast"), ("vectors", "channels")),
    "finish_lanes": Kernel(("y",), ("apart", "vectors", "channels")),
    "sums_together": Kernel(("y",), ("four", "channels")),
    "sums_apart": Kernel(("y", "acc"), ("begin", "finish", "channels")),
    "vector_rows_i8": Kernel(("patch", "flip"), ("vectors",)),
    "vector_rows_i16": Kernel(
        ("patch", "w", "acc", "load_x", "step_x", "load_w", "step_w", "sum_of_products", "sum0", "sum1", "sums"),
        ("vectors",),
    ),
    "take_vectors": Kernel((*_TAKE, "acc"), ("vector_rows", "four_sums", "begin", "finish", "otherwise", "channels")),
    "take_wide": Kernel(_TAKE, ("halves", "begin", "finish", "dots", "channels")),
    "halves": Kernel(),
    "spread_alike": _SPREAD,
    "spread_across": _SPREAD,
    "pair_quad_i8": Kernel(),
    "pair_quad_i16": Kernel(),
    "pair_dot": Kernel(("w",), ("pair_quad",)),
    "row_quad_i8": Kernel(),
    "row_quad_i16": Kernel(),
    "row_dot": Kernel(("w",), ("row_quad",)),
    "convolution": Kernel((*_WEIGHTED, "patch", "pair_bytes"), ("gather", "taken", "channels")),
    "pixels": Kernel((*_WEIGHTED, "patch", "offset", "pair_bytes"), ("taken", "channels")),
    "layer": Kernel(_WEIGHTED, ("kernel", "channels")),
    "interleave": Kernel(),
    "finish_sixteen": Kernel(("y", "low", "high", "shift_step", "ties", "output_bits"), ("interleave", "channels")),
    "interleaved_layer": Kernel((*_WEIGHTED, "copied", "flip_bytes"), ("layer", "finish_sixteen", "channels")),
    "packed_layer": Kernel((*_WEIGHTED, "block"), ("kernel", "unpack", "channels")),
    "packed_pixel": Kernel(("x", "y", "patch", "offset"), ("packed", "spread", "begin", "finish", "channels")),
    "unpack_bits": Kernel(("w", "bits", "word", "signed")),
    "unpack_nibbles": Kernel(("w",)),
    "taps": Kernel(),
    "tap_quad": Kernel(("x", "w", "second_x", "third_x", "second_w", "third_w"), ("halves",)),
    "quads_none": Kernel(_WEIGHTED, ("taps", "channels")),
    "quads_by_words": Kernel(_WEIGHTED, ("taps", "tap_quad", "begin", "finish", "channels")),
    "quads_by_vectors": Kernel((*_WEIGHTED, "widened", "widened_tap"), ("taps", "four", "quads_otherwise", "channels")),
    "sixteens_none": Kernel(_WEIGHTED, ("channels",)),
    "depthwise_sixteen": Kernel((*_WEIGHTED, "kind", "tap_count"), ("taps", "finish_sixteen", "channels")),
    "depthwise": Kernel(
        (*_WEIGHTED, "acc", "multiplier"), ("taps", "quads", "sixteens", "begin", "finish", "channels")
    ),
    "packed_depthwise": Kernel(_WEIGHTED, ("depthwise", "unpack", "channels")),
    "mean": Kernel(("x", "acc", "wide", "mode"), ("arithmetic", "rounding")),
    "largest": Kernel(("x", "wide", "mode"), ("arithmetic", "rounding")),
    "pooling": Kernel(("x", *_OUTPUT, "wide"), ("reduction", "taps", "arithmetic")),
}

ROUNDINGS = {
    HALF_EVEN: (
        "({wide})((({unsigned})1 << (shift - 1)) - 1) + ((value >> shift) & 1)",
        "2 * remainder + (quotient & 1) > denominator",
    ),
    HALF_UP: ("({wide})(({unsigned})1 << (shift - 1))", "2 * remainder >= denominator"),
    HALF_AWAY: (
        "({wide})(({unsigned})1 << (shift - 1)) - (value < 0)",
        "2 * remainder + (quotient >= 0) > denominator",
    ),
    FLOOR: ("0", "0"),
}
"""What is added before a shift to the right, and when a quotient goes up, by mode."""

PACKED_BLOCK = 8
"""Output channels whose weights are unpacked together."""


@functools.cache
def kernel_text(name: str) -> str:
    """Return the text of a file in ``kernels/``."""
    return importlib.resources.files(__package__).joinpath("kernels", f"{name}.c").read_text(encoding="ascii")


class Functions:
    """The kernels that a program calls, each once for each combination of types.

    Attributes:
        texts: their definitions, in order.
        asked: kernel and name of all that were asked for, until the set is replaced.
    """

    def __init__(self) -> None:
        self.texts: dict[tuple[str, ...], str] = {}
        self.asked: set[tuple[str, str]] = set()
        self._names: dict[tuple[str, ...], str] = {}
        self._count = Counter[str]()

    def name(self, part: str, types: Mapping[str, str]) -> str:
        """Return the name of a kernel for these types; it and the kernels that it uses are added to the texts.

        Args:
            part: a kernel, or a part that ``types`` names the kernel of.
            types: types, numbers and kernels by what they stand for in the texts.
        """
        kernel = types.get(part, part)
        values = {use: self.name(use, types) for use in KERNELS[kernel].uses}
        values |= {kind: types[kind] for kind in KERNELS[kernel].types}
        key = (kernel, *(f"{kind}={value}" for kind, value in sorted(values.items())))
        if key not in self._names:
            self._count[kernel] += 1
            self._names[key] = f"{kernel}_{self._count[kernel]}" if values else kernel
            self.texts[key] = Template(kernel_text(kernel)).substitute(values, function=self._names[key])
        self.asked.add((kernel, self._names[key]))
        return self._names[key]

    def arithmetic(self, bits: str, rounding: str) -> None:
        """Add the functions that round and clip integers of a type, e.g. ``'i32'``."""
        types = {"wide": bits, "unsigned": f"u{bits[1:]}"}
        self.name("arithmetic", types)
        self.name("rounding", types | rounding_types(rounding, bits))


def rounding_types(rounding: str, wide: str) -> dict[str, str]:
    """Return what the functions' names end in that round integers of a type in a mode, and their parts."""
    added, goes_up = (text.format(wide=wide, unsigned=f"u{wide[1:]}") for text in ROUNDINGS[rounding])
    return {"mode": "" if rounding == HALF_EVEN else f"_{rounding}", "added": added, "goes_up": goes_up}


def packed_reach_bytes(bits: int) -> int:
    """Return how many bytes hold any packed integer, wherever it starts."""
    latest_start = 8 - math.gcd(bits, 8)
    return (latest_start + bits + 7) // 8


def packed_bytes(count: int, bits: int) -> int:
    """Return the bytes of so many packed integers, with those behind them that a reader may fetch."""
    return (count * bits + 7) // 8 + packed_reach_bytes(bits) - 1
