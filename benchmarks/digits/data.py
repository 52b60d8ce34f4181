"""The usual split of the digits: a fifth is for the test."""

from __future__ import annotations

from pathlib import Path

from po2quant.benchmark import Dataset

from ..shared.digits.data import load_split

TEST_SAMPLES = 360


def load(data_dir: Path | None = None, seed: int = 0) -> Dataset:
    """Return the digits, 360 of them for the test and 10 % of the others for validation.

    Args:
        data_dir: ignored.
        seed: of the validation split and of the order of the samples.
    """
    return load_split(TEST_SAMPLES, 0.1, seed)
