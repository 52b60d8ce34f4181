"""Data of a network that has no benchmark: arrays in a ``.npz`` file, or a folder of class folders."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from po2quant import archives
from po2quant.data.archives import Archive
from po2quant.data.audio import read_sound, resampled_mono
from po2quant.data.budgets import check_at_most
from po2quant.data.splits import Dataset, Split, mixed_order, validation_indices
from po2quant.files import one_line
from po2quant.progress import progress_line

OWN = "own"
TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")
NPZ_SUFFIX = ".npz"
FORMS = (
    "a .npz file with x_train, y_train, x_validation, y_validation, x_test, y_test, of which there may be the last two "
    "alone, or a folder or zip file of class folders of pictures or sounds, which may lie in train/, validation/, test/"
)
SMALL_BYTES, EXPANSION, LARGEST_BYTES = 2**28, 32, 2**32
"""What arrays take in memory: 32 times the size of their file, at least 256 MiB, at most 4 GiB."""
PICTURES, SOUNDS = (".jpg", ".jpeg", ".png"), (".wav", ".flac", ".ogg", ".mp3")
SAMPLE_RATE_HZ = 16_000
"""Of sounds that a network gets as samples."""

Shape = tuple[int, ...]
Decode = Callable[[bytes, str], np.ndarray]


def read_dataset(path: Path, shape: Shape, seed: int = 0, scale: float = 1.0) -> Dataset:
    """Return the data in a file or folder, for a network whose input has a shape.

    Validation samples are a tenth of the training samples where there are none, drawn by the seed with the classes in
    proportion. Where there are no test samples, the validation samples stand for them, and the name says so.

    Args:
        path: see :data:`FORMS`. Pictures become ``(rows, columns, 1 or 3)`` of 0 to 255, resized where they have
            another size; sounds ``(samples,)`` or ``(samples, 1)`` of -1 to 1 at 16 kHz, cut or filled up with zeros.
        shape: of an input, without the batch.
        seed: of the validation samples and of the order of training samples.
        scale: what the inputs are multiplied by.

    Raises:
        ValueError: in one sentence, for data that are damaged, too large, or of another shape.
    """
    if not path.exists():
        raise ValueError(f"data must be {FORMS}. There is none: {one_line(path)}")
    parts = _arrays(path, shape) if path.suffix.lower() == NPZ_SUFFIX else _class_folders(path, shape)
    splits = {part: Split(x, y, scale=scale) for part, (x, y) in parts.items()}
    if TRAIN in splits and VALIDATION not in splits:
        splits[TRAIN], splits[VALIDATION] = _divided(splits[TRAIN], seed)
    name = path.name
    if TEST not in splits:
        if VALIDATION not in splits:
            raise ValueError(f"data must be {FORMS}. Received: {path}, with {' and '.join(splits) or 'none of them'}")
        splits[TEST] = splits[VALIDATION]
        name = f"{name}, without test samples: the validation samples stand for them"
    return Dataset(name, OWN, splits[TEST], splits.get(TRAIN), splits.get(VALIDATION))


def holds_arrays(path: Path) -> bool:
    """Return whether a file is a ``.npz`` of which :func:`read_dataset` knows an array."""
    if path.suffix.lower() != NPZ_SUFFIX or not zipfile.is_zipfile(path):
        return False
    archives.check_member_count(path, archives.LARGEST_MEMBERS)
    with zipfile.ZipFile(path) as archive:
        return any(f"x_{part}.npy" in archive.NameToInfo for part in PARTS)


def _divided(split: Split, seed: int) -> tuple[Split, Split]:
    labels = np.zeros(len(split), np.int32)
    if split.y is not None and split.y.dtype.kind == "i" and split.y.ndim == 1:
        labels = split.y
    if len(split) < 2:
        raise ValueError("there must be two training samples or more, of which some validate. Received: 1")
    train, validation = (
        Split(split.x[chosen], None if split.y is None else split.y[chosen], scale=split.scale)
        for chosen in validation_indices(labels, seed=seed)
    )
    return train, validation


def _arrays(path: Path, shape: Shape) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Return inputs and targets, None where there are none, of each part that a ``.npz`` file holds."""
    known = {f"{letter}_{part}" for letter in "xy" for part in PARTS}

    def check(name: str, declared: Shape, dtype: np.dtype) -> None:
        if name not in known:
            raise ValueError(f"its arrays must be named {', '.join(sorted(known))}. Received: {one_line(name)}")
        if dtype.kind not in "biuf":
            raise ValueError(f"array {name!r} in it must hold numbers. Received: dtype={dtype}")
        if name.startswith("x") and shape not in (declared[1:], (*declared[1:], 1)):
            raise ValueError(
                f"array {name!r} in it must have the shape (samples, {', '.join(map(str, shape))}), as the network's "
                f"input. Received: {declared}"
            )

    budget = min(max(EXPANSION * os.path.getsize(path), SMALL_BYTES), LARGEST_BYTES)
    arrays = archives.read_npz(path, check, budget)
    parts = [part for part in PARTS if f"x_{part}" in arrays]
    if alone := sorted(name for name in arrays if name[0] == "y" and name[2:] not in parts):
        raise ValueError(f"{path} must have inputs x_{alone[0][2:]} beside {alone[0]}. Received: {', '.join(arrays)}")
    if len({f"y_{part}" in arrays for part in parts}) > 1:
        raise ValueError(f"{path} must have targets for all parts or for none. Received: {', '.join(arrays)}")
    return {part: (_inputs(arrays.pop(f"x_{part}"), shape), _targets(arrays.pop(f"y_{part}", None))) for part in parts}


