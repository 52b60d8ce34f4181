"""Finding flies as a benchmark: data, loss, score and recipe of the detector.

``po2quant finetune --benchmark benchmarks.fly_traits.detection:BENCHMARK --data synthetic --config flat8`` trains it on
generated pictures and quantizes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Recipe, Score, Split, deferred, inverse_loss
from po2quant.placement import Placement
from po2quant.progress import progress_line
from po2quant.training.schedules import constant, cosine, exponential_decay

from .boxes import LEAST_SCORE, UNITS, anchors, detections, matches
from .cutting import fitted
from .folder import read_parts
from .generator import Picture, draw_picture

INPUT_SIZE = 256
PICTURES_OF_A_SEED = 10_000
SYNTHETIC = {"test": range(64), "validation": range(64, 96), "train": range(96, 576)}
"""Numbers of the generated pictures of each part."""
MOST_BOXES = 100  # of a picture
FOCUS, BALANCE = 1.5, 0.25  # gamma and alpha of the focal loss
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4
FORCED = 2.0  # what is added to the overlap of a box and its best anchor


def detection_loss(y: Any, output: Any, size: int = INPUT_SIZE) -> Any:
    """Return focal loss and Huber loss of the boxes of each picture, divided by its positive anchors.

    An anchor is positive where it overlaps a box by at least 0.5, or no other anchor overlaps it more;
    negative below 0.4; and ignored in between. With the probability p of what is so, a class costs
    ``-alpha (1 - p)**gamma log(p)``.

    Args:
        y: boxes of each picture in pixels, filled up with zeros, ``(batch, MOST_BOXES, 4)``.
        output: logit and code of a box for each anchor, ``(batch, anchors, 5)``.
        size: rows and columns of the pictures.

    Returns:
        ``(batch,)``.
    """
    from keras import ops

    anchor = ops.convert_to_tensor(anchors(size, size))[None, :, None]
    box, logit = ops.cast(y, "float32")[:, None], output[..., 0]
    shared = ops.minimum(anchor[..., :2] + anchor[..., 2:], box[..., :2] + box[..., 2:])
    shared = ops.relu(shared - ops.maximum(anchor[..., :2], box[..., :2]))
    intersection = shared[..., 0] * shared[..., 1]
    areas = anchor[..., 2] * anchor[..., 3] + box[..., 2] * box[..., 3]
    overlap = intersection / (areas - intersection)
    is_best = ops.logical_and(overlap >= ops.max(overlap, axis=1, keepdims=True), overlap > 0)
    overlap = overlap + FORCED * ops.cast(is_best, "float32")
    own = ops.take_along_axis(ops.squeeze(box, 1), ops.argmax(overlap, axis=2)[..., None], axis=1)
    overlap = ops.max(overlap, axis=2)
    positive, counted = (
        ops.cast(mask, "float32")
        for mask in (overlap >= POSITIVE_IOU, ops.logical_or(overlap >= POSITIVE_IOU, overlap < NEGATIVE_IOU))
    )
    right = logit * (2 * positive - 1)
    weight = BALANCE * positive + (1 - BALANCE) * (1 - positive)
    focal = counted * weight * ops.sigmoid(-right) ** FOCUS * ops.softplus(-right)
    huber = _huber(output[..., 1:] - _codes(own, anchor[:, :, 0]))
    total = ops.sum(focal + positive * ops.sum(huber, axis=-1), axis=1)
    return total / ops.maximum(ops.sum(positive, axis=1), 1.0)


def _codes(box: Any, anchor: Any) -> Any:
    """Return what :func:`~benchmarks.fly_traits.boxes.encode` does, of tensors; boxes of no size get any number."""
    from keras import ops

    shift = (box[..., :2] + box[..., 2:] / 2 - anchor[..., :2] - anchor[..., 2:] / 2) / anchor[..., 2:]
    return ops.concatenate((shift, ops.log(ops.maximum(box[..., 2:], 1.0) / anchor[..., 2:])), axis=-1) / UNITS


def _huber(error: Any) -> Any:
    from keras import ops

    size = ops.abs(error)
    return ops.where(size < 1.0, 0.5 * size * size, size - 0.5)


def detection_score(
    predict: Callable[[np.ndarray], np.ndarray], split: Split, least_score: float = LEAST_SCORE
) -> Score:
    """Return F1, with recall and precision, of all boxes of a split at an intersection over union of 0.5."""
    outputs, hits, found, there = predict(split.inputs()), 0, 0, 0
    for output, padded in zip(outputs, split.y, strict=True):
        boxes, shown = detections(output, split.x.shape[1:3], least_score).boxes, padded[padded[:, 2] > 0]
        hits += int(np.count_nonzero(matches(boxes, shown) >= 0))
        found, there = found + len(boxes), there + len(shown)
    details = {"recall": hits / max(there, 1), "precision": hits / max(found, 1), "boxes": float(there)}
    return Score("f1", 2 * hits / max(found + there, 1), len(split), details)


def padded_boxes(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the boxes of pictures as one array, filled up with zeros, float32 ``(pictures, MOST_BOXES, 4)``.

    Raises:
        ValueError: for a picture of more than ``MOST_BOXES``.
    """
    most = max(map(len, boxes))
    if most > MOST_BOXES:
        raise ValueError(f"a picture must have at most {MOST_BOXES} boxes. Received: {most}")
    return np.stack([np.pad(part, ((0, MOST_BOXES - len(part)), (0, 0))) for part in boxes]).astype(np.float32)


