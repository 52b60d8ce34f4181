"""Writes an integer program as QONNX, which FINN, hls4ml and other tools read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.export.exchange import check_rounding, float32_scales, inexact_in_float32
from po2quant.export.onnx.graph import OnnxGraph, channels_first, first, write_onnx
from po2quant.fixed_point import FLOOR, HALF_AWAY, HALF_EVEN, FixedPointFormat, integer_range
from po2quant.integer.operations import Tensor, Weights
from po2quant.integer.program import Program
from po2quant.integer.rewrites import on_one_grid

DOMAIN = "qonnx.custom_op.general"
ROUNDING_MODES = {HALF_EVEN: "ROUND", HALF_AWAY: "HALF_UP", FLOOR: "FLOOR"}
"""What QONNX calls them; it has no half up."""


def to_qonnx(program: Program, path: str | os.PathLike, per_channel: bool = True) -> tuple[str, ...]:
    """Write a program as a QONNX file of one sample at a time.

    Every tensor and every weight passes a ``Quant`` node: powers of two as scales, zero point 0. Bits of a
    bias that cannot change an output are left out. A softmax at the end is left to the host, as in the program.

    Args:
        program: the integer program.
        path: of the file.
        per_channel: whether kernels and biases keep one scale an output channel. False gives each one scale, the
            coarsest that holds all its values, and more bits where the channels differ: hls4ml wants it so.

    Returns:
        Names of the operations that float32, and so qonnx's own executor, may compute inexactly: their biases or sums
        can need more than the 24 bits of its significand, as with 16-bit tensors. All others are exact, to the bit.

    Raises:
        ValueError: for a tensor that is rounded half up, or where onnx is not installed.

    Example:
        >>> to_qonnx(integer_program(model), "network.onnx")  # doctest: +SKIP
        ()

    Reference:
        A. Pappalardo et al., "QONNX: Representing Arbitrary-Precision Quantized Neural Networks", 2022, section 5.
    """
    graph = OnnxGraph(program, _Quant(per_channel), samples=1)
    write_onnx(Path(path), graph.model())
    return inexact_in_float32(graph.program)


class _Quant:
    """Tensors and weights as ``Quant`` nodes."""

    def __init__(self, per_channel: bool) -> None:
        self.domains = {DOMAIN: 1}
        self._per_channel = per_channel

    def quantize(self, graph: OnnxGraph, value: str, tensor: Tensor) -> None:
        """Add the ``Quant`` node of a tensor."""
        check_rounding(tensor.format, tensor.name, "QONNX", ROUNDING_MODES)
        scale = float32_scales(tensor.format.exponent, tensor.format.bit_width)
        _quant(graph, value, tensor.name, first(tensor.shape), scale, tensor.format)

    def weights(self, graph: OnnxGraph, name: str, weights: Weights) -> str:
        """Add weights as float32 values and the ``Quant`` node that they pass unchanged."""
        weights = weights if self._per_channel else on_one_grid(name, weights)
        integers, axis = channels_first(weights)
        exponents = weights.exponents if self._per_channel else weights.exponents[:1]
        sizes = [-1 if i == axis else 1 for i in range(integers.ndim)]
        scales = float32_scales(exponents, weights.bit_width).reshape(sizes)
        values = graph.constant(f"{name}/values", (integers * scales.astype(np.float64)).astype(np.float32))
        is_narrow = integers.min() >= integer_range(weights.bit_width, narrow_range=True)[0]
        format = FixedPointFormat(weights.bit_width, narrow_range=is_narrow)
        return _quant(graph, values, name, integers.shape, scales, format, per_sample=False)


def _quant(
    graph: OnnxGraph,
    value: str,
    output: str,
    shape: tuple[int, ...],
    scale: np.ndarray,
    format: FixedPointFormat,
    **options: Any,
) -> str:
    inputs = [
        value,
        graph.constant(f"{output}/scale", np.atleast_1d(scale)),
        graph.constant("/zero_point", np.zeros(1, np.float32)),
        graph.constant(f"/bits_{format.bit_width}", np.float32(format.bit_width)),
    ]
    attributes: dict[str, Any] = {
        "signed": int(format.signed),
        "narrow": int(format.narrow_range),
        "rounding_mode": ROUNDING_MODES[format.rounding],
    }
    return graph.node("Quant", inputs, output, shape, DOMAIN, **attributes, **options)
