"""The ONNX graph of an integer program, in float32, with a style's own nodes where tensors and weights are quantized.

ONNX has channels first: a tensor (rows, columns, C) is (samples, C, rows, columns) inside the graph, and
(samples, rows, columns, C) at its inputs and outputs, as in Keras. Values carry the program's tensor names.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from po2quant.export.exchange import require
from po2quant.files import replaced_whole
from po2quant.integer.operations import (
    LINEAR,
    RELU6,
    Add,
    AveragePooling,
    Concatenate,
    Conv2D,
    Dense,
    LookUpTable,
    MaxPooling,
    Multiply,
    Operation,
    Padding,
    Requantize,
    Reshape,
    Tensor,
    Weights,
    ZeroPadding,
    output_shape,
)
from po2quant.integer.program import Program
from po2quant.integer.rewrites import jammed_bias, settle_constant_channels

OPSET = 13
IR_VERSION = 8
SAMPLES = "samples"
SIGMOID, SILU = "sigmoid", ("silu", "swish")
FLOAT32_FUNCTION_ERROR = 2.0**-20
"""Bound on the error of a float32 sigmoid, or of x * sigmoid(x) relative to x: no executor is worse."""

Shape = tuple[int, ...]


class Style(Protocol):
    """How a file says that a tensor or weights are quantized.

    Attributes:
        domains: operator sets beside ONNX's own, with their versions.
    """

    domains: dict[str, int]

    def quantize(self, graph: OnnxGraph, value: str, tensor: Tensor) -> None:
        """Add what makes the value named like the tensor."""

    def weights(self, graph: OnnxGraph, name: str, weights: Weights) -> str:
        """Add weights in the layout of :func:`channels_first` and return the name of their values."""


class OnnxGraph:
    """Collects the nodes and constants of a file.

    Args:
        program: the integer program.
        style: of the file.
        samples: samples at a time; None: any number.
    """

    def __init__(self, program: Program, style: Style, samples: int | None) -> None:
        self.onnx = require("onnx", "an ONNX file")
        self.program = settle_constant_channels(program)
        self._style = style
        self._samples = samples or SAMPLES
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}
        self._values: dict[str, Any] = {}

    def model(self) -> Any:
        """Return the file's content."""
        inputs = [self._add_input(self.program.tensor[name]) for name in self.program.inputs]
        for operation in self.program.operations:
            self._add(operation)
        outputs: dict[str, Any] = {}
        for output in self.program.outputs:
            self._add_output(self.program.tensor[output.tensor], outputs)
        ends = {value.name for value in (*inputs, *outputs.values())}
        graph = self.onnx.helper.make_graph(
            self._nodes,
            self.program.name,
            inputs,
            list(outputs.values()),
            [self.onnx.numpy_helper.from_array(array, name) for name, array in self._constants.items()],
            value_info=[value for name, value in self._values.items() if name not in ends],
        )
        opsets = [self.onnx.helper.make_opsetid(*item) for item in ({"": OPSET} | self._style.domains).items()]
        return self.onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="po2quant")

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str,
        shape: Shape,
        domain: str = "",
        element_type: str = "FLOAT",
        per_sample: bool = True,
        **attributes: Any,
    ) -> str:
        """Add a node and return the name of its output, whose shape is without the samples."""
        name = output if output not in self._values else self._unused(output)
        self._nodes.append(
            self.onnx.helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes)
        )
        self._values[name] = self._value_info(name, shape, element_type, per_sample)
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant, unless it is there, and return its name."""
        known = self._constants.setdefault(name, np.asarray(array))
        if known.dtype == array.dtype and np.array_equal(known, array):
            return name
        return self.constant(self._unused(name), array)

    def scale(self, exponents: int | np.ndarray) -> np.ndarray:
        """Return powers of two as float32.

        Raises:
            ValueError: where a float32 has no such number.
        """
        scales = np.ldexp(1.0, np.asarray(exponents))
        if np.any(scales.astype(np.float32) != scales) or np.any(scales < np.finfo(np.float32).tiny):
            raise ValueError(f"exponents must be in [-126, 127] for float32. Received: {np.unique(exponents).tolist()}")
        return scales.astype(np.float32)

    def _unused(self, name: str) -> str:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        return next(candidate for candidate in numbered if candidate not in self._values | self._constants)

    def _value_info(self, name: str, shape: Shape, element_type: str = "FLOAT", per_sample: bool = True) -> Any:
        shape = (self._samples, *shape) if per_sample else shape
        return self.onnx.helper.make_tensor_value_info(name, getattr(self.onnx.TensorProto, element_type), shape)

    def _add_input(self, tensor: Tensor) -> Any:
        name = f"{tensor.name}/input"
        self._values[name] = self._value_info(name, tensor.shape)
        self._style.quantize(self, self._channels_first(name, tensor.shape, f"{name}/channels_first"), tensor)
        return self._values[name]

    def _add_output(self, tensor: Tensor, outputs: dict[str, Any]) -> None:
        """Add an output to those by name; one that is there already gets a second name, as ONNX wants it."""
        name = self._channels_last(tensor.name, tensor.shape)
        if name in outputs:
            name = self.node("Identity", [name], f"{name}/output", tensor.shape)
        outputs[name] = self._values[name]

    def _channels_first(self, value: str, shape: Shape, name: str) -> str:
        if len(shape) != 3:
            return value
        return self.node("Transpose", [value], name, first(shape), perm=[0, 3, 1, 2])

    def _channels_last(self, value: str, shape: Shape) -> str:
        if len(shape) != 3:
            return value
        return self.node("Transpose", [value], f"{value}/channels_last", shape, perm=[0, 2, 3, 1])

    def _reshape(self, value: str, shape: Shape, name: str) -> str:
        sizes = self.constant(f"/shape_{'x'.join(map(str, shape))}", np.array([-1, *shape], np.int64))
        return self.node("Reshape", [value, sizes], name, shape)

    def _add(self, operation: Operation) -> None:
        """Add an operation: what computes, its activation, its quantizer."""
        inputs, output = self.program.inputs_of(operation), self.program.output_of(operation)
        shape = output_shape(operation, tuple(tensor.shape for tensor in inputs))
        if isinstance(operation, (Reshape, ZeroPadding)):
            self._move(operation, inputs[0], output)
            return
        value = self._computed(operation, inputs, output, shape)
        value = self._activated(operation, value, shape)
        if shape != output.shape:
            value = self._reshape(value, output.shape, f"{operation.name}/reshaped")
        self._style.quantize(self, value, output)

    def _move(self, operation: Reshape | ZeroPadding, x: Tensor, y: Tensor) -> None:
        if isinstance(operation, ZeroPadding):
            (top, bottom), (left, right) = operation.padding
            places = self.constant(f"{operation.name}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
            self.node("Pad", [x.name, places], y.name, first(y.shape))
            return
        is_image = len(y.shape) == 3
        name = f"{y.name}/channels_last" if is_image else y.name
        self._channels_first(self._reshape(self._channels_last(x.name, x.shape), y.shape, name), y.shape, y.name)

    def _computed(self, operation: Operation, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        name, values = f"{operation.name}/computed", [tensor.name for tensor in inputs]
        match operation:
            case Conv2D() | Dense():
                return self._weighted(operation, inputs[0], output, shape)
            case AveragePooling() | MaxPooling():
                return self._pooled(operation, shape)
            case Add() | Multiply():
                kind = type(operation).__name__[:3]
                return functools.reduce(lambda x, y: self.node(kind, [x, y], name, first(shape)), values)
            case Concatenate(axis=axis):
                axis = (2, 3, 1)[axis] if len(shape) == 3 else axis + 1
                return self.node("Concat", values, name, first(shape), axis=axis)
            case LookUpTable():
                return self._function(operation, inputs[0], output)
            case Requantize():
                return values[0]
        raise ValueError(f"operation {operation.name!r} ({type(operation).__name__}) is not known")

    def _pooled(self, operation: AveragePooling | MaxPooling, shape: Shape) -> str:
        kind = "AveragePool" if isinstance(operation, AveragePooling) else "MaxPool"
        options = {"kernel_shape": operation.window, "strides": operation.strides, "pads": ends_of(operation.padding)}
        options |= {"count_include_pad": 0} if kind == "AveragePool" else {}
        return self.node(kind, operation.inputs, f"{operation.name}/computed", first(shape), **options)

    def _weighted(self, operation: Conv2D | Dense, x: Tensor, y: Tensor, shape: Shape) -> str:
        """Add a convolution, or a matrix product; over the channels of an image, the latter is a convolution too."""
        name, kernel = operation.name, operation.kernel
        bias = jammed_bias(operation, x.format, y.format)
        biases = self._style.weights(self, f"{name}/bias", bias)
        if isinstance(operation, Dense) and len(x.shape) != 3:
            kernels = self._style.weights(self, f"{name}/kernel", kernel)
            product = self.node("MatMul", [x.name, kernels], f"{name}/product", shape)
            return self.node("Add", [product, biases], f"{name}/computed", shape)
        integers = kernel.integers.reshape((1, 1) * (kernel.integers.ndim == 2) + kernel.integers.shape)
        kernel = Weights(integers, kernel.exponents, kernel.bit_width)
        options = {"group": 1, "pads": [0] * 4, "kernel_shape": integers.shape[:2]}
        if isinstance(operation, Conv2D):
            options |= {"group": operation.groups, "pads": ends_of(operation.padding)}
            options |= {"strides": operation.strides, "dilations": operation.dilation}
        kernels = self._style.weights(self, f"{name}/kernel", kernel)
        return self.node("Conv", [x.name, kernels, biases], f"{name}/computed", first(shape), **options)

    def _function(self, operation: LookUpTable, x: Tensor, y: Tensor) -> str:
        """Add a sigmoid or swish where any float32 gives the table's integers, and the table itself elsewhere."""
        name, shape = f"{operation.name}/computed", first(x.shape)
        if _is_safe_in_float32(operation, x, y):
            sigmoid = self.node("Sigmoid", [x.name], f"{operation.name}/sigmoid", shape)
            return sigmoid if operation.function == SIGMOID else self.node("Mul", [x.name, sigmoid], name, shape)
        scale = self.constant(f"{operation.name}/steps", self.scale(-x.format.exponent))
        lowest = self.constant(f"{operation.name}/lowest", np.float32(x.format.min_int))
        table = self.constant(f"{operation.name}/table", y.format.to_float(operation.table).astype(np.float32))
        integers = self.node("Mul", [x.name, scale], f"{operation.name}/integers", shape)
        places = self.node("Sub", [integers, lowest], f"{operation.name}/places", shape)
        to = self.onnx.TensorProto.INT64
        indices = self.node("Cast", [places], f"{operation.name}/indices", shape, element_type="INT64", to=to)
        return self.node("Gather", [table, indices], name, shape, axis=0)

    def _activated(self, operation: Operation, value: str, shape: Shape) -> str:
        activation = getattr(operation, "activation", LINEAR)
        if activation == LINEAR:
            return value
        name = f"{operation.name}/activated"
        if activation != RELU6:
            return self.node("Relu", [value], name, first(shape))
        ends = [self.constant(f"/relu6_{end}", np.float32(end)) for end in (0, 6)]
        return self.node("Clip", [value, *ends], name, first(shape))


