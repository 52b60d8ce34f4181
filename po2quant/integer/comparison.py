"""Two computations of one program, compared integer by integer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from po2quant.integer.checks import shown
from po2quant.integer.program import Program


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """An integer that differs.

    Args:
        layer: name of the layer whose operation writes the tensor; of an input, the quantizer's.
        tensor: name of the tensor.
        index: sample and position.
        computed: the integer of the computation under test.
        expected: the integer of the one that it is compared with.
    """

    layer: str
    tensor: str
    index: tuple[int, ...]
    computed: int
    expected: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        computed_by: the computation under test.
        expected_by: the one that it is compared with.
        samples: samples compared.
        tensors: tensors compared of each sample.
        integers: integers compared.
        mismatches: integers that differ.
        first: the first of them, in the order of the network and, batch by batch, of the samples.
    """

    computed_by: str
    expected_by: str
    samples: int
    tensors: int
    integers: int
    mismatches: int
    first: Mismatch | None

    def __str__(self) -> str:
        """Return the finding as a sentence."""
        head = f"{self.computed_by} and {self.expected_by}"
        counts = f"{self.integers} integers of {self.tensors} tensors and {self.samples} samples"
        if self.first is None:
            return f"{head}: {counts}: all equal"
        first = self.first
        return (
            f"{head}: {counts}: {self.mismatches} differ, first in layer {first.layer!r}, tensor {first.tensor!r}, at "
            f"{first.index}: {self.computed_by} {first.computed}, {self.expected_by} {first.expected}"
        )


class Comparer:
    """Compares batch after batch, and sums up.

    Args:
        program: names the layers of the tensors.
        computed_by: the computation under test.
        expected_by: the one that it is compared with.
    """

    def __init__(self, program: Program, computed_by: str, expected_by: str) -> None:
        self._by = computed_by, expected_by
        operations = (operation for block in program.blocks for operation in block.operations)
        self._layers = {operation.output: operation.name for operation in operations}
        self._samples = self._integers = self._mismatches = 0
        self._tensors: set[str] = set()
        self._first: Mismatch | None = None

    def add(self, computed: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
        """Compare a batch: each expected tensor, ``(samples, ...)``, with the computed one of its name.

        Raises:
            ValueError: for a tensor that was not computed, or has another shape.
        """
        for name, integers in expected.items():
            if name not in computed or computed[name].shape != integers.shape:
                received = computed[name].shape if name in computed else "none"
                raise ValueError(
                    f"{self._by[0]} must compute tensor {shown(name)} of shape {integers.shape}, as {self._by[1]} "
                    f"does. Received: {received}"
                )
            differs = np.argwhere(computed[name] != integers)
            self._integers += integers.size
            self._mismatches += len(differs)
            if self._first is None and len(differs):
                place = tuple(differs[0].tolist())
                index = (self._samples + place[0], *place[1:])
                layer = self._layers.get(name, name)
                self._first = Mismatch(layer, name, index, int(computed[name][place]), int(integers[place]))
        self._tensors.update(expected)
        self._samples += len(next(iter(expected.values())))

    def result(self) -> Comparison:
        """Return what was found so far."""
        counts = self._samples, len(self._tensors), self._integers, self._mismatches
        return Comparison(*self._by, *counts, self._first)
