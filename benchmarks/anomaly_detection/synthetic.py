"""Generated machine sounds, for a first run without any data."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from po2quant.benchmark import Dataset

from .data import testing_split, training_splits
from .features import SAMPLE_RATE_HZ, log_mel_db

CLIP_SAMPLES = 8 * SAMPLE_RATE_HZ
MACHINES = 4
TRAIN_CLIPS = 12  # of a machine
TEST_CLIPS = 10  # of a machine, half of them anomalies
LOWEST_HUM_HZ = 60.0
HARMONICS = np.arange(1, 9)[:, None]
FAULTS = ("tone", "clicks", "speed")


def synthesize(seed: int) -> Dataset:
    """Return the sounds of four generated machines in the form of the real data, in a few seconds.

    Each machine hums at its own frequency, with eight harmonics and noise. An anomaly has an extra tone,
    clicks, or another speed, faint or plain. 43 clips train, 5 validate, 40 test.
    """
    train = list(product(range(MACHINES), range(TRAIN_CLIPS), (None,)))
    test = [
        (machine, TRAIN_CLIPS + clip, FAULTS[(machine + clip) % len(FAULTS)] if clip % 2 else None)
        for machine, clip in product(range(MACHINES), range(TEST_CLIPS))
    ]
    with ThreadPoolExecutor() as pool:
        frames = list(pool.map(lambda clip: log_mel_db(machine_sound(seed, *clip)), train + test))
    features = np.stack(frames).astype(np.float16)
    machine_ids = np.array([f"id_{machine + 1:02d}" for machine, _, _ in train + test])
    anomalous = np.array([fault is not None for _, _, fault in test], np.int32)
    return Dataset(
        "synthetic machines",
        "synthetic",
        testing_split(features[len(train) :], anomalous, machine_ids[len(train) :]),
        *training_splits(features[: len(train)], machine_ids[: len(train)], seed),
    )


def machine_sound(seed: int, machine: int, clip: int, fault: str | None) -> np.ndarray:
    """Return eight seconds of a machine at 16 kHz, float32 ``(128000,)`` in -1..1.

    Args:
        seed: of the data set.
        machine: number from 0; with the seed it decides the timbre.
        clip: number of the recording; with the others it decides noise, load and the details of a fault.
        fault: ``"tone"``, ``"clicks"``, ``"speed"`` or None.
    """
    timbre, rng = np.random.default_rng((seed, machine)), np.random.default_rng((seed, machine, clip))
    seconds = np.arange(CLIP_SAMPLES, dtype=np.float32) / SAMPLE_RATE_HZ
    severity = 10 ** rng.uniform(-1, 0)
    speed = 1 + rng.uniform(-0.02, 0.02) + (rng.choice((-0.2, 0.2)) * severity if fault == "speed" else 0)
    hum_hz = LOWEST_HUM_HZ * 1.4**machine * speed
    levels = timbre.uniform(0.3, 1, HARMONICS.shape) / HARMONICS
    phases = rng.uniform(0, 2 * np.pi, HARMONICS.shape)
    angles = (2 * np.pi * hum_hz * HARMONICS).astype(np.float32) * seconds + phases.astype(np.float32)
    load = 1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * seconds)
    sound = 0.1 * load * np.sum(levels * np.sin(angles), axis=0)
    sound += rng.uniform(0.01, 0.03) * rng.normal(size=CLIP_SAMPLES)
    if fault == "tone":
        sound += 0.02 * severity * np.sin(2 * np.pi * rng.uniform(1000, 5000) * seconds)
    if fault == "clicks":
        sound += 0.3 * severity * _clicks(rng)
    return np.clip(sound, -1, 1).astype(np.float32)


def _clicks(rng: np.random.Generator) -> np.ndarray:
    """Return 40 bursts of noise that fade in 5 ms, ``(128000,)``."""
    burst = np.exp(-np.arange(800) / (0.005 * SAMPLE_RATE_HZ))
    impulses = np.zeros(CLIP_SAMPLES)
    impulses[rng.choice(CLIP_SAMPLES, 40, replace=False)] = 1
    return np.convolve(impulses, burst)[:CLIP_SAMPLES] * rng.normal(size=CLIP_SAMPLES)
