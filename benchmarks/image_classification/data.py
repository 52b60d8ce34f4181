"""Image classification data: CIFAR-10, ten classes of 32 x 32 colour pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from po2quant.benchmark import Dataset, Split
from po2quant.data.archives import Archive, existing_path, find_archive, members, members_by_class, read_labels
from po2quant.data.pictures import decode_images
from po2quant.data.splits import mixed_order, validation_indices

from ..shared.augment import random_affine
from ..shared.download import Source, fetch
from .pickled_batch import read_pickle

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SOURCE = Source(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "cifar-10-python.tar.gz",
    size_bytes=170498071,
    digest="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",  # Keras checks the same
)
OFFICIAL_FORMS = ("cifar-10-batches-py", SOURCE.name, "cifar-10-batches-bin", "cifar-10-binary.tar.gz")
TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar")
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
SUBSETS = ("cifar10_jpeg.zip", "mlperf_tiny_ic01.zip")
IMAGE_SHAPE = (32, 32)
PIXELS = 32 * 32 * 3


def load(data_dir: Path | None, seed: int = 0) -> Dataset:
    """Return pictures, uint8 ``(samples, 32, 32, 3)``, and classes, int32 ``(samples,)``.

    Training pictures are rotated, shifted and mirrored at random, as MLPerf Tiny does. 10 % of the official
    training pictures, or of those of ``cifar10_jpeg.zip``, are for validation. Where there are test pictures alone, in
    ``test_batch`` or ``test/``, there is a test split alone.

    Args:
        data_dir: CIFAR-10's python or binary version, ``cifar10_jpeg.zip`` or ``mlperf_tiny_ic01.zip`` (test
            only): the archive, its extracted folder, or a folder that holds them; the first wins.
        seed: of the validation pictures and of the order of the samples.
    """
    forms = (SOURCE.name, OFFICIAL_FORMS[-1], *SUBSETS)
    path = existing_path(data_dir, "image_classification", f"{' or '.join(forms)} (or its extracted folder)")
    if official := find_official(path):
        return _load_official(official, seed)
    with find_archive(path, "image_classification", forms, ("train", "test", "y_labels.csv")) as archive:
        if "y_labels.csv" in archive.names:
            return _load_raw(archive)
        return _load_jpeg(archive, seed)


def download(folder: Path) -> None:
    """Bring CIFAR-10's python version into a folder, unless an official form is there already."""
    official = find_official(folder)
    if official is None or official.name == SOURCE.name:
        fetch(SOURCE, folder)


def find_official(path: Path) -> Path | None:
    """Return the tar file or extracted folder of CIFAR-10 that a path is or holds, or None."""
    for form in (path, *(path / name for name in OFFICIAL_FORMS)):
        is_tar = form.is_file() and form.name.endswith(TAR_SUFFIXES)
        if is_tar or any((form / f"{batch}{suffix}").is_file() for batch in BATCHES for suffix in ("", ".bin")):
            return form
    return None


