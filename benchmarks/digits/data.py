"""Handwritten digits that come with scikit-learn: 1797 pictures of 8 x 8 pixels, no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from po2quant.benchmark import Dataset, Split
from po2quant.data.splits import mixed_order, split_validation

TEST_SAMPLES = 360
PIXEL_MAXIMUM = 16.0


def load(data_dir: Path | None = None, seed: int = 0) -> Dataset:
    """Return the digits, float32 ``(samples, 8, 8, 1)`` in 0..1, and their classes, int32 ``(samples,)``.

    The 360 test samples do not depend on the seed; 10 % of the others are for validation. The classes have
    the same shares in each split.

    Args:
        data_dir: ignored.
        seed: of the validation split and of the order of the samples.
    """
    digits = load_digits()
    x = (digits.images[..., np.newaxis] / PIXEL_MAXIMUM).astype(np.float32)
    y = digits.target.astype(np.int32)
    order = mixed_order(y)
    test, rest = order[:TEST_SAMPLES], np.sort(order[TEST_SAMPLES:])
    train, validation = split_validation(x[rest], y[rest], seed=seed)
    return Dataset("scikit-learn digits", "embedded", Split(x[test], y[test]), train, validation)
