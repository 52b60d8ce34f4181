"""Trained networks as integer programs, by name; what ``best_configs/zoo`` holds.

``zoo.json`` there says of each how it was made, on which data and under which licence, what it scores, and a digest of
what it computes. ``python -m benchmarks.studies.zoo`` writes both from run folders.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.bundled import BEST_CONFIGS
from po2quant.files import one_line, read_json
from po2quant.integer.interpreter import run
from po2quant.integer.program import Program

FOLDER = BEST_CONFIGS / "zoo"
INDEX, CONTENT = "zoo.json", "a list of trained networks"
DIGEST_SAMPLES, DIGEST_SEED = 4, 0


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network of the zoo.

    Args:
        name: e.g. ``"keyword_spotting-ds_cnn-w4a8"``.
        benchmark: name of its task.
        model: name of the network there.
        config: name of its bit widths.
        metric: what it was scored by.
        score: on the test split.
        float_score: of the float network that it was made from.
        samples: of the test split.
        size_bits: of weights and activations, by the bit accounting.
        data: what it was trained and tested on.
        licence: of the data.
        seed: of the training.
        command: that trained it, from random weights.
        digest: of the outputs for random inputs, see :func:`output_digest`.
    """

    name: str
    benchmark: str
    model: str
    config: str
    metric: str
    score: float
    float_score: float
    samples: int
    size_bits: int
    data: str
    licence: str
    seed: int
    command: str
    digest: str

    @property
    def file(self) -> Path:
        """The integer program."""
        return FOLDER / f"{self.name}.npz"

    def load(self) -> Program:
        """Return the integer program."""
        return Program.load(self.file)


def networks() -> dict[str, TrainedNetwork]:
    """Return the trained networks by name.

    Raises:
        ValueError: where the list is damaged.
    """
    rows: dict[str, Any] = read_json(FOLDER / INDEX, CONTENT)
    return {name: TrainedNetwork(name, **row) for name, row in rows.items()}


def load_program(name: str) -> Program:
    """Return the integer program of a trained network.

    Raises:
        ValueError: for an unknown name, with those that there are.

    Example:
        >>> load_program("digits-ds_cnn-w8a8").inputs
        ('activation',)
    """
    known = networks()
    if name not in known:
        raise ValueError(f"name must be one of {', '.join(known)}. Received: {one_line(repr(name))}")
    return known[name].load()


def output_digest(program: Program) -> str:
    """Return 16 hexadecimal digits of what a program computes for inputs of random integers that a seed makes."""
    rng = np.random.default_rng(DIGEST_SEED)
    inputs = []
    for name in program.inputs:
        tensor = program.tensor[name]
        limits = tensor.format.min_int, tensor.format.max_int
        inputs.append(rng.integers(*limits, (DIGEST_SAMPLES, *tensor.shape), endpoint=True))
    tensors = run(program, inputs)
    digest = hashlib.sha256()
    for output in program.outputs:
        digest.update(np.ascontiguousarray(tensors[output.tensor], "<i8").tobytes())
    return digest.hexdigest()[:16]
