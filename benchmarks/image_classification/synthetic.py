"""Generated pictures for a machine without CIFAR-10: stripes in noise, of two directions and five widths."""

from __future__ import annotations

import numpy as np

from po2quant.benchmark import Dataset, Split
from po2quant.data.splits import mixed_order

from .data import CLASSES, IMAGE_SHAPE, with_augmentation

TRAIN, VALIDATION, TEST = 1200, 200, 400
WIDEST_CYCLES = 2.0  # per picture
CYCLES_RATIO = 1.5  # of a width to the next wider one
CYCLES_SPREAD = 0.12
TILT_DEGREES = 15.0
CONTRAST = 40.0
NOISE = 25.0


def synthesize(seed: int) -> Dataset:
    """Return pictures of stripes, uint8 ``(samples, 32, 32, 3)``, and classes, int32 ``(samples,)``.

    Class 2 w + d has stripes of width w, from wide to narrow, upright for d = 0 and lying for d = 1. Tilt, phase,
    colours and noise are random.
    """
    rng = np.random.default_rng(seed)
    train, validation, test = (_stripes(rng, samples) for samples in (TRAIN, VALIDATION, TEST))
    return Dataset("synthetic stripes", "synthetic", test, with_augmentation(train), validation)


def _stripes(rng: np.random.Generator, samples: int) -> Split:
    y = np.arange(samples, dtype=np.int32) % len(CLASSES)
    y = y[mixed_order(y, seed=int(rng.integers(2**31)))]
    width, is_lying = np.divmod(y, 2)
    cycles = WIDEST_CYCLES * CYCLES_RATIO ** (width + CYCLES_SPREAD * rng.uniform(-1, 1, samples))
    angle = np.radians(90 * is_lying + TILT_DEGREES * rng.uniform(-1, 1, samples))
    row, column = np.meshgrid(*(np.arange(size) / size for size in IMAGE_SHAPE), indexing="ij")
    along, across, phase = (part[:, None, None] for part in (np.cos(angle), np.sin(angle), rng.random(samples)))
    wave = np.sin(2 * np.pi * (cycles[:, None, None] * (along * column + across * row) + phase))
    tint = rng.normal(size=(samples, 1, 1, 3))
    tint *= CONTRAST / np.linalg.norm(tint, axis=-1, keepdims=True)
    background = rng.uniform(64, 192, (samples, 1, 1, 3))
    noise = NOISE * rng.normal(size=(samples, *IMAGE_SHAPE, 3))
    pictures = background + tint * wave[..., None] + noise
    return Split(np.clip(np.round(pictures), 0, 255).astype(np.uint8), y)
