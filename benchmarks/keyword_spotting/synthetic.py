"""Generated keywords: chirps and noise, for trying commands without data."""

from __future__ import annotations

import numpy as np

from po2quant.benchmark import Dataset, Split
from po2quant.data.splits import mixed_order

from .features import CLIP_SAMPLES, SAMPLE_RATE_HZ, int16_levels, mfcc, noisy_features
from .official import LABELS, SILENCE, UNKNOWN

CLIPS_PER_CLASS = {"train": 80, "validation": 15, "test": 25}
KEYWORD_HZ = [(begin, end) for begin in (300, 500, 800, 1300, 2100) for end in (400, 1700)]
"""Frequencies in which the chirp of a keyword begins and ends."""


def synthesize(seed: int) -> Dataset:
    """Return generated data of the shapes of Speech Commands: each keyword is a chirp of its own, in noise.

    Unknown words are chirps of random frequencies, silence is noise alone. Noise recordings augment the training.
    """
    rng = np.random.default_rng(seed)
    splits = {}
    for part, count in CLIPS_PER_CLASS.items():
        y = np.repeat(np.arange(len(LABELS), dtype=np.int32), count)
        y = y[mixed_order(y, seed)]
        clips = np.stack([_clip(label, rng) for label in y])
        splits[part] = (clips, y)
    noise = [int16_levels(0.3 * rng.standard_normal(10 * SAMPLE_RATE_HZ)) for _ in range(2)]
    train, y = splits["train"]
    return Dataset(
        "synthetic keywords",
        "synthetic",
        **{part: Split(mfcc(clips)[..., None], y) for part, (clips, y) in splits.items() if part != "train"},
        train=Split(mfcc(train)[..., None], y, augmented=noisy_features(lambda: train, noise)),
    )


def _clip(label: int, rng: np.random.Generator) -> np.ndarray:
    """Return one second of sound, int16 ``(16000,)``."""
    sound = 0.02 * rng.standard_normal(CLIP_SAMPLES)
    if label != SILENCE:
        begin_hz, end_hz = rng.uniform(200, 3800, 2) if label == UNKNOWN else rng.normal(1, 0.05, 2) * KEYWORD_HZ[label]
        samples = rng.integers(6000, 10000)
        hz = np.geomspace(begin_hz, end_hz, samples)
        chirp = np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ) * np.hanning(samples)
        start = rng.integers(CLIP_SAMPLES - samples)
        sound[start : start + samples] += rng.uniform(0.2, 0.8) * chirp
    return int16_levels(sound)
