"""What the classifier is trained for and scored by.

Its targets are one vector, the three traits and the code of the key points (:data:`.key_points.CODE`), NaN where
something was not annotated. So are its outputs, all of a sigmoid; the plain network has the traits alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from po2quant.benchmark import Score, Split

from .anatomy import TRAITS
from .key_points import CODE, decode, distances, encode

TRAIT_COUNT, E = len(TRAITS), len(TRAITS) + CODE.index("e")
BINARY_WEIGHT = 0.02
"""Of a cross-entropy beside the squared error of coordinates, which is some fifty times smaller."""
POINT_WEIGHT = 5.0
"""Of the key points where everything is trained: squared errors are far smaller than cross-entropies then."""


def targets(traits: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return traits ``(flies, 3)`` and key points ``(flies, 4, 2)`` as targets, float32 ``(flies, 12)``."""
    return np.concatenate([traits, encode(points)], axis=-1).astype(np.float32)


def loss(y_true: Any, y_pred: Any, trait_weight: float = 1.0, point_weight: float = POINT_WEIGHT) -> Any:
    """Return the loss of each fly, ``(batch,)``: over known targets t and outputs y,

    ``trait_weight * H(traits) + point_weight * (mean (t - y)^2 + BINARY_WEIGHT * H(e))``

    with the mean cross-entropy H of the traits, the squared error of the eight coordinates, and the cross-entropy of e.
    """
    from keras import ops

    count = y_pred.shape[-1]
    known = ops.cast(ops.logical_not(ops.isnan(y_true[:, :count])), y_pred.dtype)
    wanted = ops.where(known > 0, y_true[:, :count], 0.5)
    given = ops.clip(y_pred, 1e-6, 1 - 1e-6)
    entropy = -known * (wanted * ops.log(given) + (1 - wanted) * ops.log(1 - given))
    value = trait_weight * ops.mean(entropy[:, :TRAIT_COUNT], axis=-1)
    if count > TRAIT_COUNT:
        squared = ops.mean((known * ops.square(wanted - y_pred))[:, TRAIT_COUNT:E], axis=-1)
        value += point_weight * (squared + BINARY_WEIGHT * entropy[:, E])
    return value


def trait_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Return the share of each fly's known traits that are right, ``(batch,)``."""
    from keras import ops

    wanted, given = y_true[:, :TRAIT_COUNT], y_pred[:, :TRAIT_COUNT]
    known = ops.cast(ops.logical_not(ops.isnan(wanted)), y_pred.dtype)
    right = known * ops.cast((wanted > 0.5) == (given > 0.5), y_pred.dtype)
    return ops.sum(right, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)


def traits_score(predict: Callable[[np.ndarray], np.ndarray], split: Split) -> Score:
    """Return the mean accuracy of the traits; details have that of each, and the key points' mean distance.

    Distances are in sides of the picture, of flies whose key points are known.
    """
    outputs, wanted = predict(split.inputs()), split.y
    known = ~np.isnan(wanted[:, :TRAIT_COUNT])
    right = (outputs[:, :TRAIT_COUNT] > 0.5) == (wanted[:, :TRAIT_COUNT] > 0.5)
    details = {
        name: float(np.mean(column[there]))
        for name, column, there in zip(TRAITS, right.T, known.T, strict=True)
        if there.any()
    }
    has_points = np.all(np.isfinite(wanted[:, TRAIT_COUNT:]), axis=1)
    if outputs.shape[1] > TRAIT_COUNT and np.any(has_points):
        errors = distances(*(decode(values[has_points, TRAIT_COUNT:]) for values in (outputs, wanted)))
        ends, tips = errors[:, :2].mean(), errors[:, 2:].mean()
        details |= {"head and tail distance": float(ends), "wing tip distance": float(tips)}
    return Score("accuracy", float(np.mean(right[known])), len(split), details)


def selection(logs: Mapping[str, float]) -> float:
    """Return the validation accuracy of the traits."""
    return logs["trait_accuracy"]
