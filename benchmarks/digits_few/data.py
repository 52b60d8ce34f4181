"""The digits with few labels to learn from, and enough for a test that tells configurations apart."""

from __future__ import annotations

from pathlib import Path

from po2quant.benchmark import Dataset

from ..shared.digits.data import load_split

TEST_SAMPLES = 1080


def load(data_dir: Path | None = None, seed: int = 0) -> Dataset:
    """Return the digits, 1080 of them for the test and 30 % of the others for validation.

    Args:
        data_dir: ignored.
        seed: of the validation split and of the order of the samples.
    """
    return load_split(TEST_SAMPLES, 0.3, seed)
