"""The way of a network from ``check`` to C, with everything compared on it."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers

from po2quant.bit_config import BitConfig, LayerBits
from po2quant.deploy.check import check, give_ranges
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.verify import verify
from po2quant.export.c.run import compile_c
from po2quant.export.c.source import write_c
from po2quant.integer.interpreter import quantize_inputs, results, run
from po2quant.network import fold, freeze_scales, set_bits

SAMPLES = 8
RELATIVE_ERROR = 0.01
"""Of the outputs of a network with 16 bits everywhere, on the inputs that it was calibrated on."""

DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
FLAGS = ("-O0", "-w")
"""For gcc: what it compiles runs once."""


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every weight a random value that keeps signals alive through many layers."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        for weight in layer._trainable_variables + layer._non_trainable_variables:
            if not weight.dtype.startswith("float") or isinstance(layer, layers.Normalization):
                continue
            name, shape = weight.name, weight.shape
            if "variance" in name or "gamma" in name:
                weight.assign(rng.uniform(0.5, 1.5, shape))
            elif "kernel" in name:
                fan_in = np.prod(shape[:-2] if isinstance(layer, DEPTHWISE) or "depthwise" in name else shape[:-1])
                weight.assign(rng.normal(0.0, (1.5 / fan_in) ** 0.5, shape))
            elif name != "alpha":
                weight.assign(rng.normal(0.0, 0.1, shape))
    return model


def noise(model: keras.Model, samples: int = SAMPLES, seed: int = 1) -> list[np.ndarray]:
    """Return random inputs, one array for each."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(samples, *x.shape[1:])).astype(np.float32) for x in model.inputs]


def mixed(flat: BitConfig, seed: int) -> BitConfig:
    """Return a configuration of random widths: kernels of 2 to 16 bits, biases to 31, activations of 4 to 10."""
    rng = np.random.default_rng(seed)

    def bits(layer: LayerBits) -> LayerBits:
        if layer.activation is not None:
            return LayerBits(activation=int(rng.integers(4, 11)))
        return LayerBits(int(rng.integers(2, 17)), int(rng.integers(4, 32)))

    return dataclasses.replace(flat, name="mixed", layers={name: bits(layer) for name, layer in flat.layers.items()})


def relative_error(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Return the largest error of an output, root mean square over root mean square."""
    return max(
        float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in zip(found, expected, strict=True)
    )


def travel(build: Callable[[], keras.Model], folder: Path) -> None:
    """Take a network all the way at 16, at 8 and at mixed bits, and raise AssertionError where two forms differ."""
    model = randomize(build())
    found = check(model, is_tried=False)
    assert found.is_supported, found.obstacles
    network, x = fold(model), noise(model)
    quantized = network.quantize(network.flat(16))
    give_ranges(quantized, x)
    freeze_scales(quantized)
    program = integer_program(quantized)
    values = results(program, run(program, quantize_inputs(program, x)))
    floats = [np.asarray(y) for y in keras.tree.flatten(model(x if len(x) > 1 else x[0], training=False))]
    error = relative_error(values, floats)
    assert error < RELATIVE_ERROR, f"{error} with 16 bits"
    flat = network.flat(8)
    for config in (flat, mixed(flat, zlib.crc32(model.name.encode()))):
        set_bits(quantized, config)
        give_ranges(quantized, x)
        freeze_scales(quantized)
        program = integer_program(quantized)
        source = write_c(program, folder / config.name, "net")
        verified = verify(program, quantized, compile_c(source, folder / config.name, trace=True, flags=FLAGS), x)
        assert verified.mismatches == 0, f"{config.name}: {verified}"
