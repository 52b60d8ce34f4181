"""Handwritten digits of 28 x 28 pixels: MNIST, or those that come with scikit-learn, enlarged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from po2quant.benchmark import Dataset, Split
from po2quant.data.archives import existing_path
from po2quant.data.arrays import Expected, read_npz
from po2quant.data.splits import mixed_order, validation_indices

from ..shared.augment import random_affine, random_erasing
from ..shared.digits.data import load_split
from ..shared.download import Source, fetch
from .idx import read_idx

CLASSES = 10
IMAGE_SHAPE = (28, 28)
DIGIT_SHAPE = (20, 20)
"""The box in the middle that holds a digit."""
WHITE = 255
OFFICIAL_COUNTS = (60000, 10000)
VALIDATION_SHARE = 0.1
ARCHIVE = "mnist.npz"
PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")

_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
SOURCES = tuple(
    Source(f"{_URL}{part}.gz", f"{part}.gz", size_bytes, f"sha256:{digest}")
    for part, size_bytes, digest in zip(
        PARTS,
        (9912422, 28881, 1648877, 4542),
        (  # TensorFlow Datasets and torchvision's mirrors state the same
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        strict=True,
    )
)


def load(data_dir: Path | None = None, seed: int = 0) -> Dataset:
    """Return digits, uint8 ``(samples, 28, 28, 1)`` in units of 1 / 255, and classes, int32 ``(samples,)``.

    Training digits are rotated, shifted, scaled and partly erased at random. 10 % of those that are for training
    validate.

    Args:
        data_dir: the four IDX files, packed by gzip or not, or ``mnist.npz`` with ``x_train``, ``y_train``, ``x_test``
            and ``y_test`` as Keras has it: that file, or a folder that holds either; the IDX files win. None:
            scikit-learn's 1797 digits of 8 x 8 pixels, enlarged.
        seed: of the validation digits and of the order of the samples.
    """
    if data_dir is None:
        return _load_embedded(seed)
    path = existing_path(data_dir, "mnist", f"{ARCHIVE}, or {', '.join(PARTS)}")
    files = [_idx_file(path, part) for part in PARTS]
    if all(files):
        x, y, test_x, test_y = map(read_idx, files)
    else:
        archive = path / ARCHIVE if path.is_dir() else path
        if not archive.is_file() or any(files):
            missing = [part for part, file in zip(PARTS, files, strict=True) if not file]
            raise ValueError(
                f"data_dir of mnist must have {ARCHIVE}, or {', '.join(PARTS)}. Received: {path} without {missing[0]}"
            )
        x, y, test_x, test_y = read_npz(archive, _expected()).values()
    train_x, train_y = _checked(x, y, "training", path)
    test_x, test_y = _checked(test_x, test_y, "test", path)
    order = mixed_order(test_y)
    kind = "official" if (len(train_x), len(test_x)) == OFFICIAL_COUNTS else "subset"
    train, validation = (
        _split(train_x[part], train_y[part]) for part in validation_indices(train_y, None, VALIDATION_SHARE, seed)
    )
    return Dataset("MNIST", kind, _split(test_x[order], test_y[order]), with_augmentation(train), validation)


def download(folder: Path) -> None:
    """Bring the four IDX files, 11 MB, into a folder, unless they are there already."""
    for source in SOURCES:
        if not (folder / source.name.removesuffix(".gz")).exists():
            fetch(source, folder)


def with_augmentation(split: Split) -> Split:
    """Return a split of digits that training sees changed at random.

    They are rotated up to 8 degrees, shifted up to a twentieth and scaled up to a tenth; a tenth of them has a black
    rectangle of 4 to 8 pixels.
    """
    with tf.device("CPU"):
        digits = tf.constant(split.x)

    def augmented(samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        changed = random_affine(
            tf.gather(digits, samples), seed, rotation_degrees=8.0, shift=0.05, zoom=0.1, flip=False
        )
        return random_erasing(changed * np.float32(split.scale), seed + 1, probability=0.1, smallest=4, largest=8)

    return dataclasses.replace(split, augmented=augmented)


def enlarged(pictures: np.ndarray) -> np.ndarray:
    """Return pictures, float ``(samples, h, w, 1)`` in 0..1, as MNIST has them: 20 x 20 pixels with a margin, uint8."""
    with tf.device("CPU"):
        larger = tf.image.resize(pictures, DIGIT_SHAPE).numpy()
    margins = [(size - inner) // 2 for size, inner in zip(IMAGE_SHAPE, DIGIT_SHAPE, strict=True)]
    padded = np.pad(larger, [(0, 0), *((margin, margin) for margin in margins), (0, 0)])
    return np.round(WHITE * padded).astype(np.uint8)


def _load_embedded(seed: int) -> Dataset:
    digits = load_split(360, VALIDATION_SHARE, seed)
    train, validation, test = (
        _split(enlarged(part.x), part.y) for part in (digits.train, digits.validation, digits.test)
    )
    return Dataset("scikit-learn digits, enlarged to 28 x 28", "embedded", test, with_augmentation(train), validation)


def _idx_file(path: Path, part: str) -> Path | None:
    """Return the file of a part of MNIST in a folder, packed or not, or None."""
    return next((file for file in (path / part, path / f"{part}.gz") if file.is_file()), None)


def _expected() -> dict[str, Expected]:
    return {name: Expected("u", (None, *IMAGE_SHAPE) if name[0] == "x" else (None,)) for name in ARRAYS}


def _checked(x: np.ndarray, y: np.ndarray, part: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures ``(samples, 28, 28, 1)`` and classes, int32, or raise ValueError where they are not MNIST's."""
    classes = np.unique(y)
    if (
        x.shape != (len(y), *IMAGE_SHAPE)
        or x.dtype != np.uint8
        or y.ndim != 1
        or not np.array_equal(classes, range(CLASSES))
    ):
        raise ValueError(
            f"the {part} digits must be pictures of 28 x 28 bytes, each with a class, all of 0 to {CLASSES - 1}. "
            f"Received: pictures {x.shape} of {x.dtype}, {y.shape} classes {classes[:CLASSES].tolist()} in {path}"
        )
    return x[..., np.newaxis], y.astype(np.int32)


def _split(x: np.ndarray, y: np.ndarray) -> Split:
    return Split(x, y, scale=1.0 / WHITE)