def with_augmentation(split: Split) -> Split:
    """Return a split of pictures that training sees rotated up to 15 degrees, shifted up to a tenth and mirrored."""
    with tf.device("CPU"):
        pictures = tf.constant(split.x)

    def augmented(samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return random_affine(tf.gather(pictures, samples), seed, rotation_degrees=15.0, shift=0.1, flip=True)

    return dataclasses.replace(split, augmented=augmented)


def _load_official(path: Path, seed: int) -> Dataset:
    trained, (test_x, test_y) = _read_official(path)
    order = mixed_order(test_y)
    test = Split(test_x[order], test_y[order])
    if trained is None:
        return Dataset("CIFAR-10, test pictures alone", "subset", test)
    x, y = trained
    train, validation = (Split(x[part], y[part]) for part in validation_indices(y, seed=seed))
    return Dataset("CIFAR-10", "official", test, with_augmentation(train), validation)


def _read_official(path: Path) -> tuple[tuple[np.ndarray, np.ndarray] | None, tuple[np.ndarray, np.ndarray]]:
    """Return training pictures and classes, None where only test pictures are there, and the same of the latter."""
    batches: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, content in _batch_files(path):
        if (batch := name.removesuffix(".bin")) in batches:
            raise ValueError(f"CIFAR-10 must have each batch once. Received: {batch} twice in {path}")
        batches[batch] = _read_batch(content, name, path)
    if list(batches) == [BATCHES[-1]]:
        return None, batches[BATCHES[-1]]
    if missing := [batch for batch in BATCHES if batch not in batches]:
        raise ValueError(f"CIFAR-10 must have the batches {', '.join(BATCHES)}. Received: {path} without {missing[0]}")
    *train, test = (batches[batch] for batch in BATCHES)
    return tuple(np.concatenate(parts) for parts in zip(*train, strict=True)), test


def _batch_files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        with Archive(path) as archive:
            yield from ((name, archive.read(name)) for name in archive.names if name.removesuffix(".bin") in BATCHES)
        return
    for inner, chunks in members(path):
        name = PurePosixPath(inner).name
        if name.removesuffix(".bin") in BATCHES:
            yield name, b"".join(chunks)


def _read_batch(content: bytes, name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    label = f"{name} of {path}"
    pixels, y = (_read_binary if name.endswith(".bin") else read_pickle)(content, label)
    if len(y) == 0 or pixels.shape != (len(y), PIXELS) or not 0 <= min(y) <= max(y) < len(CLASSES):
        classes = f"{len(y)} classes from {min(y)} to {max(y)}" if len(y) else "no classes"
        raise ValueError(
            f"{label} must hold pictures of {PIXELS} bytes, each with a class from 0 to {len(CLASSES) - 1}. "
            f"Received: pictures {pixels.shape} and {classes}"
        )
    return np.ascontiguousarray(pixels.reshape(-1, 3, *IMAGE_SHAPE).transpose(0, 2, 3, 1)), y


def _read_binary(content: bytes, label: str) -> tuple[np.ndarray, np.ndarray]:
    if len(content) % (1 + PIXELS):
        raise ValueError(f"{label} must hold pictures of 1 + {PIXELS} bytes. Received: {len(content)} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0].astype(np.int32)


def _load_jpeg(archive: Archive, seed: int) -> Dataset:
    test_names, test_y = members_by_class(archive, CLASSES, (".jpg", ".jpeg"), "test/")
    if not any(name.startswith("train/") for name in archive.names):
        test = _decode(archive, test_names, test_y, mixed_order(test_y))
        return Dataset("CIFAR-10 as JPEG, test pictures alone", "subset", test)
    names, y = members_by_class(archive, CLASSES, (".jpg", ".jpeg"), "train/")
    train, validation = (_decode(archive, names, y, part) for part in validation_indices(y, seed=seed))
    test = _decode(archive, test_names, test_y, mixed_order(test_y))
    return Dataset("CIFAR-10 as JPEG", "subset", test, with_augmentation(train), validation)


def _decode(archive: Archive, names: list[str], y: np.ndarray, order: np.ndarray) -> Split:
    return Split(decode_images(archive, [names[sample] for sample in order], IMAGE_SHAPE), y[order])


def _load_raw(archive: Archive) -> Dataset:
    names, y = read_labels(archive, len(CLASSES))
    x = np.empty((len(names), *IMAGE_SHAPE, 3), np.uint8)
    for index, name in enumerate(names):
        data = archive.read(name)
        if len(data) != PIXELS:
            raise ValueError(f"{name} must have {PIXELS} bytes, 32 x 32 x 3. Received: {len(data)} bytes")
        x[index] = np.frombuffer(data, np.uint8).reshape(x.shape[1:])
    return Dataset("MLPerf Tiny image classification pictures", "subset", Split(x, y))
