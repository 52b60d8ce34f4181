"""Splits of data sets: mixed orders and validation parts that a seed repeats."""

from __future__ import annotations

import numpy as np

from po2quant.benchmark import Split


def mixed_order(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a random order of samples in which every stretch has the classes in proportion.

    Sample r of the n of its class, in random order, goes to place (r + u) / n with u random in [0, 1):
    the first samples of a split are a fair small split.
    """
    rng, place = np.random.default_rng(seed), np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.argsort(place, kind="stable")


def validation_indices(
    labels: np.ndarray, groups: np.ndarray | None = None, fraction: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return train and validation indices, each in mixed order; the same seed gives the same ones.

    Both parts get the classes, ``labels`` of ``(samples,)``, in the same proportions. Samples of one group
    (crops of one photo) stay on one side; validation gets at most ``fraction`` of the samples.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = mixed_order(labels[first], seed)
    samples_up_to = np.cumsum(np.bincount(group)[order])
    count = np.searchsorted(samples_up_to, round(fraction * len(labels)), side="right")
    held_out = np.isin(group, order[: max(count, 1)])
    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return train[mixed_order(labels[train], seed)], validation[mixed_order(labels[validation], seed)]


def split_validation(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None, fraction: float = 0.1, seed: int = 0
) -> tuple[Split, Split]:
    """Return the train and validation splits of ``validation_indices(y, groups, fraction, seed)``."""
    train, validation = validation_indices(y, groups, fraction, seed)
    return Split(x[train], y[train]), Split(x[validation], y[validation])
