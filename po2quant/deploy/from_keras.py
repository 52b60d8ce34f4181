"""Builds the integer program of a frozen power-of-two network."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import TypeAlias

import keras
import numpy as np
import qkeras
import tensorflow as tf
from keras import layers

from po2quant.deploy.frozen import activation_format, integer_weights
from po2quant.deploy.reference import float64_copy
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.operations import LINEAR, RELU6, Operation, Tensor, Weights, weighted_limits
from po2quant.integer.program import Output, Program
from po2quant.network import weight_quantizers
from po2quant.network.graph import Node, read_graph
from po2quant.network.kinds import (
    FUNCTIONS,
    LAYER_FUNCTIONS,
    Form,
    Kind,
    Role,
    activation_name,
    activation_of,
    find_kind,
)

MAX_TABLE_BITS = 16
"""Widest input of a look-up table: 65536 entries, 128 KiB for an output of 16 bits."""

FLOAT64_PRECISION = 53
"""Bits of a float64's significand."""

OPERATIONS = {operation.__name__: operation for operation in ops.OPERATIONS}
"""The classes that :data:`po2quant.network.kinds.KINDS` names."""


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function of one integer tensor, waiting for the quantizer that makes a table of it."""

    layer: keras.layers.Layer
    function: str
    input: Tensor


State: TypeAlias = Tensor | Operation | _Function | Output | layers.InputLayer
"""What a layer call gives: integers; an operation or function that waits for its quantizer; a result of the host; the
model's floats."""


def integer_program(model: keras.Model) -> Program:
    """Return the integer program of a frozen model.

    Args:
        model: from :func:`po2quant.network.quantize_model` with ``alpha='auto_po2'``, after
            :func:`po2quant.network.freeze_scales`.

    Returns:
        A program whose tensors are named like the model's quantizers. A softmax at the end is left to the host.

    Raises:
        ValueError: for what no integer program can do, naming the layer: real scales, scales of each sample or not
            frozen, unknown layers, a tensor without a quantizer, sums that do not fit 64 bits.

    Example:
        >>> program = integer_program(quantized)  # doctest: +SKIP
        >>> program.save("network.npz")  # doctest: +SKIP
    """
    graph = read_graph(model)
    builder = _Builder(model, {layer.name for layer in model.layers if isinstance(layer, qkeras.QActivation)})
    inputs = tuple(builder.input_tensor(layer).name for layer in graph.inputs)
    outputs = tuple(builder.result(node) for node in graph.outputs)
    program = Program(graph.name, tuple(builder.tensors.values()), inputs, tuple(builder.operations), outputs)
    _ = program.plans  # raises where a sum fits no register
    return program


