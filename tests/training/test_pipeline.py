"""Batches for training: every sample once, in the order and with the changes that seed and epoch give."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.training.pipeline import Pipeline

PIXELS = np.arange(22 * 3, dtype=np.uint8).reshape(22, 3)
CLASSES = np.arange(22, dtype=np.int32)


def noisy(samples, seed):
    return tf.cast(samples, tf.float32)[:, None] + tf.random.stateless_uniform((tf.shape(samples)[0], 3), seed)


def collected(batches):
    x, y = zip(*[(x.numpy(), y.numpy()) for x, y in batches], strict=True)
    return np.concatenate(x), np.concatenate(y)


def test_batches_in_order_are_the_scaled_samples_without_changes():
    split = Split(PIXELS, CLASSES, scale=1 / 255, augmented=noisy)
    x, y = collected(Pipeline(split).in_order(5))
    np.testing.assert_array_equal(x, split.inputs())
    np.testing.assert_array_equal(x, PIXELS * np.float32(1 / 255))
    np.testing.assert_array_equal(y, CLASSES)


def test_an_epoch_brings_each_sample_once_with_its_target():
    x, y = collected(Pipeline(Split(PIXELS, CLASSES)).epoch(5, seed=3, epoch=1))
    assert sorted(y) == list(range(22)) and list(y) != list(range(22))
    np.testing.assert_array_equal(x, PIXELS[y])


def test_order_and_changes_follow_seed_and_epoch():
    split = Split(PIXELS, CLASSES, augmented=noisy)
    first = collected(Pipeline(split).epoch(5, seed=3, epoch=1))
    again = collected(Pipeline(split).epoch(5, seed=3, epoch=1))
    for got, want in zip(again, first, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.floor(first[0][:, 0]), first[1])
    for seed, epoch in ((3, 2), (4, 1)):
        x, y = collected(Pipeline(split).epoch(5, seed, epoch))
        assert list(y) != list(first[1])
        assert not np.intersect1d(x % 1, first[0] % 1).size, "every batch has changes of its own"


def test_changes_differ_between_the_batches_of_an_epoch():
    x, _ = collected(Pipeline(Split(PIXELS, CLASSES, augmented=noisy)).epoch(5, seed=0, epoch=0))
    assert len(np.unique(x % 1)) > 60


def test_without_targets_the_inputs_are_the_targets():
    split = Split(PIXELS.astype(np.float16), None, scale=0.5)
    for batches in (Pipeline(split).in_order(4), Pipeline(split).epoch(4, 0, 0)):
        for x, y in batches:
            np.testing.assert_array_equal(x, y)
            assert x.dtype == tf.float32


def test_search_trains_without_changes():
    split = Split(PIXELS, CLASSES, augmented=noisy).without_augmentation()
    x, y = collected(Pipeline(split).epoch(5, seed=0, epoch=0))
    np.testing.assert_array_equal(x, PIXELS[y])


class Counting(keras.layers.Layer):
    """Counts how often Python, rather than a compiled graph, runs it."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


def test_further_epochs_do_not_compile_again():
    pipeline, counting = Pipeline(Split(PIXELS, CLASSES, augmented=noisy)), Counting()
    model = keras.Sequential([keras.Input((3,)), counting, keras.layers.Dense(22, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pipeline.epoch(5, 0, 0), shuffle=False, verbose=0)
    calls = counting.calls
    model.fit(pipeline.epoch(5, 0, 1), shuffle=False, verbose=0)
    assert counting.calls == calls


def test_a_split_names_what_does_not_fit():
    with pytest.raises(ValueError, match="22 samples, 21 targets"):
        Split(PIXELS, CLASSES[1:])
    x = np.ones((4, 2), np.float16)
    x[2, 1] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity in sample 2"):
        Split(x, None)


def test_random_changes_of_drawn_samples_are_those_of_the_samples_that_were_drawn():
    classes = np.arange(20)
    pixels = classes[:, None].astype(np.float32)
    split = Split(pixels, classes, augmented=lambda samples, seed: tf.gather(pixels, samples))
    drawn = split.drawn(7, seed=0)
    x, y = collected(Pipeline(drawn).epoch(3, seed=0, epoch=0))
    np.testing.assert_array_equal(x[:, 0], y)
    assert sorted(y) == drawn.y.tolist() != list(range(7))
