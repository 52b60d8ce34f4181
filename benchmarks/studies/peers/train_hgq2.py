"""Trains a network in HGQ2, in an environment of its own: ``python train_hgq2.py FOLDER``.

The folder holds ``network.keras``, a float network of convolutions, dense layers and what moves or pools; ``data.npz``
with ``x, y, validation_x, validation_y, test_x``; and ``settings.json`` with ``epochs, batch_size, rate, kernel_bits``
and ``seed``. ``outcome.npz`` gets ``outputs`` of the test inputs, and the bits of kernels and biases in all.

Kernels begin with ``kernel_bits`` bits in the range that their channel needs, activations with 8 bits below the point.
Each weight and each activation then learns a width of its own, under HGQ2's penalty on bit operations. It is raised
after an epoch where kernels have more than ``kernel_bits`` bits on average, else lowered.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from hgq.config import QuantizerConfig
from hgq.layers import QConv2D, QDense
from hgq.utils import trace_minmax
from keras import layers

FIRST_PENALTY, FACTOR = 1e-9, 2.0
FRACTION_BITS = 8
SMALLEST_RANGE = 2.0**-20
CALIBRATING, BATCH = 256, 128


class QDepthwiseConv2D(QConv2D):
    """HGQ2's convolution of a group for each channel, as a depthwise convolution: that takes a fifth of the time."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Return what each channel of the inputs gives with its own part of a kernel ``(h, w, 1, C)``."""
        kernel = keras.ops.transpose(kernel, (0, 1, 3, 2))
        return keras.ops.depthwise_conv(inputs, kernel, self.strides, self.padding)


def quantized(layer: keras.layers.Layer, kernel_bits: int) -> keras.layers.Layer:
    """Return the layer of HGQ2 that computes what a float layer does."""
    own = {
        "kq_conf": QuantizerConfig("kbi", "weight", b0=kernel_bits - 1),  # its bits do not count the sign
        "bq_conf": QuantizerConfig("kbi", "bias", b0=FRACTION_BITS),
        "iq_conf": QuantizerConfig("kif", "datalane", f0=FRACTION_BITS),
        "beta0": FIRST_PENALTY,
        "name": layer.name,
    }
    if isinstance(layer, layers.Dense):
        return QDense(layer.units, **own)
    if isinstance(layer, layers.DepthwiseConv2D):
        channels = layer.kernel.shape[2]
        return QDepthwiseConv2D(channels, layer.kernel_size, layer.strides, layer.padding, groups=channels, **own)
    if isinstance(layer, layers.Conv2D):
        return QConv2D(layer.filters, layer.kernel_size, layer.strides, layer.padding, **own)
    return type(layer).from_config(layer.get_config())


def fill(layer: keras.layers.Layer, source: keras.layers.Layer) -> None:
    """Give a layer of HGQ2 the weights of a float layer, and each weight the range that its channel needs."""
    kernel, bias = map(np.asarray, source.get_weights())
    if isinstance(source, layers.DepthwiseConv2D):
        kernel = kernel.transpose(0, 1, 3, 2)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    largest = np.max(np.abs(kernel), axis=tuple(range(kernel.ndim - 1)))
    integer_bits = np.ceil(np.log2(np.maximum(largest, SMALLEST_RANGE)))
    layer.kq.quantizer._i.assign(np.broadcast_to(integer_bits, kernel.shape))


def weighted(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers with a kernel."""
    return [layer for layer in model.layers if isinstance(layer, (QConv2D, QDense))]


def bits_of(quantizer: Any, shape: tuple[int, ...]) -> int:
    """Return the bits of weights with their signs; those of no bits are always 0 and have none."""
    bits = np.asarray(quantizer.fbits_(shape))
    return int(np.where(np.asarray(quantizer.bits_(shape)) > 0, bits, 0).sum())


def kernel_bits_of(model: keras.Model) -> int:
    """Return the bits of all kernels."""
    return sum(bits_of(layer.kq, layer.kernel.shape) for layer in weighted(model))


class Penalty(keras.callbacks.Callback):
    """Raises the penalty of bit operations after an epoch in which kernels have too many bits, else lowers it."""

    def __init__(self, most_bits: float) -> None:
        super().__init__()
        self._most_bits, self._value = most_bits, FIRST_PENALTY

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Change the penalty."""
        self._value *= FACTOR if kernel_bits_of(self.model) > self._most_bits else 1 / FACTOR
        for layer in weighted(self.model):
            layer._beta.assign(self._value)


def main(folder: Path) -> None:
    """Train the network of a folder."""
    settings, data = json.loads((folder / "settings.json").read_text(encoding="utf-8")), np.load(folder / "data.npz")
    keras.utils.set_random_seed(settings["seed"])
    source = keras.models.load_model(folder / "network.keras", compile=False)
    model = keras.models.clone_model(source, clone_function=lambda layer: quantized(layer, settings["kernel_bits"]))
    for layer in weighted(model):
        fill(layer, source.get_layer(layer.name))
    trace_minmax(model, data["x"][:CALIBRATING])
    epochs, batch_size, rate = settings["epochs"], settings["batch_size"], settings["rate"]
    steps = epochs * -(-len(data["x"]) // batch_size)
    falling = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=rate, warmup_steps=steps // 10
    )
    # XLA would compile for a minute and train no faster
    model.compile(keras.optimizers.Adam(falling), "sparse_categorical_crossentropy", jit_compile=False)
    most_bits = settings["kernel_bits"] * sum(int(np.prod(layer.kernel.shape)) for layer in weighted(model))
    model.fit(data["x"], data["y"], batch_size, epochs, verbose=0, callbacks=[Penalty(most_bits)])
    trace_minmax(model, data["x"])
    biases = sum(bits_of(layer.bq, layer.bias.shape) for layer in weighted(model))
    outputs = model.predict(data["test_x"], batch_size=BATCH, verbose=0)
    np.savez(folder / "outcome.npz", outputs=outputs, kernel_bits=kernel_bits_of(model), bias_bits=biases)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
