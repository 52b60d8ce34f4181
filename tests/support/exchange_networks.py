"""Frozen networks for the exchange files: one of every operation, and random ones of at most 8 bits."""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
from frozen_networks import frozen, noise, randomize
from keras import layers

from po2quant.bit_config import LayerBits
from po2quant.deploy.from_keras import integer_program
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.integer.program import Program
from po2quant.network import Placement, activation_quantizers, flat_config

REQUANTIZED = Placement(requantize_shortcuts=True)
SATURATING = 1.75
"""Inputs leave the calibrated range, but stay within twice of it."""


def every_operation(rearranges: bool = True) -> keras.Model:
    """Return a network with every operation of a program, images of odd sizes and padding on one side only.

    Args:
        rearranges: whether it has the one that no layer of Keras or QKeras does.
    """
    x = inputs = keras.Input((9, 7, 3), name="input")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2, padding="same", name="first")(x)))
    x = layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x))
    gate = layers.Conv2D(2, 1, activation="silu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(gate)])
    x = layers.Add()([layers.Conv2D(8, (3, 2), padding="same", dilation_rate=2)(x), x])
    pooled = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.Concatenate()([layers.MaxPooling2D(2, padding="same")(x), pooled])
    x = layers.Conv2D(4, 2, groups=2, activation="relu6")(layers.Dense(6)(x))
    x = layers.Dense(5, activation="relu")(layers.Reshape((-1, 2))(x))
    x = layers.Dense(6)(layers.Flatten()(layers.Permute((2, 1))(x) if rearranges else x))
    x = layers.Maximum()([x, layers.Minimum()([x, layers.Dense(6)(x)])])
    return randomize(keras.Model(inputs, layers.Dense(3, activation="softmax", name="last")(x)))


@functools.cache
def frozen_every_operation(bits: int, rearranges: bool = True) -> keras.Model:
    """Return it frozen, with shortcuts requantized."""
    return frozen(every_operation(rearranges), bits, REQUANTIZED)


def narrow(model: keras.Model, seed: int, most_bits: int = 8, placement: Placement = Placement()) -> keras.Model:
    """Return a frozen network of 2 to ``most_bits`` bits each, biases to 31, its ranges moved by a power of two."""
    rng = np.random.default_rng(seed)

    def bits(layer: LayerBits) -> LayerBits:
        if layer.activation is not None:
            return LayerBits(activation=int(rng.integers(2, most_bits + 1)))
        return LayerBits(int(rng.integers(2, most_bits + 1)), int(rng.integers(2, 32)))

    flat = flat_config(model, most_bits, placement)
    config = dataclasses.replace(flat, layers={name: bits(layer) for name, layer in flat.layers.items()})
    quantized = frozen(model, config, placement)
    for _, quantizer in activation_quantizers(quantized):
        quantizer.set_range(*(2.0 ** rng.integers(-1, 2) * end for end in quantizer.range))
    return quantized


def computed(quantized: keras.Model, samples: int, seed: int = 1) -> tuple[Program, np.ndarray, dict[str, np.ndarray]]:
    """Return the program of a frozen network, inputs of which some saturate, and every tensor's integers."""
    program = integer_program(quantized)
    x = SATURATING * noise(quantized, samples, seed)
    return program, x, run(program, quantize_inputs(program, x))
