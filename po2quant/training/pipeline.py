"""Batches of a split for training, as tf.data."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from po2quant.benchmark import Split


class Pipeline:
    """Brings the samples of a split to a network, in parallel with its training.

    Args:
        split: samples; their random changes, if any, are made in training batches alone.
    """

    def __init__(self, split: Split) -> None:
        self._split, augmented = split, split.augmented
        self._plain = tf.function(lambda samples: self._with_targets(self._inputs(samples), samples))
        self._changed = None
        if augmented is not None:
            self._changed = tf.function(lambda samples, seed: self._with_targets(augmented(samples, seed), samples))

    def __len__(self) -> int:
        return len(self._split)

    @functools.cached_property
    def _x(self) -> tf.Tensor:
        return _in_memory(self._split.x)

    @functools.cached_property
    def _y(self) -> Any:
        return None if self._split.y is None else tf.nest.map_structure(_in_memory, self._split.y)

    @functools.cached_property
    def _weights(self) -> tf.Tensor | None:
        return None if self._split.weights is None else _in_memory(self._split.weights)

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """Return batches of inputs, targets and perhaps weights in stored order, unchanged."""
        samples = tf.data.Dataset.range(len(self._split)).batch(batch_size)
        return samples.map(self._plain, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> tf.data.Dataset:
        """Return batches of inputs and targets in the order, and with the changes, that ``(seed, epoch)`` gives."""
        rng = np.random.default_rng((seed, epoch))
        samples = tf.data.Dataset.from_tensor_slices(rng.permutation(len(self._split))).batch(batch_size)
        if self._changed is None:
            batches = samples.map(self._plain, tf.data.AUTOTUNE)
        else:
            seeds = rng.integers(2**31, size=(-(-len(self._split) // batch_size), 2), dtype=np.int32)
            pairs = tf.data.Dataset.zip(samples, tf.data.Dataset.from_tensor_slices(seeds))
            batches = pairs.map(self._changed, tf.data.AUTOTUNE)
        return batches.prefetch(tf.data.AUTOTUNE)

    def _inputs(self, samples: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self._x, samples), tf.float32) * np.float32(self._split.scale)

    def _with_targets(self, inputs: tf.Tensor, samples: tf.Tensor) -> tuple[tf.Tensor, ...]:
        targets = inputs if self._y is None else tf.nest.map_structure(lambda y: tf.gather(y, samples), self._y)
        return (inputs, targets) if self._weights is None else (inputs, targets, tf.gather(self._weights, samples))


def _in_memory(array: np.ndarray) -> tf.Tensor:
    with tf.init_scope(), tf.device("CPU"):
        return tf.constant(array)
