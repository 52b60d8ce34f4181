"""The ONNX graph of an integer program, in float32, with a style's own nodes where tensors and weights are quantized.

ONNX has channels first: a tensor (rows, columns, C) is (samples, C, rows, columns) inside the graph, and
(samples, rows, columns, C) at its inputs and outputs, as in Keras. Values carry the program's tensor names.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from po2quant.export.exchange import float32_scales, require
from po2quant.files import one_line, replaced_whole
from po2quant.integer import operations as ops
from po2quant.integer.checks import shown
from po2quant.integer.operations import Shape, Tensor
from po2quant.integer.program import Program
from po2quant.integer.rewrites import jammed_bias, settle_constant_channels, unrolled

OPSET = 13
IR_VERSION = 8
SAMPLES = "samples"
SIGMOID, SILU = "sigmoid", ("silu", "swish")
FLOAT32_FUNCTION_ERROR = 2.0**-20
"""Bound on the error of a float32 sigmoid, or of x * sigmoid(x) relative to x: no executor is worse."""


class Style(Protocol):
    """How a file says that a tensor or weights are quantized.

    Attributes:
        domains: operator sets beside ONNX's own, with their versions.
    """

    domains: dict[str, int]

    def quantize(self, graph: OnnxGraph, value: str, tensor: Tensor) -> None:
        """Add what makes the value named like the tensor."""

    def weights(self, graph: OnnxGraph, name: str, weights: ops.Weights) -> str:
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
        self.program = unrolled(settle_constant_channels(program))
        self._style = style
        self._samples = samples or SAMPLES
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}
        self._values: dict[str, Any] = {}
        self._numbers: collections.Counter[str] = collections.Counter()

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
        name = self._numbered(output) if self._is_taken(output) else output
        self._nodes.append(
            self.onnx.helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes)
        )
        self._values[name] = self._value_info(name, shape, element_type, per_sample)
        return name

    def constant(self, name: str, array: np.ndarray | np.generic) -> str:
        """Add a constant, unless it is there, and return its name."""
        name = self._numbered(name) if name in self._values else name
        known = self._constants.setdefault(name, np.asarray(array))
        if known.dtype == array.dtype and np.array_equal(known, array):
            return name
        return self.constant(self._numbered(name), array)

    def _is_taken(self, name: str) -> bool:
        return name in self._values or name in self._constants

    def _numbered(self, name: str) -> str:
        """Return a name with the first number that makes another of it."""
        while True:
            self._numbers[name] += 1
            candidate = f"{name}_{self._numbers[name]}"
            if not self._is_taken(candidate):
                return candidate

    def _check_last(self, tensor: Tensor) -> None:
        """Raise ValueError unless the last node made a tensor under its own name, so that all find it."""
        if self._nodes[-1].output[0] != tensor.name:
            raise ValueError(
                "a tensor must not be named like another value of the ONNX file: rename it or its layer. "
                f"Received: {shown(tensor.name)}"
            )

    def _value_info(self, name: str, shape: Shape, element_type: str = "FLOAT", per_sample: bool = True) -> Any:
        sizes = (self._samples, *shape) if per_sample else shape
        return self.onnx.helper.make_tensor_value_info(name, getattr(self.onnx.TensorProto, element_type), sizes)

    def _add_input(self, tensor: Tensor) -> Any:
        name = input_of(tensor.name)
        if self._is_taken(name):
            raise ValueError(f"an input and a tensor must have different names in ONNX. Received: {shown(name)}")
        self._values[name] = self._value_info(name, tensor.shape)
        self._style.quantize(self, self._channels_first(name, tensor.shape, f"{name}/channels_first"), tensor)
        self._check_last(tensor)
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

    def _add(self, operation: ops.Operation) -> None:
        """Add an operation: what computes, its activation, its quantizer."""
        output, shape = self.program.output_of(operation), self.program.shape_of(operation)
        value = NODES.of(operation)(self, operation, self.program.inputs_of(operation), output, shape)
        if not isinstance(operation, ops.Moving):
            value = self._activated(operation, value, shape)
            if shape != output.shape:
                value = self._reshape(value, output.shape, f"{operation.name}/reshaped")
            self._style.quantize(self, value, output)
        self._check_last(output)

    def pad(self, operation: ops.ZeroPadding, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add zeros around an image."""
        (top, bottom), (left, right) = operation.padding
        places = self.constant(f"{operation.name}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        return self.node("Pad", [inputs[0].name, places], output.name, first(shape))

    def move(self, operation: ops.Reshape, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add a change of shape, of channels last."""
        (x,) = inputs
        return self._shaped(self._channels_last(x.name, x.shape), output)

    def rearrange(self, operation: ops.Rearrange, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add the gathering of elements, of channels last."""
        (x,), y, name = inputs, output, operation.name
        flat = self._reshape(self._channels_last(x.name, x.shape), (x.size,), f"{name}/flat")
        places = self.constant(f"{name}/places", operation.indices())
        gathered = self.node("Gather", [flat, places], f"{name}/gathered", (y.size,), axis=1)
        return self._shaped(gathered, y)

    def _shaped(self, value: str, y: Tensor) -> str:
        """Add a change of shape to that of a tensor, of channels last."""
        name = f"{y.name}/channels_last" if len(y.shape) == 3 else y.name
        return self._channels_first(self._reshape(value, y.shape, name), y.shape, y.name)

    def join(self, operation: ops.Operation, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add a sum, product or extreme, of two values at a time."""
        kind, name = type(operation).__name__[:3], f"{operation.name}/computed"
        return functools.reduce(lambda x, y: self.node(kind, [x, y], name, first(shape)), operation.inputs)

    def concatenate(self, operation: ops.Concatenate, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add values side by side."""
        axis = (2, 3, 1)[operation.axis] if len(shape) == 3 else operation.axis + 1
        return self.node("Concat", operation.inputs, f"{operation.name}/computed", first(shape), axis=axis)

    def requantize(self, operation: ops.Requantize, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add nothing: the output's own quantizer does it."""
        return inputs[0].name

    def pool(self, operation: ops.Pooling, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add a mean of the pixels inside the image, or a maximum."""
        kind = "AveragePool" if isinstance(operation, ops.AveragePooling) else "MaxPool"
        options: dict[str, Any] = {"count_include_pad": 0} if kind == "AveragePool" else {}
        options |= {"kernel_shape": operation.window, "strides": operation.strides, "pads": ends_of(operation.padding)}
        return self.node(kind, operation.inputs, f"{operation.name}/computed", first(shape), **options)

    def weighted(self, operation: ops.Weighted, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add a convolution, or a matrix product; over the channels of an image, the latter is a convolution too."""
        (x,), name, kernel = inputs, operation.name, operation.kernel
        bias = jammed_bias(operation, x.format, output.format)
        biases = self._style.weights(self, f"{name}/bias", bias)
        if kernel.integers.ndim == 2 and len(x.shape) != 3:
            kernels = self._style.weights(self, f"{name}/kernel", kernel)
            product = self.node("MatMul", [x.name, kernels], f"{name}/product", shape)
            return self.node("Add", [product, biases], f"{name}/computed", shape)
        kernel, options = as_convolution(operation)
        kernels = self._style.weights(self, f"{name}/kernel", kernel)
        return self.node("Conv", [x.name, kernels, biases], f"{name}/computed", first(shape), **options)

    def look_up(self, operation: ops.LookUpTable, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add a sigmoid or swish where any float32 gives the table's integers, and the table itself elsewhere."""
        (x,), y, name, shape = inputs, output, f"{operation.name}/computed", first(shape)
        if _is_safe_in_float32(operation, x, y):
            sigmoid = self.node("Sigmoid", [x.name], f"{operation.name}/sigmoid", shape)
            return sigmoid if operation.function == SIGMOID else self.node("Mul", [x.name, sigmoid], name, shape)
        scale = self.constant(f"{operation.name}/steps", float32_scales(-x.format.exponent))
        lowest = self.constant(f"{operation.name}/lowest", np.float32(x.format.min_int))
        table = self.constant(f"{operation.name}/table", y.format.to_float(operation.table).astype(np.float32))
        integers = self.node("Mul", [x.name, scale], f"{operation.name}/integers", shape)
        places = self.node("Sub", [integers, lowest], f"{operation.name}/places", shape)
        to = self.onnx.TensorProto.INT64
        indices = self.node("Cast", [places], f"{operation.name}/indices", shape, element_type="INT64", to=to)
        return self.node("Gather", [table, indices], name, shape, axis=0)

    def _activated(self, operation: ops.Operation, value: str, shape: Shape) -> str:
        if operation.activation == ops.LINEAR:
            return value
        name = f"{operation.name}/activated"
        if operation.activation != ops.RELU6:
            return self.node("Relu", [value], name, first(shape))
        ends = [self.constant(f"/relu6_{end}", np.float32(end)) for end in (0, 6)]
        return self.node("Clip", [value, *ends], name, first(shape))


NODES: ops.Handlers[Callable[[OnnxGraph, Any, tuple[Tensor, ...], Tensor, Shape], str]] = ops.Handlers(
    "the ONNX writer",
    {
        ops.Conv2D: OnnxGraph.weighted,
        ops.Dense: OnnxGraph.weighted,
        ops.AveragePooling: OnnxGraph.pool,
        ops.MaxPooling: OnnxGraph.pool,
        ops.Add: OnnxGraph.join,
        ops.Multiply: OnnxGraph.join,
        ops.Maximum: OnnxGraph.join,
        ops.Minimum: OnnxGraph.join,
        ops.Concatenate: OnnxGraph.concatenate,
        ops.Requantize: OnnxGraph.requantize,
        ops.LookUpTable: OnnxGraph.look_up,
        ops.Reshape: OnnxGraph.move,
        ops.Rearrange: OnnxGraph.rearrange,
        ops.ZeroPadding: OnnxGraph.pad,
    },
)
"""What adds the nodes of each operation, given its inputs, output and own shape, and returns the value's name."""


def first(shape: Shape) -> Shape:
    """Return the shape of an image with its channels first; other shapes stay."""
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape


def input_of(tensor: str) -> str:
    """Return the name of the file's input that becomes a tensor."""
    return f"{tensor}/input"


def channels_first(weights: ops.Weights) -> tuple[np.ndarray, int]:
    """Return integers as ONNX has them, a convolution's as (C, C_in / groups, rows, columns), and the axis of C."""
    integers = weights.integers
    return (integers.transpose(3, 2, 0, 1), 0) if integers.ndim == 4 else (integers, integers.ndim - 1)


def as_convolution(operation: ops.Weighted) -> tuple[ops.Weights, dict[str, Any]]:
    """Return kernel and attributes of a ``Conv`` node; a matrix product is one of a single pixel."""
    integers = operation.kernel.integers
    integers = integers.reshape((1, 1) * (integers.ndim == 2) + integers.shape)
    options: dict[str, Any] = {"group": 1, "pads": [0] * 4, "kernel_shape": integers.shape[:2]}
    if isinstance(operation, ops.Conv2D):
        options |= {"group": operation.groups, "pads": ends_of(operation.padding)}
        options |= {"strides": operation.strides, "dilations": operation.dilation}
    return dataclasses.replace(operation.kernel, integers=integers), options


def ends_of(padding: ops.Padding) -> list[int]:
    """Return padding as ONNX has it: top, left, bottom, right."""
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


def write_onnx(path: Path, model: Any) -> None:
    """Check a model and write it to a file, which is either the old or the new one, never half of it."""
    onnx = require("onnx", "an ONNX file")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:  # more than 2 GiB is a ValueError of protobuf's
        raise ValueError(f"{path} would be no valid ONNX file: {one_line(error)}") from None
    with replaced_whole(path) as temporary:
        onnx.save(model, temporary)


def _is_safe_in_float32(operation: ops.LookUpTable, x: Tensor, y: Tensor) -> bool:
    """Return whether a float32 sigmoid or swish, however it rounds, ends in the integers of the table."""
    if operation.function not in (SIGMOID, *SILU):
        return False
    values = x.format.to_float(np.arange(x.format.min_int, x.format.max_int + 1))
    factors = np.ones_like(values) if operation.function == SIGMOID else values
    exact = factors / (1.0 + np.exp(-values))
    errors = np.maximum(np.abs(factors), 1.0) * FLOAT32_FUNCTION_ERROR
    ends = (y.format.to_int(exact + error) for error in (-errors, errors))
    return all(np.array_equal(end, operation.table) for end in ends)
