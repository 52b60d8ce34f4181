"""A small network with every kind of layer that matters, and its quantized form."""

from __future__ import annotations

import keras
import pytest
from keras import layers
from networks import noise, randomize, state_of

from po2quant.diagnostics.probe import Probe
from po2quant.network import calibrate, flat_config, quantize_model

BITS = 4


@pytest.fixture(scope="session")
def float_network() -> keras.Model:
    """Return a residual network with a convolution, a depthwise convolution, a dense layer and dropout."""
    x = keras.Input((6, 6, 2), name="input")
    y = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(name="relu")(y)
    z = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    z = layers.Add(name="add")([z, y])
    z = layers.Dropout(0.5, name="dropout")(layers.GlobalAveragePooling2D(name="pool")(z))
    return randomize(keras.Model(x, layers.Dense(3, activation="softmax", name="dense")(z)))


@pytest.fixture(scope="session")
def quantized(float_network):
    """Return a function from scales to the quantized, calibrated network of 4 bits."""

    def build(alpha: str = "auto_po2") -> keras.Model:
        model = quantize_model(float_network, flat_config(float_network, BITS), alpha)
        calibrate(model, noise(model))
        return model

    return build


@pytest.fixture(scope="session")
def compiled(quantized):
    """Return a function from scales to a network with its first weights, and its probe; both are used again."""
    networks = {}

    def fresh(alpha: str = "auto_po2") -> tuple[keras.Model, Probe]:
        if alpha not in networks:
            model = quantized(alpha)
            networks[alpha] = model, Probe(model, noise(model, samples=4)), state_of(model)
        model, probe, weights = networks[alpha]
        for variable, value in zip(model.variables, weights, strict=True):
            variable.assign(value)
        return model, probe

    return fresh
