"""Single flies for the classifier: synthetic ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from po2quant.benchmark import Dataset, Split

from .generator import Crops, crops
from .score import targets

SIZE = 80
SCALE = 1 / 255
SAMPLES = {"train": 4000, "validation": 400, "test": 1000}


def load(data_dir: Path | None, seed: int = 0, size: int = SIZE) -> Dataset:
    """Return flies, uint8 ``(flies, size, size, 3)``, and their targets, see :func:`.score.targets`.

    Args:
        data_dir: None: synthetic flies.
        seed: of the flies for training and validation; those for testing are always the same.
        size: rows and columns of a picture.
    """
    return synthesize(seed, size)


def synthesize(seed: int = 0, size: int = SIZE) -> Dataset:
    """Return synthetic flies."""
    seeds = {"train": 3 * seed + 3, "validation": 3 * seed + 4, "test": 0}
    train, validation, test = (split_of(crops(SAMPLES[part], size, seeds[part])) for part in SAMPLES)
    return Dataset("synthetic flies", "synthetic", test, train, validation)


def split_of(flies: Crops) -> Split:
    """Return flies as samples of a classifier."""
    return Split(flies.pixels, targets(np.asarray(flies.traits), flies.key_points), scale=SCALE)
