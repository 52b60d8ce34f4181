"""Handwritten digits that come with scikit-learn: 1797 pictures of 8 x 8 pixels, no download."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from po2quant.benchmark import Dataset, Split
from po2quant.data.splits import mixed_order, split_validation

PIXEL_MAXIMUM = 16.0


def load_split(test_samples: int, validation_share: float, seed: int = 0) -> Dataset:
    """Return the digits, float32 ``(samples, 8, 8, 1)`` in 0..1, and their classes, int32 ``(samples,)``.

    The test samples do not depend on the seed. The classes have the same shares in each split.

    Args:
        test_samples: how many are for the test.
        validation_share: of the others that are for validation.
        seed: of the validation split and of the order of the samples.
    """
    digits = load_digits()
    x = (digits.images[..., np.newaxis] / PIXEL_MAXIMUM).astype(np.float32)
    y = digits.target.astype(np.int32)
    order = mixed_order(y)
    test, rest = order[:test_samples], np.sort(order[test_samples:])
    train, validation = split_validation(x[rest], y[rest], fraction=validation_share, seed=seed)
    return Dataset("scikit-learn digits", "embedded", Split(x[test], y[test]), train, validation)
