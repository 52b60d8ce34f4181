"""Writes an integer program as an ESP-DL file, with esp-ppq's own exporter, for ESP32-P4 and ESP32-S3.

The exporter lives in an environment of its own, which ``scripts/espdl_environment.sh`` makes: it wants other versions
of packages than po2quant does.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.export.environments import ESP_PPQ
from po2quant.export.onnx.graph import NODES, OnnxGraph, as_convolution, channels_first, first, write_onnx
from po2quant.integer import operations as ops
from po2quant.integer.checks import shown
from po2quant.integer.operations import Shape, Tensor
from po2quant.integer.program import Program
from po2quant.targets import TARGETS, TENSOR, Target, misfits

CHIPS = {"esp32-p4": "esp32p4", "esp32-s3": "esp32s3"}
"""What esp-ppq calls the targets."""


def target_of_program(program: Program) -> Target:
    """Return which of the two chips computes a program.

    Raises:
        ValueError: where none does, with what is in the way.
    """
    obstacles = {}
    for name in CHIPS:
        obstacles[name] = misfits(program, TARGETS[name])
        if not obstacles[name]:
            return TARGETS[name]
    closest = min(obstacles, key=lambda name: len(obstacles[name]))
    raise ValueError(
        f"a network for ESP-DL must be made for target {' or '.join(CHIPS)}. Received: {'; '.join(obstacles[closest])}"
    )


def to_espdl(
    program: Program, path: str | os.PathLike, inputs: list[np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Write a program as an ESP-DL file, with a sample and its outputs for the chip's own test.

    Args:
        program: the integer program of a network for target ``esp32-p4`` or ``esp32-s3``.
        path: of the file; beside it stands ``<name>.info``, its content as text.
        inputs: integers, ``(samples, *shape)`` of each input, the first of which becomes the test; None: random ones.

    Returns:
        Every tensor that is quantized by name, ``(samples, *shape)``, as esp-ppq's executor computes it.

    Raises:
        ValueError: for a program of no such target, an operation that has no form there, or where esp-ppq is missing.

    Example:
        >>> to_espdl(integer_program(model), "network.espdl")  # doctest: +SKIP
    """
    target = target_of_program(program)
    if reason := ESP_PPQ.refusal():
        raise ValueError(reason)
    graph = EspdlGraph(program)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_onnx(place / "graph.onnx", graph.model())
        (place / "quantization.json").write_text(json.dumps(graph.quantization(target)))
        integers = inputs or [_random(program.tensor[name]) for name in program.inputs]
        named = zip(program.inputs, integers, strict=True)
        formats = {name: program.tensor[name].format for name in program.inputs}
        values = {name: _channels_first(formats[name].to_float(array)).astype(np.float32) for name, array in named}
        for file, arrays in {"inputs": values, "biases": graph.biases}.items():
            np.savez(place / f"{file}.npz", **arrays)  # type: ignore[arg-type]
        ESP_PPQ.run(Path(__file__).with_name("convert.py"), place)
        for suffix in (".espdl", ".info"):
            shutil.copyfile(place / f"network{suffix}", Path(path).with_suffix(suffix))
        with np.load(place / "integers.npz") as found:
            computed = {name: _channels_last(found[name].astype(np.int64)) for name in found.files}
    return {name: array for name, array in computed.items() if name in program.tensor}


def _random(tensor: Tensor) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(tensor.format.min_int, tensor.format.max_int + 1, (1, *tensor.shape))


