"""Keyword spotting data: ten spoken words, silence and unknown words as 49 x 10 MFCC features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from po2quant.benchmark import Dataset, Split
from po2quant.data.archives import Archive, find_archive, read_labels
from po2quant.data.arrays import Expected
from po2quant.data.splits import mixed_order

from ..shared.cache import cached
from .clips import NOISE_FOLDER, LabelledClips, read_noise
from .features import COEFFICIENTS, FRAMES, noisy_features
from .official import (
    FOLDER,
    LABELS,
    LISTS,
    OFFICIAL_COUNTS,
    TEST,
    TEST_FOLDER,
    TRAIN,
    VALIDATION,
    clips_by_class,
    official_parts,
    parts_of,
)

SUBSET, FEATURES = "speech_commands_v2_subset.zip", "mlperf_tiny_kws01.zip"
NOISE = "speech_commands_background_noise.zip"
UNKNOWN_FOLDER, LABEL_FILE = "_unknown_", "y_labels.csv"

FEATURE_SCALE = 0.5847029  # MLPerf Tiny's int8 features: value = (q - zero point) * scale
FEATURE_ZERO_POINT = 83


def load(data_dir: Path | None, seed: int = 0) -> Dataset:
    """Return MFCC features, float32 ``(clips, 49, 10, 1)``, and indices into ``LABELS``, int32 ``(clips,)``.

    Training clips are changed by background noise where ``data_dir`` has recordings of it.

    Args:
        data_dir: Speech Commands V2 (``speech_commands_v0.02``, whose features are kept beside it), its test archive
            alone (``speech_commands_test_set_v0.02``), ``speech_commands_v2_subset.zip`` (train, validation and test
            by its two lists; test alone where ``testing_list.txt`` has every clip) or ``mlperf_tiny_kws01.zip`` (test
            only): the archive, its extracted folder, or a folder that holds them; the first wins where several are.
        seed: of the order of the train and validation samples; the lists alone decide the splits.
    """
    names, markers = (FOLDER, SUBSET, TEST_FOLDER, FEATURES), (*LISTS, NOISE_FOLDER, UNKNOWN_FOLDER, LABEL_FILE)
    with find_archive(data_dir, "keyword_spotting", names, markers) as archive:
        tops = {name.partition("/")[0] for name in archive.names}
        if LABEL_FILE in tops and "testing_list.txt" not in tops:
            return _load_features(archive)
        if UNKNOWN_FOLDER not in tops:
            return _load_official(archive, Path(data_dir), seed)
        if set(LISTS) & tops:
            return _load_subset(archive, Path(data_dir), seed)
        return _dataset("Speech Commands V2 test set", [clips_by_class(archive.path)])


def _load_official(archive: Archive, data_dir: Path, seed: int) -> Dataset:
    noise, test = read_noise(archive), data_dir / TEST_FOLDER
    parts = official_parts(archive, noise, test if test.exists() else None)
    name = "Speech Commands V2" if test.exists() else f"Speech Commands V2 without {TEST_FOLDER}"
    return _dataset(name, parts, seed, list(noise.values()))


def _load_subset(archive: Archive, data_dir: Path, seed: int) -> Dataset:
    clips = clips_by_class(archive.path)
    part = parts_of(archive, [clip.name for clip in clips.clips])
    parts = [clips[np.flatnonzero(part == number)] for number in (TRAIN, VALIDATION, TEST)]
    return _dataset("Speech Commands V2", parts, seed, _noise_of(archive, data_dir))


def _noise_of(archive: Archive, data_dir: Path) -> list[np.ndarray]:
    """Return the noise recordings in the archive, or in the data folder beside it."""
    if noise := read_noise(archive):
        return list(noise.values())
    for path in (data_dir / NOISE, data_dir / Path(NOISE).stem):
        if path.exists():
            with Archive(path) as noise_archive:
                return list(read_noise(noise_archive).values())
    return []


def _dataset(name: str, parts: Sequence[LabelledClips], seed: int = 0, noise: Sequence[np.ndarray] = ()) -> Dataset:
    """Return the data set of training, validation and test clips, or of test clips alone."""
    kind = "official" if len(parts[0].clips) == OFFICIAL_COUNTS[TRAIN if len(parts) == 3 else TEST] else "subset"
    *trained, test = parts
    if not any(part.clips for part in trained):
        return Dataset(f"{name}, test clips alone" if trained else name, kind, _split(test, seed=0))
    train, validation = trained
    return Dataset(name, kind, _split(test, seed=0), _split(train, seed, noise), _split(validation, seed))


def _split(clips: LabelledClips, seed: int, noise: Sequence[np.ndarray] = ()) -> Split:
    """Return the features of the clips in mixed order; an extracted folder keeps them for the next time."""

    def features() -> dict[str, np.ndarray]:
        return {"x": clips.features()}

    is_folder, order = clips.archive.is_dir(), mixed_order(clips.labels, seed)
    expected = {"x": Expected.like((len(clips.clips), FRAMES, COEFFICIENTS, 1), np.float32)}
    key = f"keyword_spotting-{clips.digest()}"
    arrays = cached(clips.archive, key, expected, features) if is_folder else features()
    augmented = noisy_features(clips[order].sound, noise) if noise else None
    return Split(arrays["x"][order], clips.labels[order], augmented=augmented)


def _load_features(archive: Archive) -> Dataset:
    names, y = read_labels(archive, len(LABELS))
    x = np.empty((len(names), FRAMES, COEFFICIENTS, 1), np.float32)
    for index, name in enumerate(names):
        data = archive.read(name)
        if len(data) != FRAMES * COEFFICIENTS:
            raise ValueError(f"{name} must have {FRAMES * COEFFICIENTS} bytes. Received: {len(data)} bytes")
        x[index] = np.frombuffer(data, np.int8).reshape(x.shape[1:])
    x = (x - FEATURE_ZERO_POINT) * np.float32(FEATURE_SCALE)
    return Dataset("MLPerf Tiny keyword spotting features", "subset", Split(x, y))