def _inputs(x: np.ndarray, shape: Shape) -> np.ndarray:
    """Return inputs with the axis of one channel that they may lack; numbers of more than 32 bits take 32."""
    x = x.reshape(len(x), *shape)
    return x.astype(np.float32) if x.dtype.itemsize > 4 or x.dtype.kind == "b" else x


def _targets(y: np.ndarray | None) -> np.ndarray | None:
    """Return targets as int32 or float32; classes one a sample, without an axis of their own."""
    if y is None:
        return None
    if y.dtype.kind == "f":
        return y.astype(np.float32)
    return (y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y).astype(np.int32)


def _class_folders(path: Path, shape: Shape) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Return inputs and classes of each part of a folder or zip file of class folders."""
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise ValueError(f"data must be {FORMS}. Received: {path}")
    with Archive(path) as archive:
        names = [name for name in archive.names if name.lower().endswith((*PICTURES, *SOUNDS))]
        by_part = _parts_of(names)
        classes = sorted({name.split("/")[-2] for members in by_part.values() for name in members})
        if len(classes) < 2:
            raise ValueError(f"{path} must hold two class folders or more. Received: {one_line(classes)}")
        decode = _decoder(names, shape, path)
        number = {name: index for index, name in enumerate(classes)}
        return {part: _decoded(archive, members, number, decode, shape) for part, members in by_part.items()}


def _parts_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of ``<part>/<class>/``, or those of ``<class>/``, which are for training."""
    tops = {name.split("/")[0] for name in names}
    has_parts = bool(tops) and tops <= set(PARTS)
    depth = 3 if has_parts else 2
    if stray := [name for name in names if name.count("/") != depth - 1]:
        raise ValueError(f"files must lie in class folders, or in those of {', '.join(PARTS)}. Received: {stray[0]}")
    if not has_parts:
        return {TRAIN: list(names)}
    return {part: [name for name in names if name.split("/")[0] == part] for part in PARTS if part in tops}


def _decoder(names: Sequence[str], shape: Shape, path: Path) -> Decode:
    """Return what makes an input of a file of a kind that a network's input can be."""
    sounds = [name for name in names if name.lower().endswith(SOUNDS)]
    if sounds and len(sounds) < len(names):
        raise ValueError(f"{path} must hold pictures or sounds. Received: both")
    if sounds:
        if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
            raise ValueError(
                "a network of sounds must take their samples, (samples,) or (samples, 1); compute other features "
                f"beforehand, into a .npz file. Received: {shape}"
            )
        return lambda data, name: _sound(data, name, shape)
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise ValueError(f"a network of pictures must take (rows, columns, 1 or 3). Received: {shape}")
    from po2quant.data.pictures import resized_picture

    return lambda data, name: resized_picture(data, name, shape)


def _sound(data: bytes, name: str, shape: Shape) -> np.ndarray:
    sound = resampled_mono(*read_sound(data, name), SAMPLE_RATE_HZ)[: shape[0]]
    return np.pad(sound, (0, shape[0] - len(sound))).reshape(shape)


def _decoded(
    archive: Archive, names: Sequence[str], number: Mapping[str, int], decode: Decode, shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs of files and their classes, mixed so that every stretch has the classes in proportion."""
    y = np.array([number[name.split("/")[-2]] for name in names], np.int32)
    order = mixed_order(y)
    is_sound = names[0].lower().endswith(SOUNDS)
    dtype = np.dtype(np.float32 if is_sound else np.uint8)
    check_at_most(
        str(archive.path), "bytes of inputs", len(names) * int(np.prod(shape)) * dtype.itemsize, LARGEST_BYTES
    )
    x = np.empty((len(names), *shape), dtype)

    def fill(place: int) -> None:
        name = names[order[place]]
        x[place] = decode(archive.read(name), name)

    with ThreadPoolExecutor() as pool, progress_line(f"Reading {archive.path.name}", len(names)) as line:
        for _ in pool.map(fill, range(len(names))):
            line.advance(1)
    return x, y[order]