def _channels_first(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def _channels_last(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


class _Floats:
    """Weights as plain numbers; what is quantized is said beside the graph."""

    def __init__(self) -> None:
        self.domains: dict[str, int] = {}

    def quantize(self, graph: OnnxGraph, value: str, tensor: Tensor) -> None:
        """Add nothing."""

    def weights(self, graph: OnnxGraph, name: str, weights: ops.Weights) -> str:
        """Add weights as float32."""
        integers, axis = channels_first(weights)
        exponents = weights.exponents.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
        return graph.constant(name, np.ldexp(integers.astype(np.float64), exponents).astype(np.float32))


class EspdlGraph(OnnxGraph):
    """The ONNX graph of a program with channels first at its ends, and the exponents of all that is quantized.

    Args:
        program: the integer program.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program, _Floats(), samples=1)
        self.program = program  # as it is: constant channels would get scales of their own
        self.exponents: dict[str, list[int]] = {}
        self.biases: dict[str, np.ndarray] = {}
        self._by_channel: list[str] = []

    def quantization(self, target: Target) -> dict[str, Any]:
        """Return what :mod:`po2quant.export.espdl.convert` is told beside the graph; :meth:`model` comes first."""
        is_one = target.scales == TENSOR
        exponents = {name: values[:1] if is_one else values for name, values in self.exponents.items()}
        return {
            "chip": CHIPS[target.name],
            "bits": self.program.tensor[self.program.inputs[0]].format.bit_width,
            "exponents": exponents,
            "by_channel": [] if is_one else self._by_channel,
            "inputs": list(self.program.inputs),
            "outputs": list(dict.fromkeys(output.tensor for output in self.program.outputs)),
        }

    def node(self, kind: str, inputs: Sequence[str], output: str, shape: Shape, *rest: Any, **options: Any) -> str:
        """Add a node; one that moves integers has the exponent of what it moves."""
        name = super().node(kind, inputs, output, shape, *rest, **options)
        if kind in MOVING and inputs[0] in self.exponents:
            self.exponents[name] = self.exponents[inputs[0]]
        return name

    def _add_input(self, tensor: Tensor) -> Any:
        self.exponents[tensor.name] = [tensor.format.exponent]
        self._values[tensor.name] = self._value_info(tensor.name, first(tensor.shape))
        return self._values[tensor.name]

    def _add_output(self, tensor: Tensor, outputs: dict[str, Any]) -> None:
        outputs[tensor.name] = self._values[tensor.name]

    def _add(self, operation: ops.Operation) -> None:
        output, shape = self.program.output_of(operation), self.program.shape_of(operation)
        value = OPERATORS.of(operation)(self, operation, self.program.inputs_of(operation), output, shape)
        if not isinstance(operation, ops.Moving):
            if operation.activation == ops.RELU6:
                raise self._refusal(operation, "ReLU or nothing at its end", "ReLU6")
            value = self._activated(operation, value, shape)
            self.exponents[value] = [output.format.exponent]
            if shape != output.shape:
                value = self._reshape(value, output.shape, f"{operation.name}/reshaped")
            self._rename_last(value, output.name)
        self._check_last(output)

    def _rename_last(self, value: str, name: str) -> None:
        node, info = self._nodes[-1], self._values.pop(value)
        node.output[0] = node.name = info.name = name
        self._values[name] = info
        self.exponents[name] = self.exponents.pop(value)

    def _channels_last(self, value: str, shape: Shape) -> str:
        return value if shape[:-1] == (1, 1) else super()._channels_last(value, shape)

    def layer(self, operation: ops.Weighted, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add a convolution, or a matrix product of vectors, with its bias in units of the products."""
        (x,), name = inputs, operation.name
        is_vector = len(x.shape) == 1
        if len(x.shape) == 2:
            raise self._refusal(operation, "vectors or images as input", f"shape {shown(x.shape)}")
        kernel, options = as_convolution(operation)
        products, bias = kernel.exponents + x.format.exponent, operation.bias
        names = f"{name}/kernel", f"{name}/bias"
        for part, exponents in zip(names, (kernel.exponents, products), strict=True):
            self.exponents[part] = exponents.tolist()
            self._by_channel.append(part)
        self.biases[names[1]] = bias.integers
        values = self._style.weights(self, names[0], kernel)
        if is_vector:
            self._constants[values] = self._constants[values][:, :, 0, 0]
        terms = [x.name, values, self._style.weights(self, names[1], bias)]
        if is_vector:
            return self.node("Gemm", terms, f"{name}/computed", shape, transB=1)
        return self.node("Conv", terms, f"{name}/computed", first(shape), **options)

    def pair(self, operation: ops.Operation, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add a sum or product of two tensors."""
        if len(inputs) != 2:
            raise self._refusal(operation, "two inputs", str(len(inputs)))
        return self.join(operation, inputs, output, shape)

    def table(self, operation: ops.LookUpTable, inputs: tuple[Tensor, ...], output: Tensor, shape: Shape) -> str:
        """Add a sigmoid where float32 gives the table's integers."""
        value = self.look_up(operation, inputs, output, shape)
        if self._nodes[-1].op_type != "Sigmoid":
            raise self._refusal(operation, "a sigmoid that float32 computes as the table has it", operation.function)
        return value

    def _refusal(self, operation: ops.Operation, valid: str, received: str) -> ValueError:
        return ValueError(f"operation {shown(operation.name)} must have {valid} for ESP-DL. Received: {received}")


MOVING = ("Transpose", "Reshape", "Pad", "Gather")

OWN: dict[Callable, Callable] = {
    OnnxGraph.weighted: EspdlGraph.layer,
    OnnxGraph.join: EspdlGraph.pair,
    OnnxGraph.look_up: EspdlGraph.table,
}
"""What stands here for a function of ONNX's."""

OPERATORS: ops.Handlers[Callable[[Any, Any, tuple[Tensor, ...], Tensor, Shape], str]] = ops.Handlers(
    "the ESP-DL writer",
    {
        kind: OWN.get(function, function)
        for kind, function in NODES.functions.items()
        if kind.__name__ in TARGETS["esp32-p4"].operations
    },
)
"""What adds the nodes of each operation that the chips have."""
