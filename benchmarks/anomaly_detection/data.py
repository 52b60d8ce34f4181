"""Anomaly detection data: log-mel frames of machines, five consecutive frames joined to 640 numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from po2quant.benchmark import Dataset, Split
from po2quant.data.archives import check_unique, existing_path, extract
from po2quant.data.arrays import Expected, read_npz
from po2quant.data.budgets import NAME_CHARACTERS
from po2quant.data.splits import mixed_order, validation_indices
from po2quant.files import one_line

from ..shared.cache import cached
from ..shared.download import Source, fetch
from .features import FRAMES, MEL_BANDS, WINDOWS, join_frames
from .recordings import (
    DEFAULT_MACHINE_TYPE,
    PARTS,
    Parts,
    cache_key,
    choose_machine_type,
    find_recordings,
    read_features,
)
from .score import check_both_kinds

TRAIN_FILE = "ad_toycar_train.npz"
TEST_FILE = "ad_toycar_test.npz"
FORMS = f"dev_data_ToyCar.zip, a folder with ToyCar/train and ToyCar/test, or {TRAIN_FILE} and {TEST_FILE}"

SOURCES = {  # by a clip of theirs; nobody states a SHA-256: Zenodo and the package soundata state MD5
    "normal_id_01_00000000": Source(
        "https://zenodo.org/record/3678171/files/dev_data_ToyCar.zip",
        "dev_data_ToyCar.zip",
        size_bytes=1816443231,
        digest="md5:4dec75ca8d9f666aa9e4c1894a740501",
    ),
    "normal_id_05_00000000": Source(
        "https://zenodo.org/record/3727685/files/eval_data_train_ToyCar.zip",
        "eval_data_train_ToyCar.zip",
        size_bytes=861354584,
        digest="md5:a5d4ccd498af70b04dd74b644b820006",
    ),
}
MACHINE_TYPES = ("ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve")
OFFICIAL_CLIPS = {"ToyCar": ((4000, 2459), (7000, 2459))}  # train and test, without and with the additional clips
_CLIP_NAME = re.compile(r"(normal|anomaly)_(id_\d+)_\w+", re.ASCII)
_FEATURES = {
    "names": Expected("U", (None,), limit_bytes=4 * NAME_CHARACTERS * 2**12),
    "log_mel_db": Expected("f", (None, FRAMES, MEL_BANDS)),
}


def load(data_dir: Path | None, seed: int = 0) -> Dataset:
    """Return windows of log-mel frames in dB.

    Train and validation hold windows, ``(windows, 640)``, which are input and target at once; 10 % of the
    training clips of each machine ID are for validation. Test holds whole clips: ``x`` ``(clips, 196, 640)``,
    ``y`` int32 ``(clips,)`` with 1 for an anomaly, ``groups`` the machine IDs such as ``"id_01"``. Features
    of sound files are float16 (the official training clips are 1.8 GB of windows), those of ``.npz`` files
    are as stored. The first reading of sound files keeps the features in ``.po2quant-cache`` beside them.

    Args:
        data_dir: sound files in DCASE form (``dev_data_ToyCar.zip``, which finds ``eval_data_train_ToyCar.zip``
            beside it; any zip file with ``<machine type>/train`` and ``/test``; that folder itself; or a folder
            that holds any of these), or ``ad_toycar_train.npz`` and ``ad_toycar_test.npz``: their folder, or one
            beside the other. Test files alone give a test split only.
        seed: of the validation clips and of the order of the windows.
    """
    path = existing_path(data_dir, "anomaly_detection", FORMS)
    if path.suffix == ".npz":
        return _load_feature_files(path, seed)
    with ExitStack() as stack:
        if found := find_recordings(path, stack):
            machine_type = choose_machine_type(found, path)
            return _load_recordings(found[machine_type], machine_type, path if path.is_dir() else path.parent, seed)
    return _load_feature_files(path, seed)


def download(folder: Path) -> None:
    """Bring ToyCar of DCASE 2020 task 2 into a folder: development set and additional training clips.

    The two zip files (2.7 GB) are extracted beside themselves (3.3 GB). What ``load`` finds there is not fetched.
    """
    with ExitStack() as stack:
        found = find_recordings(folder, stack) if folder.is_dir() else {}
        present = {recording.name for recording in found.get(DEFAULT_MACHINE_TYPE, {"train": ()})["train"]}
    for clip, source in SOURCES.items():
        if clip not in present:
            extract(fetch(source, folder), folder / Path(source.name).stem)


def label_clips(names: Sequence[str], source: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what the names of clips say: 1 for an anomaly, int32 ``(clips,)``, and the machine IDs, ``(clips,)``."""
    matches = [_CLIP_NAME.fullmatch(str(name)) for name in names]
    if None in matches:
        wrong = names[matches.index(None)]
        raise ValueError(f"a clip name must be like normal_id_01_00000000. Received: {one_line(wrong)} in {source}")
    check_unique([*map(str, names)], "a clip", source)
    return np.array([match[1] == "anomaly" for match in matches], np.int32), np.array([match[2] for match in matches])


