"""Boxes as arrays: overlaps, anchors and their code, suppression of all but the best, and which were found.

Boxes are ``x, y, width, height`` in pixels, x and y of the upper left corner, as in COCO.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

LEVELS = (8, 16, 32)
"""Strides of the feature maps that see anchors, in pixels."""
ASPECTS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
ANCHOR = 3.0  # sides of a square anchor, in strides
UNITS = np.array((0.1, 0.1, 0.2, 0.2), np.float32)
"""What 1 means in the code of a box: a tenth of the anchor for its middle, 0.2 of a natural logarithm for its size."""
LARGEST_LOGARITHM = 2.0  # of a size that is decoded
MATCH_IOU = 0.5
LEAST_SCORE = 0.3
"""Probability from which a box counts: a focal loss that weighs flies a quarter leaves a network less sure of them."""


class Detections(NamedTuple):
    """What was found in a picture, the surest first.

    Args:
        boxes: float32 ``(found, 4)``.
        scores: probabilities, float32 ``(found,)``.
    """

    boxes: np.ndarray
    scores: np.ndarray


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each pair, float64 ``(boxes, others)``; 0 where both are empty."""
    first, second = boxes.astype(np.float64)[:, None], others.astype(np.float64)
    shared = np.minimum(first[..., :2] + first[..., 2:], second[:, :2] + second[:, 2:])
    shared -= np.maximum(first[..., :2], second[:, :2])
    intersection = np.prod(np.maximum(shared, 0.0), axis=-1)
    union = np.prod(first[..., 2:], axis=-1) + np.prod(second[:, 2:], axis=-1) - intersection
    return intersection / np.maximum(union, np.finfo(np.float64).tiny)


@functools.lru_cache
def anchors(height: int, width: int) -> np.ndarray:
    """Return the anchors of a picture in the order of the network's outputs, read-only float32 ``(anchors, 4)``.

    Args:
        height: rows of the picture, a multiple of the largest stride.
        width: columns, likewise.
    """
    if height % LEVELS[-1] or width % LEVELS[-1] or min(height, width) <= 0:
        raise ValueError(f"height and width must be multiples of {LEVELS[-1]}. Received: {height} x {width}")
    parts = []
    for stride in LEVELS:
        y, x, aspect = np.indices((height // stride, width // stride, len(ASPECTS))).reshape(3, -1)
        sides = ANCHOR * stride * np.array(ASPECTS)[aspect]
        middles = stride * (np.stack((x, y), axis=-1) + 0.5)
        parts.append(np.concatenate((middles - sides / 2, sides), axis=-1))
    found = np.concatenate(parts).astype(np.float32)
    found.flags.writeable = False
    return found


def encode(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return boxes as seen from anchors: shifts of the middle, and logarithms of the size, in :data:`UNITS`.

    Args:
        boxes: ``(..., 4)``.
        anchors: one for each box, ``(..., 4)``.
    """
    middle = boxes[..., :2] + boxes[..., 2:] / 2
    shift = (middle - anchors[..., :2] - anchors[..., 2:] / 2) / anchors[..., 2:]
    return np.concatenate((shift, np.log(boxes[..., 2:] / anchors[..., 2:])), axis=-1) / UNITS


def decode(codes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the boxes that codes mean, ``(..., 4)``: the inverse of :func:`encode`, with bounded sizes."""
    shift, logarithm = np.split(codes * UNITS, 2, axis=-1)
    sides = anchors[..., 2:] * np.exp(np.minimum(logarithm, LARGEST_LOGARITHM))
    middle = anchors[..., :2] + anchors[..., 2:] / 2 + shift * anchors[..., 2:]
    return np.concatenate((middle - sides / 2, sides), axis=-1)


def suppress(boxes: np.ndarray, scores: np.ndarray, most_iou: float) -> np.ndarray:
    """Return which boxes stay when each takes away those of lower score that overlap it: indices, the surest first.

    Args:
        boxes: ``(boxes, 4)``.
        scores: ``(boxes,)``; of equal ones the first stays.
        most_iou: intersection over union up to which two boxes may both stay.
    """
    order = np.argsort(-scores, kind="stable")
    covers = overlaps(boxes[order], boxes[order]) > most_iou
    stays = np.ones(len(order), bool)
    for index in range(len(order)):
        if stays[index]:
            stays[index + 1 :] &= ~covers[index, index + 1 :]
    return order[stays]


def detections(
    output: np.ndarray, shape: tuple[int, int], least_score: float = LEAST_SCORE, most_iou: float = 0.3, most: int = 300
) -> Detections:
    """Return what the detector's output for one picture means.

    Args:
        output: logit and code of a box for each anchor, ``(anchors, 5)``.
        shape: height and width of the picture in pixels.
        least_score: probability below which nothing is found.
        most_iou: see :func:`suppress`.
        most: boxes at most.
    """
    scores = 1 / (1 + np.exp(-output[:, 0].astype(np.float64)))
    likely = np.flatnonzero(scores >= least_score)
    likely = likely[np.argsort(-scores[likely], kind="stable")][: 10 * most]
    boxes = decode(output[likely, 1:], anchors(*shape)[likely])
    stays = suppress(boxes, scores[likely], most_iou)[:most]
    return Detections(boxes[stays].astype(np.float32), scores[likely][stays].astype(np.float32))


def matches(found: np.ndarray, there: np.ndarray, least_iou: float = MATCH_IOU) -> np.ndarray:
    """Return which box that is there each found one hits, int64 ``(found,)``; -1: none.

    The surest box, which comes first, takes the one that it overlaps most; each is taken once.
    """
    iou, taken = overlaps(found, there), np.full(len(found), -1)
    for index in range(len(found)):
        best = int(np.argmax(iou[index])) if len(there) else -1
        if best >= 0 and iou[index, best] >= least_iou:
            taken[index] = best
            iou[:, best] = -1.0
    return taken