class _Builder:
    """Walks a model's layer calls and collects tensors and operations.

    Args:
        model: a network, or the cell of a recurrent layer.
        taken: names that tensors have elsewhere or will have; those of new ones are added.
        known: tensors of inputs that are integers already.
    """

    def __init__(self, model: keras.Model, taken: set[str], known: Mapping[str, Tensor] = {}) -> None:
        self.tensors: dict[str, Tensor] = {tensor.name: tensor for tensor in known.values()}
        self.operations: list[Operation] = []
        self._taken = taken
        self._states: dict[Node, State] = {}
        self._inputs: dict[str, Tensor] = {}
        self._weights = {(weight.layer.name, weight.part): weight for weight in weight_quantizers(model)}
        for node in read_graph(model).nodes:
            self._states[node] = known[node.layer.name] if node.layer.name in known else self._state(node)

    def input_tensor(self, layer: layers.InputLayer) -> Tensor:
        """Return the tensor that holds a model input."""
        if layer.name not in self._inputs:
            raise ValueError(f"input {layer.name!r} must have a quantizer. Received: none")
        return self._inputs[layer.name]

    def result(self, node: Node) -> Output:
        """Return the program's output that a model output is."""
        state = self._states[node]
        return state if isinstance(state, Output) else Output(self._integers(node, "the model's output").name)

    def _state(self, node: Node) -> State:
        layer = node.layer
        kind = find_kind(layer)
        is_known = kind is not None and kind.role is not Role.NORMALIZATION and type(layer) is kind.quantized
        if not is_known and type(layer) is not qkeras.QActivation:  # a subclass may compute something else
            raise ValueError(
                f"layer {layer.name!r} must be one that quantize_model makes, to become integers. "
                f"Received: {type(layer).__name__}"
            )
        if isinstance(layer, layers.InputLayer):
            return layer
        shape = node.fixed_shape
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise ValueError(f"layer {layer.name!r} must have its channels last. Received: {layer.data_format}")
        if kind is None:
            return self._quantized(node)
        function = activation_of(layer)
        if function is not None:
            return self._activated(node, function, (FUNCTIONS | LAYER_FUNCTIONS)[function].form)
        if kind.role is Role.TRANSPARENT:
            return self._states[node.inputs[0]]
        inputs = tuple(self._integers(parent, layer.name) for parent in node.inputs)
        if kind.role is Role.RECURRENT:
            return self._recurrent(node, kind, inputs[0])
        operation = self._operation(node, kind, inputs)
        if kind.role is not Role.MOVING:
            return operation
        output = self._new_tensor(self._free_name(layer.name), shape, inputs[0].format)
        self.operations.append(dataclasses.replace(operation, output=output.name))
        return output

    def _recurrent(self, node: Node, kind: Kind, x: Tensor) -> Tensor:
        """Return the sequence, or its end, that the cell of a recurrent layer makes."""
        layer, cell = node.layer, read_graph(node.layer.cell)
        quantizers = {inner.layer.name for inner in cell.nodes if isinstance(inner.layer, qkeras.QActivation)}
        for name in quantizers & self._taken:
            raise ValueError(f"quantizer {name!r} must be called once: use one for each tensor. Received: more calls")
        self._taken |= quantizers
        formats = [x.format]
        for state, output in zip(cell.inputs[1:], cell.outputs, strict=True):
            if not isinstance(output.layer, qkeras.QActivation):
                raise ValueError(f"state {state.name!r} of {layer.name!r} must pass a quantizer. Received: none")
            formats.append(activation_format(output.layer.name, output.layer.activation))
        known = {
            inner.name: Tensor(self._free_name(inner.name), tuple(inner.output.shape[1:]), format)
            for inner, format in zip(cell.inputs, formats, strict=True)
        }
        builder = _Builder(layer.cell, self._taken, known)
        outputs = tuple(builder._integers(inner, "the next step").name for inner in cell.outputs)
        inputs = tuple(known[inner.name].name for inner in cell.inputs)
        step = ops.Cell(tuple(builder.tensors.values()), inputs, tuple(builder.operations), outputs)
        y = self._new_tensor(self._free_name(layer.name), node.fixed_shape, step.result.format)
        self.operations.append(ops.Recurrent(layer.name, (x.name,), y.name, step, **kind.attributes(node)))
        return y

    def _integers(self, node: Node, reader: str) -> Tensor:
        state = self._states[node]
        if not isinstance(state, Tensor):
            raise ValueError(
                f"the output of layer {node.layer.name!r} must pass a quantizer before {reader!r} reads it: use "
                "quantize_model, which places them; a softmax may only be the last layer"
            )
        return state

    def _new_tensor(self, name: str, shape: tuple[int, ...], format: FixedPointFormat) -> Tensor:
        tensor = Tensor(name, shape, format)
        self.tensors[name] = tensor
        return tensor

    def _quantized(self, node: Node) -> Tensor:
        """Return the tensor of a quantizer, written by the operation that waited for it."""
        name, state = node.layer.name, self._states[node.inputs[0]]
        if name in self.tensors:
            raise ValueError(f"quantizer {name!r} must be called once: use one for each tensor. Received: more calls")
        tensor = self._new_tensor(name, node.fixed_shape, activation_format(name, node.layer.activation))
        if isinstance(state, layers.InputLayer):
            if state.name in self._inputs:
                raise ValueError(f"input {state.name!r} must have one quantizer. Received: also {name!r}")
            self._inputs[state.name] = tensor
        elif isinstance(state, Tensor):
            self.operations.append(ops.Requantize(name, (state.name,), name))
        elif isinstance(state, _Function):
            table = _table(state, tensor.format)
            self.operations.append(ops.LookUpTable(state.layer.name, (state.input.name,), name, table, state.function))
        elif isinstance(state, Operation):
            self.operations.append(dataclasses.replace(state, output=name))
        else:
            self._integers(node.inputs[0], name)
        return tensor

    def _activated(self, node: Node, function: str, form: Form) -> State:
        parent, name = node.inputs[0], node.layer.name
        state = self._states[parent]
        if form is Form.NOTHING:
            return state
        if form is Form.CLIP:
            if isinstance(state, Tensor):
                return ops.Requantize(name, (state.name,), name, activation=function)
            if isinstance(state, Operation):
                both = RELU6 if RELU6 in (function, state.activation) else function
                return dataclasses.replace(state, activation=both)  # type: ignore[call-arg]
        tensor = self._integers(parent, name)
        if form is Form.HOST:
            axis = getattr(node.layer, "axis", -1)
            if axis not in (-1, len(node.shape)):
                raise ValueError(f"softmax {name!r} must be over the last axis. Received: axis={axis}")
            return Output(tensor.name, function)
        if tensor.format.bit_width > MAX_TABLE_BITS:
            raise ValueError(
                f"the input of {function} {name!r} must have at most {MAX_TABLE_BITS} bits, for a look-up table. "
                f"Received: {tensor.format.bit_width} bits"
            )
        return _Function(node.layer, function, tensor)

    def _operation(self, node: Node, kind: Kind, inputs: tuple[Tensor, ...]) -> Operation:
        """Return the operation of a layer call; the layer's name stands for its output's, which is not known yet."""
        weights = () if kind.kernel is None else self._integer_weights(node.layer, inputs[0].format)
        names, name = tuple(tensor.name for tensor in inputs), node.layer.name
        return OPERATIONS[kind.operation](name, names, name, *weights, **kind.attributes(node))

    def _integer_weights(self, layer: keras.layers.Layer, x: FixedPointFormat) -> tuple[Weights, Weights]:
        """Return kernel and bias of a layer whose input has format ``x``."""
        name, weights = layer.name, self._weights
        if (name, "kernel") not in weights or (layer.use_bias and (name, "bias") not in weights):
            raise ValueError(f"layer {name!r} must have po2quant's weight quantizers: use quantize_model")
        if activation_name(layer.activation, name) != LINEAR or layer.get_config().get("mask") is not None:
            raise ValueError(f"layer {name!r} must have neither activation nor mask inside: use quantize_model")
        kernel = integer_weights(weights[name, "kernel"])
        channels = kernel.exponents.size
        nothing = Weights(np.zeros(channels, np.int64), np.zeros(channels, np.int64), kernel.bit_width)
        bias = integer_weights(weights[name, "bias"]) if layer.use_bias else nothing
        return _without_absorbed(kernel, bias, x), bias

    def _free_name(self, name: str) -> str:
        """Return the name, or the first of ``<name>_1``, ``<name>_2``, ... that no tensor has or will have."""
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        free = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(free)
        return free


