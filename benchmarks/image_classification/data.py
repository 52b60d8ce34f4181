"""Image classification data: CIFAR-10, ten classes of 32 x 32 colour pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.base import (
    Archive,
    decode_images,
    find_archive,
    members_by_class,
    mixed_order,
    read_labels,
    validation_indices,
)
from po2quant.benchmark import Dataset, Split

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVES = ("cifar10_jpeg.zip", "mlperf_tiny_ic01.zip")
IMAGE_SHAPE = (32, 32)


def load(data_dir: Path | None, seed: int = 0) -> Dataset:
    """Return pictures, float32 ``(samples, 32, 32, 3)`` in 0..255, and classes, int32 ``(samples,)``.

    Args:
        data_dir: ``cifar10_jpeg.zip`` (10 % of its training pictures are for validation) or
            ``mlperf_tiny_ic01.zip`` (test only), its extracted folder, or a folder that holds them; the
            first wins where both are.
        seed: of the validation pictures and of the order of the samples.
    """
    with find_archive(data_dir, "image_classification", ARCHIVES, ("train", "test", "y_labels.csv")) as archive:
        if "y_labels.csv" in archive.names:
            return _load_raw(archive)
        return _load_jpeg(archive, seed)


def _load_jpeg(archive: Archive, seed: int) -> Dataset:
    names, y = members_by_class(archive, CLASSES, (".jpg", ".jpeg"), "train/")
    test_names, test_y = members_by_class(archive, CLASSES, (".jpg", ".jpeg"), "test/")
    train, validation = (_decode(archive, names, y, part) for part in validation_indices(y, seed=seed))
    test = _decode(archive, test_names, test_y, mixed_order(test_y))
    return Dataset("CIFAR-10 as JPEG", "subset", test, train, validation)


def _decode(archive: Archive, names: list[str], y: np.ndarray, members: np.ndarray) -> Split:
    return Split(decode_images(archive, [names[member] for member in members], IMAGE_SHAPE), y[members])


def _load_raw(archive: Archive) -> Dataset:
    names, y = read_labels(archive, len(CLASSES))
    x = np.empty((len(names), *IMAGE_SHAPE, 3), np.float32)
    for index, name in enumerate(names):
        data = archive.read(name)
        if len(data) != x[0].size:
            raise ValueError(f"{name} must have {x[0].size} bytes, 32 x 32 x 3. Received: {len(data)} bytes")
        x[index] = np.frombuffer(data, np.uint8).reshape(x.shape[1:])
    return Dataset("MLPerf Tiny image classification pictures", "subset", Split(x, y))
