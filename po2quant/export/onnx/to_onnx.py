"""Writes an integer program of 8 bits as plain ONNX, for onnxruntime and whatever else reads its quantized form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.export.exchange import check_8_bits, check_rounding, float32_scales, inexact_in_float32
from po2quant.export.onnx.graph import OnnxGraph, channels_first, first, write_onnx
from po2quant.fixed_point import HALF_EVEN
from po2quant.integer.checks import shown
from po2quant.integer.operations import Tensor, Weights
from po2quant.integer.program import Program


def to_onnx(program: Program, path: str | os.PathLike) -> tuple[str, ...]:
    """Write a program as an ONNX file of ``QuantizeLinear`` and ``DequantizeLinear`` pairs, for any number of samples.

    Activations are int8 or uint8, kernels int8 with one scale an output channel; all scales are powers of two and all
    zero points 0. Narrower tensors are clipped to their own range first. Bits of a bias that cannot change an output
    are left out. A softmax at the end is left to the host, as in the program.

    Biases are float32, which holds them exactly. onnxruntime's optimizer makes integer kernels of the layers, rounds
    these biases to the scale of the products and is then off by one unit at times; without it, all integers are equal.
    As int32 with their own, finer scale, onnxruntime 1.32 would read them in units of the products in matrix products.

    Args:
        program: the integer program, with activations and kernels of at most 8 bits.
        path: of the file.

    Returns:
        The names of the operations that onnxruntime may compute inexactly, because their sums can need more than the 24
        bits of a float32's significand: layers of thousands of inputs. All others are exact, to the bit.

    Raises:
        ValueError: for a tensor or kernel of more than 8 bits, a tensor that is not rounded half to even, or where onnx
            is not installed.

    Example:
        >>> to_onnx(integer_program(model), "network.onnx")  # doctest: +SKIP
        ()
    """
    graph = OnnxGraph(program, _Pairs(), samples=None)
    write_onnx(Path(path), graph.model())
    return inexact_in_float32(graph.program)


class _Pairs:
    """Tensors as pairs of ``QuantizeLinear`` and ``DequantizeLinear``, weights as integers and the latter."""

    def __init__(self) -> None:
        self.domains: dict[str, int] = {}

    def quantize(self, graph: OnnxGraph, value: str, tensor: Tensor) -> None:
        """Add the pair of a tensor, after a ``Clip`` where its range is narrower than its type's."""
        format, name, shape = tensor.format, tensor.name, first(tensor.shape)
        check_8_bits(f"tensor {shown(name)}", format.bit_width)
        check_rounding(format, name, "ONNX", (HALF_EVEN,))
        kind: Any = np.int8 if format.signed else np.uint8
        scales = float32_scales(format.exponent, format.bit_width)
        if (format.min_int, format.max_int) != (np.iinfo(kind).min, np.iinfo(kind).max):
            limits = {"min": format.min_value, "max": format.max_value}
            ends = [graph.constant(f"{name}/{end}", np.float32(number)) for end, number in limits.items()]
            value = graph.node("Clip", [value, *ends], f"{name}/clipped", shape)
        scale = graph.constant(f"{name}/scale", scales)
        zero = graph.constant(f"/zero_{np.dtype(kind).name}", kind(0))
        integers = graph.node(
            "QuantizeLinear", [value, scale, zero], integers_of(name), shape, element_type=np.dtype(kind).name.upper()
        )
        graph.node("DequantizeLinear", [integers, scale, zero], name, shape)

    def weights(self, graph: OnnxGraph, name: str, weights: Weights) -> str:
        """Add a kernel as integers and the ``DequantizeLinear`` that makes values of them, a bias as values."""
        integers, axis = channels_first(weights)
        scales = float32_scales(weights.exponents, weights.bit_width)
        if integers.ndim == 1:
            return graph.constant(name, (integers * scales.astype(np.float64)).astype(np.float32))
        check_8_bits(f"weights {shown(name)}", weights.bit_width)
        inputs = [
            graph.constant(f"{name}/integers", integers.astype(np.int8)),
            graph.constant(f"{name}/scale", scales),
            graph.constant(f"{name}/zero", np.zeros(scales.shape, np.int8)),
        ]
        return graph.node("DequantizeLinear", inputs, name, integers.shape, per_sample=False, axis=axis)


def integers_of(tensor: str) -> str:
    """Return the name that the integers of a tensor have in the file."""
    return f"{tensor}/integers"