def _without_absorbed(kernel: Weights, bias: Weights, x: FixedPointFormat) -> Weights:
    """Return the kernel with zeros in the channels whose products Keras loses beside the bias.

    Training lets the weights of unused channels decay, to 1e-24 in MLPerf Tiny's MobileNetV1. In float64 a sum of
    products below a quarter of the bias' last place leaves the bias as it is, whatever the input; integers that kept it
    would break a tie that Keras sees. A bias that decayed as far beside its products can still break
    one here and not there: where sums can be zero no rule makes both equal, and ``inexact_operations`` names the layer.
    """
    largest = [max(-low, high).bit_length() for low, high in weighted_limits(kernel, x)]
    top_of_products = np.array(largest) + kernel.exponents + x.exponent
    lengths = [abs(integer).bit_length() for integer in bias.integers.tolist()]
    quarter_of_last_place = np.array(lengths) + bias.exponents - FLOAT64_PRECISION - 2
    is_absorbed = (bias.integers != 0) & (top_of_products <= quarter_of_last_place)
    return dataclasses.replace(kernel, integers=np.where(is_absorbed, 0, kernel.integers))


def _table(function: _Function, output: FixedPointFormat) -> np.ndarray:
    """Return the output integer of every input integer, from the Keras layer itself in float64."""
    x = function.input.format
    values = x.to_float(np.arange(x.min_int, x.max_int + 1))
    return output.to_int(float64_copy(function.layer)(tf.constant(values)).numpy())
