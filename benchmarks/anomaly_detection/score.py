"""Scores of an anomaly detector: AUC and partial AUC of each clip's mean squared reconstruction error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from po2quant.benchmark import Score, Split

MAX_FALSE_POSITIVE_RATE = 0.1
CLIPS_PER_CALL = 256  # their float32 windows are 128 MB, and whole batches of a network


def auc_score(predict: Callable[[np.ndarray], np.ndarray], split: Split) -> Score:
    """Return the mean AUC over machine IDs.

    Details are the pooled AUC, the mean and the pooled pAUC (false-positive rate up to 0.1, standardised as
    by McClish: chance is 0.5), and both for each machine ID, e.g. ``auc_id_01`` and ``pauc_id_01``.

    Args:
        predict: reconstructs windows, ``(clips, windows, 640)`` to as many rows of 640.
        split: ``x`` of shape ``(clips, windows, 640)``, ``y`` 1 for anomalous clips, ``groups`` machine IDs.

    Raises:
        ValueError: where the clips of a machine are all normal or all anomalous.
    """
    machine_ids = split.groups if split.groups is not None else np.full(len(split), "all")
    check_both_kinds(split.y, machine_ids)
    error = reconstruction_errors(predict, split)
    each = {}
    for machine_id in np.unique(machine_ids):
        chosen = machine_ids == machine_id
        each[machine_id] = _auc_and_partial_auc(split.y[chosen], error[chosen])
    auc, partial_auc = np.mean([*each.values()], axis=0)
    auc_pooled, partial_auc_pooled = _auc_and_partial_auc(split.y, error)
    details = {"auc_pooled": auc_pooled, "pauc": float(partial_auc), "pauc_pooled": partial_auc_pooled}
    for machine_id, (machine_auc, machine_partial_auc) in each.items():
        details |= {f"auc_{machine_id}": machine_auc, f"pauc_{machine_id}": machine_partial_auc}
    return Score("auc", float(auc), len(split), details)


def reconstruction_errors(predict: Callable[[np.ndarray], np.ndarray], split: Split) -> np.ndarray:
    """Return the mean squared error of each clip over its windows and inputs, float64 ``(clips,)``."""
    errors = []
    for start in range(0, len(split), CLIPS_PER_CALL):
        x = split.inputs(slice(start, start + CLIPS_PER_CALL))
        difference = x - predict(x).reshape(x.shape)
        errors.append(np.mean(np.square(difference, dtype=np.float64), axis=(1, 2)))
    return np.concatenate(errors)


def check_both_kinds(anomalous: np.ndarray, machine_ids: np.ndarray) -> None:
    """Raise ValueError where the test clips of a machine are all normal or all anomalous."""
    for machine_id in np.unique(machine_ids):
        normal, anomalies = np.bincount(anomalous[machine_ids == machine_id], minlength=2)
        if normal == 0 or anomalies == 0:
            raise ValueError(
                f"the test clips of machine {machine_id} must be normal and anomalous ones. "
                f"Received: {normal} normal and {anomalies} anomalous"
            )


def _auc_and_partial_auc(anomalous: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    partial_auc = roc_auc_score(anomalous, error, max_fpr=MAX_FALSE_POSITIVE_RATE)
    return float(roc_auc_score(anomalous, error)), float(partial_auc)
