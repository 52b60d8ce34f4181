"""Generated visual wake words: figures of ellipses, or none, among boxes and discs."""

from __future__ import annotations

import numpy as np

from po2quant.benchmark import Dataset, Split
from po2quant.data.splits import mixed_order

from .data import SCALE, training_split

SIDE = 96
SAMPLES = (800, 160, 320)
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float32)


def synthesize(seed: int = 0) -> Dataset:
    """Return generated pictures, uint8 ``(samples, 96, 96, 3)`` in 0..255, half of them with a figure (class 1).

    Every picture has a background of soft colours and two to five boxes and discs; a figure (head, body, arms and legs
    of ellipses) stands in front of them.
    """
    rng = np.random.default_rng(seed)
    train, validation, test = (_pictures(rng, samples) for samples in SAMPLES)
    splits = Split(*test, scale=SCALE), training_split(*train), Split(*validation, scale=SCALE)
    return Dataset("synthetic figures", "synthetic", *splits)


def _pictures(rng: np.random.Generator, samples: int) -> tuple[np.ndarray, np.ndarray]:
    classes = (np.arange(samples) % 2).astype(np.int32)
    y = classes[mixed_order(classes, int(rng.integers(2**31)))]
    return np.stack([_picture(rng, has_person=bool(label)) for label in y]), y


def _picture(rng: np.random.Generator, has_person: bool) -> np.ndarray:
    picture = _background(rng)
    for _ in range(rng.integers(2, 6)):
        _add_thing(picture, rng)
    if has_person:
        _add_person(picture, rng)
    else:
        _add_thing(picture, rng)
    picture += rng.normal(0, 6, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _background(rng: np.random.Generator) -> np.ndarray:
    """Return 5 x 5 shades of a random colour, bilinear in between, float64 ``(96, 96, 3)``."""
    colours = rng.uniform(40, 215, 3) + rng.normal(0, 25, (5, 5, 3))
    place = np.linspace(0, 3.999, SIDE)
    low, share = place.astype(int), place % 1
    rows = colours[low] + share[:, None, None] * (colours[low + 1] - colours[low])
    return rows[:, low] + share[:, None] * (rows[:, low + 1] - rows[:, low])


def _add_thing(picture: np.ndarray, rng: np.random.Generator) -> None:
    row, column = rng.uniform(0, SIDE, 2)
    height, width = rng.uniform(5, 22, 2)
    add = _ellipse if rng.random() < 0.5 else _box
    picture[add(row, column, height, width)] = rng.uniform(0, 255, 3)


def _add_person(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a figure of 45 to 85 pixels from head to foot."""
    unit = rng.uniform(45, 85) / 8
    top, middle = rng.uniform(2, SIDE - 2 - 8 * unit + unit), rng.uniform(2 * unit, SIDE - 2 * unit)
    skin = np.array([225, 180, 150]) * rng.uniform(0.35, 1.05)
    shirt, trousers = rng.uniform(0, 255, (2, 3))
    for side in (-1, 1):
        step, swing = rng.uniform(0.3, 0.9), rng.uniform(1.0, 1.5)
        picture[_ellipse(top + 6.0 * unit, middle + side * step * unit, 2.0 * unit, 0.45 * unit)] = trousers
        picture[_ellipse(top + 3.2 * unit, middle + side * swing * unit, 1.5 * unit, 0.35 * unit)] = skin
    picture[_ellipse(top + 3.2 * unit, middle, 1.7 * unit, unit)] = shirt
    picture[_ellipse(top + 0.8 * unit, middle, 0.8 * unit, 0.65 * unit)] = skin


def _ellipse(row: float, column: float, height: float, width: float) -> np.ndarray:
    return ((_ROWS - row) / height) ** 2 + ((_COLUMNS - column) / width) ** 2 < 1


def _box(row: float, column: float, height: float, width: float) -> np.ndarray:
    return (np.abs(_ROWS - row) < height) & (np.abs(_COLUMNS - column) < width)