def split_of(pictures: Sequence[Picture]) -> Split:
    """Return pictures of the network's size as samples."""
    return Split(
        np.stack([picture.pixels for picture in pictures]),
        padded_boxes([picture.boxes for picture in pictures]),
        scale=1 / 255,
    )


def synthetic_split(seed: int, part: str) -> Split:
    """Return generated pictures.

    Args:
        seed: of the data set.
        part: ``"test"``, ``"validation"`` or ``"train"``, of which no two share a picture.
    """
    with progress_line(f"Drawing pictures, {part}", len(SYNTHETIC[part])) as line:
        pictures = []
        for index in SYNTHETIC[part]:
            pictures.append(draw_picture(PICTURES_OF_A_SEED * seed + index, INPUT_SIZE))
            line.advance(1)
    return split_of(pictures)


def synthesize(seed: int) -> Dataset:
    """Return generated pictures in a minute: 480 train, 32 validate, 64 test."""
    train, validation, test = (synthetic_split(seed, part) for part in ("train", "validation", "test"))
    return Dataset("synthetic flies", "synthetic", test, train, validation)


def load(data_dir: Path | None, seed: int) -> Dataset:
    """Return a user's labelled pictures, a fifth of them for the test and a tenth of the others for validation.

    Args:
        data_dir: see :mod:`~benchmarks.fly_traits.folder`.
        seed: of the parts.

    Raises:
        ValueError: without a folder, for one that is wrong, and for less than five pictures.
    """
    if data_dir is None:
        raise ValueError("data must be a folder of labelled pictures, or synthetic. Received: none")
    train, validation, test = (
        split_of([fitted_picture(picture) for picture in part]) for part in read_parts(data_dir, seed)
    )
    return Dataset(f"pictures of {data_dir.name}", "own", test, train, validation)


def fitted_picture(picture: Picture) -> Picture:
    """Return a picture at the network's size."""
    pixels, factor = fitted(picture.pixels, INPUT_SIZE)
    return Picture(pixels, picture.boxes * factor, picture.traits, picture.key_points * factor)


RECIPE = Recipe(
    loss=detection_loss,
    epochs=1,
    float_epochs=13,
    batch_size=8,
    learning_rate=constant(0.0003),
    annealing=cosine(),
    float_learning_rate=exponential_decay(0.003, 0.8),
)
BENCHMARK = Benchmark(
    "fly_detection",
    {
        "efficientdet": NetworkSpec(
            deferred(f"{__name__.rpartition('.')[0]}.detector:efficientdet"), Placement(signed_input=False)
        )
    },
    load,
    RECIPE,
    detection_score,
    inverse_loss,
    synthesize=synthesize,
    needs_data_dir=True,
)
