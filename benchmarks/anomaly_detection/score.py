"""Scores of an anomaly detector: AUC and partial AUC of each clip's mean squared reconstruction error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from po2quant.benchmark import Score, Split

MAX_FALSE_POSITIVE_RATE = 0.1


def auc_score(predict: Callable[[np.ndarray], np.ndarray], split: Split) -> Score:
    """Return the mean AUC over machine IDs; pooled AUC and pAUC (false-positive rate up to 0.1) as details.

    Args:
        predict: reconstructs windows, ``(n, 640)`` to ``(n, 640)``.
        split: ``x`` of shape ``(clips, windows, 640)``, ``y`` 1 for anomalous clips, ``groups`` machine IDs.
    """
    clips, windows = split.x.shape[:2]
    reconstructed = predict(split.x).reshape(split.x.shape)
    error = np.mean(np.square(split.x - reconstructed, dtype=np.float64).reshape(clips, windows, -1), axis=(1, 2))
    machines = split.groups if split.groups is not None else np.zeros(clips, int)
    auc, partial = [], []
    for machine in np.unique(machines):
        chosen = machines == machine
        auc.append(roc_auc_score(split.y[chosen], error[chosen]))
        partial.append(roc_auc_score(split.y[chosen], error[chosen], max_fpr=MAX_FALSE_POSITIVE_RATE))
    return Score(
        "auc",
        float(np.mean(auc)),
        clips,
        {
            "auc_pooled": float(roc_auc_score(split.y, error)),
            "pauc": float(np.mean(partial)),
            "pauc_pooled": float(roc_auc_score(split.y, error, max_fpr=MAX_FALSE_POSITIVE_RATE)),
        },
    )
