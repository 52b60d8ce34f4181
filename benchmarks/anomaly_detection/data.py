"""Anomaly detection data: log-mel frames of toy cars, five consecutive frames joined to 640 numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benchmarks.base import existing_path, mixed_order, read_npz, validation_indices
from po2quant.benchmark import Dataset, Split

TRAIN_FILE = "ad_toycar_train.npz"
TEST_FILE = "ad_toycar_test.npz"
FRAMES = 200  # frames 50 to 250 of a clip of 11 s
MEL_BANDS = 128
JOINED_FRAMES = 5
WINDOWS = FRAMES - JOINED_FRAMES + 1
INPUTS = JOINED_FRAMES * MEL_BANDS
_CLIP_NAME = re.compile(r"(normal|anomaly)_(id_\d+)_\w+")


def load(data_dir: Path | None, seed: int = 0) -> Dataset:
    """Return windows of log-mel frames in dB.

    Train and validation hold windows, float32 ``(windows, 640)``, which are input and target at once (one
    array); 10 % of the training clips of each machine are for validation. Test holds whole clips: ``x``
    float32 ``(clips, 196, 640)``, ``y`` int32 ``(clips,)`` with 1 for an anomaly, ``groups`` the machine
    IDs such as ``"id_01"``.

    Args:
        data_dir: a folder with ``ad_toycar_train.npz`` and ``ad_toycar_test.npz``, or one of the two files
            beside the other; the test file alone gives a test split only.
        seed: of the validation clips and of the order of the windows.
    """
    path = existing_path(data_dir, "anomaly_detection", f"{TRAIN_FILE} and {TEST_FILE} (or {TEST_FILE} alone)")
    folder = path if path.is_dir() else path.parent
    train_path, test_path = folder / TRAIN_FILE, folder / TEST_FILE
    if path not in (folder, train_path, test_path) or not (train_path.exists() or test_path.exists()):
        raise ValueError(f"anomaly_detection needs --data-dir with {TRAIN_FILE} and {TEST_FILE}. Received: {path}")
    if not test_path.exists():
        raise ValueError(f"{TEST_FILE} must be beside {TRAIN_FILE}. Received: {folder}, where it is missing")
    test = _test_split(test_path)
    if not train_path.exists():
        return Dataset("ToyADMOS ToyCar", "subset", test)
    return Dataset("ToyADMOS ToyCar", "subset", test, *_train_splits(train_path, seed))


def join_frames(log_mel_db: np.ndarray) -> np.ndarray:
    """Return all windows of five consecutive frames, joined in time order.

    Args:
        log_mel_db: ``(clips, frames, mels)``, in dB.

    Returns:
        float32 ``(clips, frames - 4, 5 * mels)``: window t is ``[mel(t), mel(t + 1), ..., mel(t + 4)]``.
    """
    clips, frames, mels = log_mel_db.shape
    flat = np.asarray(log_mel_db, np.float32).reshape(clips, frames * mels)
    windows = np.lib.stride_tricks.sliding_window_view(flat, JOINED_FRAMES * mels, axis=1)
    return np.ascontiguousarray(windows[:, ::mels])


def read_clips(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the log-mel frames of a file, dB ``(clips, 200, 128)``, its anomaly flags and machine IDs."""
    arrays = read_npz(path, ("names", "log_mel_db"))
    names, log_mel_db = arrays["names"], arrays["log_mel_db"]
    shape = (names.size, FRAMES, MEL_BANDS)
    if names.ndim != 1 or log_mel_db.shape != shape or log_mel_db.dtype.kind != "f":
        raise ValueError(
            f"log_mel_db must be floats of the shape {shape}, one clip a name. "
            f"Received: {log_mel_db.dtype} of {log_mel_db.shape} in {path}"
        )
    finite = np.isfinite(log_mel_db).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(f"log_mel_db must be finite. Received: NaN or infinity in {names[~finite][0]} of {path}")
    matches = [_CLIP_NAME.fullmatch(str(name)) for name in names]
    if None in matches:
        wrong = names[matches.index(None)]
        raise ValueError(f"a clip name must be like normal_id_01_00000000. Received: {wrong} in {path}")
    anomalous = np.array([match[1] == "anomaly" for match in matches], np.int32)
    return log_mel_db, anomalous, np.array([match[2] for match in matches])


def _test_split(path: Path) -> Split:
    log_mel_db, anomalous, machines = read_clips(path)
    order = mixed_order(np.unique(machines, return_inverse=True)[1] * 2 + anomalous)
    return Split(join_frames(log_mel_db[order]), anomalous[order], machines[order])


def _train_splits(path: Path, seed: int) -> list[Split]:
    log_mel_db, anomalous, machines = read_clips(path)
    if anomalous.any():
        raise ValueError(f"the training clips must be normal. Received: {anomalous.sum()} anomalies in {path}")
    splits = []
    for clips in validation_indices(machines, seed=seed):
        windows = join_frames(log_mel_db[clips]).reshape(-1, INPUTS)
        windows = windows[mixed_order(np.repeat(clips, WINDOWS), seed)]
        splits.append(Split(windows, windows))
    return splits