def testing_split(log_mel_db: np.ndarray, anomalous: np.ndarray, machine_ids: np.ndarray) -> Split:
    """Return whole clips, ``(clips, 196, 640)``, in mixed order of machines and anomalies."""
    machine = np.unique(machine_ids, return_inverse=True)[1]
    order = mixed_order(machine * 2 + anomalous)
    return Split(join_frames(log_mel_db[order]), anomalous[order], machine_ids[order])


def training_splits(log_mel_db: np.ndarray, machine_ids: np.ndarray, seed: int) -> tuple[Split, Split]:
    """Return train and validation windows, ``(windows, 640)``, of 90 % and 10 % of each machine's clips."""
    windows = join_frames(log_mel_db)
    splits = []
    for clips in validation_indices(machine_ids, seed=seed):
        order = np.random.default_rng(seed).permutation(len(clips) * WINDOWS)
        splits.append(Split(windows[clips[order // WINDOWS], order % WINDOWS], None))
    return splits[0], splits[1]


def read_feature_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the clips of a ``.npz`` file: names, ``(clips,)``, and log-mel frames in dB, ``(clips, 200, 128)``."""
    arrays = read_npz(path, _FEATURES)
    names, log_mel_db = arrays["names"], arrays["log_mel_db"]
    if len(names) != len(log_mel_db):
        raise ValueError(f"a clip must have one name. Received: {len(names)} names, {len(log_mel_db)} clips in {path}")
    finite = np.isfinite(log_mel_db).all(axis=(1, 2))
    if not finite.all():
        name = one_line(names[~finite][0])
        raise ValueError(f"log_mel_db must be finite. Received: NaN or infinity in {name} of {path}")
    return names, log_mel_db


def _load_feature_files(path: Path, seed: int) -> Dataset:
    folder = path if path.is_dir() else path.parent
    train_path, test_path = folder / TRAIN_FILE, folder / TEST_FILE
    if path not in (folder, train_path, test_path) or not (train_path.exists() or test_path.exists()):
        raise ValueError(f"data_dir of anomaly_detection must have {FORMS}. Received: {path}, which is none of them")
    if not test_path.exists():
        raise ValueError(f"{TEST_FILE} must be beside {TRAIN_FILE}. Received: {folder}, where it is missing")
    names, log_mel_db = read_feature_file(test_path)
    test = testing_split(log_mel_db, *_test_labels(names, test_path))
    if not train_path.exists():
        return Dataset("ToyADMOS ToyCar", "subset", test)
    names, log_mel_db = read_feature_file(train_path)
    train, validation = training_splits(log_mel_db, _train_machines(names, train_path), seed)
    return Dataset("ToyADMOS ToyCar", "subset", test, train, validation)


def _load_recordings(parts: Parts, machine_type: str, folder: Path, seed: int) -> Dataset:
    train_names, test_names = ([recording.name for recording in parts[part]] for part in PARTS)
    train_machines, test_labels = _train_machines(train_names, folder), _test_labels(test_names, folder)
    recordings = [*parts["train"], *parts["test"]]
    expected = {"log_mel_db": Expected.like((len(recordings), FRAMES, MEL_BANDS), np.float16)}
    key = cache_key(machine_type, recordings)
    arrays = cached(folder, key, expected, lambda: {"log_mel_db": read_features(recordings)})
    train_log_mel_db, test_log_mel_db = np.split(arrays["log_mel_db"], [len(train_names)])
    test = testing_split(test_log_mel_db, *test_labels)
    name = f"DCASE 2020 {machine_type}" if machine_type in MACHINE_TYPES else machine_type
    if not train_names:
        return Dataset(f"{name}, test recordings alone", "subset", test)
    is_official = (len(train_names), len(test_names)) in OFFICIAL_CLIPS.get(machine_type, ())
    train, validation = training_splits(train_log_mel_db, train_machines, seed)
    return Dataset(name, "official" if is_official else "subset", test, train, validation)


def _train_machines(names: Sequence[str], source: Path) -> np.ndarray:
    anomalous, machine_ids = label_clips(names, source)
    if anomalous.any():
        wrong = names[int(np.argmax(anomalous))]
        raise ValueError(f"the training clips must be normal. Received: {wrong} among those of {source}")
    return machine_ids


def _test_labels(names: Sequence[str], source: Path) -> tuple[np.ndarray, np.ndarray]:
    anomalous, machine_ids = label_clips(names, source)
    check_both_kinds(anomalous, machine_ids)
    return anomalous, machine_ids
