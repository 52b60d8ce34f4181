"""Small frozen networks: given ones, and random ones of random widths and ranges."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers

from po2quant.bit_config import BitConfig, LayerBits
from po2quant.deploy.check import give_ranges
from po2quant.network import Placement, activation_quantizers, flat_config, freeze_scales, quantize_model

OVERFLOW = 2.0
"""Inputs are doubled, so that tensors saturate."""


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every weight and statistic a random value."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if any(part in weight.path for part in ("variance", "gamma")):
            weight.assign(rng.uniform(0.5, 2.0, weight.shape))
        elif weight.path.endswith(("kernel", "bias", "beta", "mean")):
            fan_in = np.prod(weight.shape[:-1]) if weight.path.endswith("kernel") else 10.0
            weight.assign(rng.normal(0.0, fan_in**-0.5, weight.shape))
    return model


def noise(model: keras.Model, samples: int = 4, seed: int = 1) -> np.ndarray | list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(samples, *x.shape[1:])).astype(np.float32) for x in model.inputs]
    return arrays if len(arrays) > 1 else arrays[0]


def frozen(
    model: keras.Model, config: BitConfig | int = 8, placement: Placement = Placement(), **options
) -> keras.Model:
    config = flat_config(model, config, placement) if isinstance(config, int) else config
    quantized = quantize_model(model, config, placement=placement, **options)
    give_ranges(quantized, noise(model))
    freeze_scales(quantized)
    return quantized


def network(draw: Callable[[st.SearchStrategy], Any]) -> keras.Model:
    """Draw a chain of convolutions and poolings with a shortcut and a gate, of random sizes, strides and padding."""
    x = inputs = keras.Input((draw(st.integers(5, 9)), draw(st.integers(5, 9)), draw(st.integers(1, 4))), name="input")

    def window(limit: int) -> dict:
        return {
            "strides": draw(st.integers(1, 2)),
            "padding": "same" if min(x.shape[1:3]) < limit else draw(st.sampled_from(["same", "valid"])),
        }

    def activation() -> Callable:
        kind = draw(st.sampled_from(["linear", "relu", "relu6", "silu", "sigmoid"]))
        return layers.Identity() if kind == "linear" else layers.Activation(kind)

    for _ in range(draw(st.integers(1, 3))):
        size = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        kind = draw(st.sampled_from(["conv", "dilated", "grouped", "depthwise", "average", "max", "shortcut", "gate"]))
        if kind == "conv":
            x = activation()(layers.Conv2D(draw(st.integers(1, 6)), size, **window(3))(x))
        elif kind == "dilated":
            x = activation()(layers.Conv2D(3, size, padding="same", dilation_rate=2)(x))
        elif kind == "grouped":
            x = layers.Conv2D(4, size, groups=2, **window(3))(layers.Conv2D(4, 1)(x))
        elif kind == "depthwise":
            x = layers.DepthwiseConv2D(size, depth_multiplier=draw(st.integers(1, 2)), **window(3))(x)
            x = activation()(layers.BatchNormalization()(x))
        elif kind == "average":
            x = layers.AveragePooling2D(size, **window(3))(x)
        elif kind == "max":
            x = layers.MaxPooling2D(size, **window(3))(layers.ZeroPadding2D(((0, 1), (1, 0)))(x))
        elif kind == "shortcut":
            x = activation()(layers.Add()([layers.Conv2D(x.shape[-1], size, padding="same")(x), x]))
        else:
            gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
            x = layers.Multiply()([x, layers.Activation("sigmoid")(layers.Conv2D(x.shape[-1], 1)(gate))])
    x = draw(st.sampled_from([layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.Flatten]))()(x)
    outputs = layers.Dense(3, activation=draw(st.sampled_from([None, "softmax"])))(x)
    return randomize(keras.Model(inputs, outputs), draw(st.integers(0, 999)))


def random_frozen(draw: Callable[[st.SearchStrategy], Any], seed: int, placement: Placement) -> keras.Model:
    """Draw a frozen network of 2 to 16 bits each, biases to 31, its ranges moved by up to 3 powers of two."""
    model = network(draw)
    rng = np.random.default_rng(seed)

    def bits(layer: LayerBits) -> LayerBits:
        if layer.activation is not None:
            return LayerBits(activation=int(rng.integers(2, 17)))
        return LayerBits(int(rng.integers(2, 17)), int(rng.integers(2, 32)))

    flat = flat_config(model, 8, placement)
    config = dataclasses.replace(flat, layers={name: bits(layer) for name, layer in flat.layers.items()})
    quantized = frozen(model, config, placement)
    for _, quantizer in activation_quantizers(quantized):
        factor = 2.0 ** rng.integers(-3, 4)
        quantizer.set_range(*(factor * end for end in quantizer.range))
    return quantized
