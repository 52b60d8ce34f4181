"""A program that has every kind of layer with weights on every type of inputs and weights that kernels distinguish."""

from __future__ import annotations

import itertools
import math

import numpy as np
from random_programs import integers

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.operations import Conv2D, Dense, Operation, Tensor, Weights
from po2quant.integer.program import Output, Program

INPUTS = {"u8": (8, False), "i8": (7, True), "u16": (16, False), "i16": (15, True)}
WEIGHT_BITS, BIAS_BITS, OUTPUT_BITS = (4, 5, 8, 16), (8, 20), (4, 8, 9, 16)
LAYERS = ("dense", "pixels", "convolution", "depthwise")
SAME = ((1, 1), (1, 1))


def typed_layers(output_exponent: int, depth: int = 13, channels: int = 7, seed: int = 0) -> Program:
    """Return the program: each layer reads one of the inputs, and is an output.

    Args:
        output_exponent: -3: all sums are finished in one shift; -16: they are aligned to their biases first.
        depth: channels of the inputs.
        channels: of the outputs; depthwise layers have ``depth``.
        seed: of all integers.
    """
    rng = np.random.default_rng(seed)
    tensors, operations = [], []
    for name, (bits, signed) in INPUTS.items():
        format = FixedPointFormat(bits, signed - bits, signed)
        tensors += [Tensor(f"{name}_image", (5, 4, depth), format), Tensor(f"{name}_row", (depth,), format)]
    inputs = tuple(tensor.name for tensor in tensors)
    for kind, bits, layer in itertools.product(INPUTS, WEIGHT_BITS, LAYERS):
        operation, shape = _layer(layer, kind, bits, (depth, depth if layer == "depthwise" else channels), rng)
        operations.append(operation)
        tensors.append(Tensor(operation.output, shape, FixedPointFormat(int(rng.choice(OUTPUT_BITS)), output_exponent)))
    outputs = tuple(Output(operation.output) for operation in operations)
    return Program("typed", tuple(tensors), inputs, tuple(operations), outputs)


def _layer(
    layer: str, kind: str, bits: int, sizes: tuple[int, int], rng: np.random.Generator
) -> tuple[Operation, tuple[int, ...]]:
    name, window = f"{layer}_{kind}_{bits}", (1, 1) if layer in ("dense", "pixels") else (3, 3)
    depth, channels = sizes
    groups = depth if layer == "depthwise" else 1
    shape = (depth, channels) if layer == "dense" else (*window, depth // groups, channels)
    growth = math.prod(shape[:-1]).bit_length() // 2
    kernel = Weights(integers(FixedPointFormat(bits), shape, rng), np.full(channels, 2 - bits - growth), bits)
    bias_bits = int(rng.choice(BIAS_BITS))
    biases = integers(FixedPointFormat(bias_bits), (channels,), rng)
    bias = Weights(biases, np.full(channels, 1 - bias_bits), bias_bits)
    if layer == "dense":
        return Dense(name, (f"{kind}_row",), name, kernel, bias), (channels,)
    padding = SAME if window == (3, 3) else ((0, 0), (0, 0))
    image = (f"{kind}_image",)
    return Conv2D(name, image, name, kernel, bias, padding=padding, groups=groups), (5, 4, channels)
