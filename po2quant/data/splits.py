"""Data sets and their splits, mixed orders, and validation parts that a seed repeats."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a data set, kept as compactly as it was stored.

    Args:
        x: samples, shape ``(samples, ...)``, numbers; the network sees ``x * scale`` as float32.
        y: targets, shape ``(samples, ...)``, e.g. class indices; of several outputs, a dictionary by their names. None:
            the inputs are the targets.
        groups: one label per sample for scores that are averaged over groups (a machine ID).
        scale: unit of ``x``, e.g. 1 / 255 for pixels in 0..255 of a network that expects 0..1.
        augmented: given sample numbers, int64 ``(batch,)``, and a seed, int32 ``(2,)``, both tensors, returns
            randomly changed inputs of these samples, float32 ``(batch, ...)``, in TensorFlow operations.
        weights: of each sample in the loss; None: all count alike.
    """

    x: np.ndarray
    y: Any
    groups: np.ndarray | None = None
    scale: float = 1.0
    augmented: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        samples = len(self.x)
        groups, weights = (samples if part is None else len(part) for part in (self.groups, self.weights))
        targets = next((len(part) for part in self.targets if len(part) != samples), samples)
        if samples == 0 or not samples == targets == groups == weights:
            raise ValueError(
                "a split needs as many targets and groups as samples, and at least one. "
                f"Received: {samples} samples, {targets} targets, {groups} groups"
            )
        if self.x.dtype.kind == "f" and not np.all(np.isfinite(self.x)):
            bad = int(np.argmin(np.isfinite(self.x).reshape(samples, -1).all(axis=1)))
            raise ValueError(f"the inputs must be finite numbers. Received: NaN or infinity in sample {bad}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def targets(self) -> list[np.ndarray]:
        """The targets of each output; none where the inputs are the targets."""
        if self.y is None:
            return []
        return list(self.y.values()) if isinstance(self.y, dict) else [self.y]

    def inputs(self, samples: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return network inputs, float32 ``(samples, ...)``: of all samples, or of the given ones."""
        x = self.x[samples].astype(np.float32, copy=False)
        return x if self.scale == 1.0 else x * np.float32(self.scale)

    def head(self, samples: int) -> Split:
        """Return the first ``samples`` samples."""
        return self._chosen(slice(samples))

    def taken(self, samples: np.ndarray) -> Split:
        """Return the samples of these numbers, in this order, without augmentation."""
        return self._chosen(samples).without_augmentation()

    def drawn(self, samples: int, seed: int) -> Split:
        """Return ``samples`` samples drawn at random, or all where there are fewer, in the order of the split."""
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:samples])
        return dataclasses.replace(self._chosen(chosen), augmented=self._augmented_of(chosen))

    def _augmented_of(self, chosen: np.ndarray) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
        """Return the random changes of these samples, which then count from 0."""
        if (augmented := self.augmented) is None:
            return None

        def of_chosen(samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            import tensorflow as tf

            return augmented(tf.gather(chosen, samples), seed)

        return of_chosen

    def _chosen(self, samples: np.ndarray | slice) -> Split:
        parts = {name: getattr(self, name) for name in ("x", "y", "groups", "weights")}

        def chosen(part: Any) -> Any:
            return {name: one[samples] for name, one in part.items()} if isinstance(part, dict) else part[samples]

        return dataclasses.replace(self, **{name: chosen(part) for name, part in parts.items() if part is not None})

    def without_augmentation(self) -> Split:
        """Return the same samples, which training then sees unchanged."""
        return dataclasses.replace(self, augmented=None)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Train, validation and test splits and where they come from.

    Args:
        name: what the data are, e.g. ``"Speech Commands V2"``.
        kind: ``"official"``, ``"subset"``, ``"embedded"``, ``"synthetic"`` or ``"own"``; printed beside
            every result.
        test: never used for selection.
        train: absent in test-only archives.
        validation: absent in test-only archives.
    """

    name: str
    kind: str
    test: Split
    train: Split | None = None
    validation: Split | None = None

    def describe(self) -> str:
        """Return the name, the kind and the sample counts in one line."""
        counts = ", ".join(
            f"{len(split)} {part}"
            for part, split in (("train", self.train), ("validation", self.validation), ("test", self.test))
            if split is not None
        )
        return f"{self.name} ({self.kind}: {counts})"

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change when any sample or target changes."""
        digest = hashlib.sha256()
        for part in ("train", "validation", "test"):
            split = getattr(self, part)
            for array in () if split is None else (split.x, *split.targets):
                digest.update(str((part, array.shape, array.dtype)).encode())
                digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()[:16]


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
