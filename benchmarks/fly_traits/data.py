"""Single flies for the classifier: synthetic ones, or those of a user's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from po2quant.benchmark import Dataset, Split

from .cutting import cut_picture
from .folder import read_parts
from .generator import Crops, Picture, crops
from .score import targets

SIZE = 80
SCALE = 1 / 255
SAMPLES = {"train": 4000, "validation": 400, "test": 1000}


def load(data_dir: Path | None, seed: int = 0, size: int = SIZE) -> Dataset:
    """Return flies, uint8 ``(flies, size, size, 3)``, and their targets, see :func:`.score.targets`.

    Args:
        data_dir: labelled pictures, see :mod:`.folder`, of which the flies with a trait that is known are cut. None:
            synthetic flies.
        seed: of the parts; synthetic flies for the test are always the same.
        size: rows and columns of a crop.

    Raises:
        ValueError: for a folder that is wrong, less than five pictures, and a part without any known trait.
    """
    if data_dir is None:
        return synthesize(seed, size)
    train, validation, test = (_cut(part, size) for part in read_parts(data_dir, seed))
    return Dataset(f"flies of {data_dir.name}", "own", test, train, validation)


def synthesize(seed: int = 0, size: int = SIZE) -> Dataset:
    """Return synthetic flies."""
    seeds = {"train": 3 * seed + 3, "validation": 3 * seed + 4, "test": 0}
    train, validation, test = (split_of(crops(SAMPLES[part], size, seeds[part])) for part in SAMPLES)
    return Dataset("synthetic flies", "synthetic", test, train, validation)


def split_of(flies: Crops) -> Split:
    """Return flies as samples of a classifier."""
    return Split(flies.pixels, targets(np.asarray(flies.traits), flies.key_points), scale=SCALE)


def _cut(pictures: Sequence[Picture], size: int) -> Split:
    parts = [cut_picture(picture, size) for picture in pictures]
    flies = Crops(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    known = np.any(np.isfinite(flies.traits), axis=1)
    if not known.any():
        raise ValueError(f"traits.csv must have traits of each part. Received: {len(pictures)} pictures without any")
    return split_of(Crops(*(array[known] for array in flies)))