def first(shape: Shape) -> Shape:
    """Return the shape of an image with its channels first; other shapes stay."""
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape


def channels_first(weights: Weights) -> tuple[np.ndarray, int]:
    """Return integers as ONNX has them, a convolution's as (C, C_in / groups, rows, columns), and the axis of C."""
    integers = weights.integers
    return (integers.transpose(3, 2, 0, 1), 0) if integers.ndim == 4 else (integers, integers.ndim - 1)


def ends_of(padding: Padding) -> list[int]:
    """Return padding as ONNX has it: top, left, bottom, right."""
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


def write_onnx(path: Path, model: Any) -> None:
    """Check a model and write it to a file, which is either the old or the new one, never half of it."""
    onnx = require("onnx", "an ONNX file")
    onnx.checker.check_model(model)
    with replaced_whole(path) as temporary:
        onnx.save(model, temporary)


def _is_safe_in_float32(operation: LookUpTable, x: Tensor, y: Tensor) -> bool:
    """Return whether a float32 sigmoid or swish, however it rounds, ends in the integers of the table."""
    if operation.function not in (SIGMOID, *SILU):
        return False
    values = x.format.to_float(np.arange(x.format.min_int, x.format.max_int + 1))
    factors = np.ones_like(values) if operation.function == SIGMOID else values
    exact = factors / (1.0 + np.exp(-values))
    errors = np.maximum(np.abs(factors), 1.0) * FLOAT32_FUNCTION_ERROR
    ends = (y.format.to_int(exact + error) for error in (-errors, errors))
    return all(np.array_equal(end, operation.table) for end in ends)
