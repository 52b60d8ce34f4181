"""Speech Commands V2 as it is published, in the 12 classes of MLPerf Tiny.

MLPerf Tiny takes them from ``tensorflow_datasets``, whose rules, file sizes and digests stand in its sources
(``speech_commands_dataset_builder.py``, ``url_checksums/speech_commands.txt``) and are followed here:

- the words but the ten keywords are ``unknown``, all of them: most of the training and validation clips;
- ``silence`` is cut from the background noise, a second every half second: ``running_tap`` for validation, the
  other recordings for training;
- the validation clips are those of ``validation_list.txt``, the training clips those in neither list, and the
  test clips a second archive, which has silences and unknown words of its own.

Its metadata count 85511 training, 10102 validation and 4890 test clips: ``OFFICIAL_COUNTS``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from po2quant.data.archives import Archive, extract, members_by_class

from ..shared.download import Source, fetch
from .clips import CLIP_SUFFIXES, NOISE_FOLDER, Clip, LabelledClips, noise_names
from .features import CLIP_SAMPLES

LABELS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown")
SILENCE, UNKNOWN = LABELS.index("silence"), LABELS.index("unknown")
CLASS_FOLDERS = (*LABELS[:10], "_silence_", "_unknown_")
FOLDER = "speech_commands_v0.02"
TEST_FOLDER = "speech_commands_test_set_v0.02"
LISTS = ("validation_list.txt", "testing_list.txt")
VALIDATION_NOISE = f"{NOISE_FOLDER}/running_tap"
SILENCE_STEP_SAMPLES = CLIP_SAMPLES // 2

TRAIN, VALIDATION, TEST = range(3)
OFFICIAL_COUNTS = (85511, 10102, 4890)
HASHES = 2**27
VALIDATION_PERCENT = TEST_PERCENT = 10
UNKNOWN_SHARE = 0.1

_URL = "https://storage.googleapis.com/download.tensorflow.org/data/"
SOURCES = {
    FOLDER: Source(
        f"{_URL}{FOLDER}.tar.gz",
        f"{FOLDER}.tar.gz",
        2428923189,
        "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
    TEST_FOLDER: Source(
        f"{_URL}{TEST_FOLDER}.tar.gz",
        f"{TEST_FOLDER}.tar.gz",
        112563277,
        "sha256:cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
    ),
}


def download(folder: Path) -> None:
    """Bring the two official archives, 2.4 GB, into ``folder`` and extract each into its own folder there."""
    for name, source in SOURCES.items():
        if not (folder / name).exists():
            extract(fetch(source, folder), folder / name)


def part_by_hash(name: str) -> int:
    """Return ``TRAIN``, ``VALIDATION`` or ``TEST`` by the official rule for clips that are in no list.

    The SHA-1 of the file name up to ``_nohash_``, the speaker, modulo 2**27, decides: the lowest tenth validates,
    the next one tests. It puts all keywords of the official test set that were looked up, 3169, into ``TEST``.
    """
    speaker = name.rpartition("/")[-1].partition("_nohash_")[0]
    percent = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % HASHES * (100.0 / (HASHES - 1))
    if percent < VALIDATION_PERCENT:
        return VALIDATION
    return TEST if percent < VALIDATION_PERCENT + TEST_PERCENT else TRAIN


def spoken_words(archive: Archive) -> tuple[list[str], np.ndarray]:
    """Return the clips of spoken words, ``<word>/<file>``, and their class indices, int32 ``(clips,)``."""
    names = [name for name in archive.names if name.count("/") == 1 and name.lower().endswith(CLIP_SUFFIXES)]
    names = [name for name in names if not name.startswith("_")]
    words = [name.partition("/")[0] for name in names]
    if missing := sorted(set(LABELS[:10]) - set(words)):
        raise ValueError(f"{missing[0]} must hold .wav files. Received: {archive.path} without")
    if not set(words) - set(LABELS):
        raise ValueError(f"{FOLDER} must hold words beside the ten keywords. Received: {archive.path} without")
    return names, np.array([LABELS.index(word) if word in LABELS else UNKNOWN for word in words], np.int32)


def parts_of(archive: Archive, names: Sequence[str]) -> np.ndarray:
    """Return the part of each clip, ``(clips,)``: by the two lists, or by ``part_by_hash`` where both are absent."""
    if not set(LISTS) & archive.names.keys():
        return np.array([part_by_hash(name) for name in names])
    validation_list, testing_list = LISTS
    validating = archive.read_member_list(validation_list) if validation_list in archive.names else frozenset()
    testing = archive.read_member_list(testing_list)
    if both := sorted(testing & validating):
        raise ValueError(f"a clip must be in one list at most. Received: {both[0]} in both of {archive.path}")
    return np.array([TEST if name in testing else VALIDATION if name in validating else TRAIN for name in names])


def silences(noise: dict[str, np.ndarray], validation: bool) -> list[Clip]:
    """Return the silence clips of training or validation: seconds of the noise recordings, every half second."""
    return [
        Clip(name, begin)
        for name, sound in noise.items()
        if name.startswith(VALIDATION_NOISE) == validation
        for begin in range(0, len(sound) - CLIP_SAMPLES, SILENCE_STEP_SAMPLES)
    ]


def official_parts(archive: Archive, noise: dict[str, np.ndarray], test: Path | None) -> list[LabelledClips]:
    """Return the training, validation and test clips of the official archives.

    Without the test archive the clips of ``testing_list.txt`` test: all keywords, a tenth as many unknown words, drawn
    at random, and the second half of ``running_tap`` as silence, whose first half then validates.

    Args:
        archive: the extracted main archive.
        noise: its background-noise recordings by name, int16 ``(samples,)`` each.
        test: the extracted test archive.
    """
    names, labels = spoken_words(archive)
    part, quiet = parts_of(archive, names), {TRAIN: silences(noise, False), VALIDATION: silences(noise, True)}
    if not all(quiet.values()):
        raise ValueError(
            f"{NOISE_FOLDER} must hold running_tap and other recordings of more than a second. "
            f"Received: {archive.path} with {', '.join(noise) or 'none'}"
        )
    if test is None:
        half = len(quiet[VALIDATION]) // 2
        quiet |= {VALIDATION: quiet[VALIDATION][:half], TEST: quiet[VALIDATION][half + 1 :]}
        part[_surplus_unknowns(labels, part)] = -1
    found = []
    for number, silent in quiet.items():
        members = np.flatnonzero(part == number)
        clips = [*(Clip(names[member]) for member in members), *silent]
        silent_labels = np.full(len(silent), SILENCE, np.int32)
        found.append(LabelledClips(archive.path, clips, np.concatenate([labels[members], silent_labels])))
    return found if test is None else [*found, clips_by_class(test)]


def _surplus_unknowns(labels: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the unknown words that test, but a random tenth as many as there are keywords that test."""
    keywords = np.count_nonzero((part == TEST) & (labels != UNKNOWN))
    unknown = np.flatnonzero((part == TEST) & (labels == UNKNOWN))
    return np.random.default_rng(0).permutation(unknown)[math.ceil(UNKNOWN_SHARE * keywords) :]


def clips_by_class(path: Path) -> LabelledClips:
    """Return all clips of an archive that has a folder for each of the 12 classes."""
    with Archive(path) as archive:
        folders = (*CLASS_FOLDERS, NOISE_FOLDER) if noise_names(archive) else CLASS_FOLDERS
        names, labels = members_by_class(archive, folders, CLIP_SUFFIXES)
    spoken = np.flatnonzero(labels < len(LABELS))
    return LabelledClips(path, [Clip(names[number]) for number in spoken], labels[spoken])
