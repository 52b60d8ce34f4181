"""Biases that are trained at the mean of their layers' inputs: another gradient, the same network."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from po2quant.network import calibrate, fold
from po2quant.training.centring import centred, plain_biases

MEAN = 50.0


def network(*layers: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((5, 4, 2), name="x"), *layers])


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(MEAN, 1.0, (64, 5, 4, 2)).astype("float32")


@pytest.fixture(scope="module")
def quantized(x):
    """Every kind of layer whose bias takes up a mean, at 16 bits: another rounding of a sum is one small step."""
    model = network(
        keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="conv"),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(4, name="dense"),
    )
    found = fold(model)
    quantized = found.quantize(found.flat(16))
    calibrate(quantized, x)
    return quantized


def test_a_network_computes_the_same_within_the_block_and_after_it(quantized, x):
    before, biases = quantized(x).numpy(), [layer.bias.numpy() for layer in biased(quantized)]
    with centred(quantized, x):
        assert all(np.abs(layer.bias - bias).max() > 0.1 for layer, bias in zip(biased(quantized), biases, strict=True))
        np.testing.assert_allclose(quantized(x), before, atol=1e-4 * np.abs(before).max())
    np.testing.assert_allclose(quantized(x), before, atol=1e-4 * np.abs(before).max())
    for layer, bias in zip(biased(quantized), biases, strict=True):
        np.testing.assert_allclose(layer.bias, bias, atol=1e-3)
        assert "call" not in vars(layer)


def test_what_is_saved_and_loaded_within_the_block_has_the_biases_of_outside(quantized, x, tmp_path):
    before = [layer.bias.numpy() for layer in biased(quantized)]
    with centred(quantized, x):
        within = [layer.bias.numpy() for layer in biased(quantized)]
        with plain_biases(quantized):
            quantized.save_weights(tmp_path / "saved.weights.h5")
            for layer, bias in zip(biased(quantized), before, strict=True):
                np.testing.assert_allclose(layer.bias, bias, atol=1e-3)
            quantized.load_weights(tmp_path / "saved.weights.h5")
        for layer, bias in zip(biased(quantized), within, strict=True):
            np.testing.assert_allclose(layer.bias, bias, atol=1e-3)
    with plain_biases(quantized):
        for layer, bias in zip(biased(quantized), before, strict=True):
            np.testing.assert_allclose(layer.bias, bias, atol=1e-3)


def biased(model):
    return [layer for layer in model.layers if getattr(layer, "bias", None) is not None]


def test_the_gradient_of_a_kernel_has_no_share_of_the_mean_of_its_inputs(x):
    model = network(keras.layers.Flatten(name="flatten"), keras.layers.Dense(3, name="dense"))
    quantized = fold(model).quantize(fold(model).flat(16))
    calibrate(quantized, x)
    kernel, mean = quantized.get_layer("dense").kernel, x.reshape(len(x), -1).mean(0)

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(quantized(x)[:, 0])
        return tape.gradient(loss, kernel.value).numpy()[:, 0]

    np.testing.assert_allclose(gradient(), mean, rtol=1e-2)
    with centred(quantized, x):
        np.testing.assert_allclose(gradient(), np.zeros_like(mean), atol=1e-2 * MEAN)


def test_what_was_traced_before_is_traced_anew_within_and_after(quantized, x):
    before = quantized.predict(x, verbose=0)
    with centred(quantized, x):
        np.testing.assert_allclose(quantized.predict(x, verbose=0), before, atol=1e-4 * np.abs(before).max())
    np.testing.assert_allclose(quantized.predict(x, verbose=0), before, atol=1e-4 * np.abs(before).max())
