"""Runs exchange files in the executors of others, to compare their integers with the interpreter's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from po2quant.export.exchange import require
from po2quant.export.litert.to_litert import zero_point
from po2quant.export.onnx.to_onnx import integers_of
from po2quant.integer.program import Output, Program

XNNPACK, OPTIMIZED, REFERENCE = "XNNPACK", "optimized", "reference"
LITERT_KERNELS = {
    XNNPACK: "BUILTIN",
    OPTIMIZED: "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    REFERENCE: "BUILTIN_REF",
}
"""LiteRT's implementations of its operators, and what its interpreter calls them."""


def run_qonnx(program: Program, path: str | os.PathLike, x: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Run a QONNX file in qonnx's executor.

    Args:
        program: what the file was written from.
        path: of the file.
        x: values of the inputs, ``(samples, ...)``, as for Keras.

    Returns:
        Every tensor by name, ``(samples, *shape)``, float64: integers, unless the file is wrong.
    """
    wrapper = require("qonnx.core.modelwrapper", "running a QONNX file")
    executor = require("qonnx.core.onnx_exec", "running a QONNX file")
    model = wrapper.ModelWrapper(os.fspath(path))
    values: dict[str, list[np.ndarray]] = {tensor.name: [] for tensor in program.tensors}
    for sample in _samples(x):
        computed = executor.execute_onnx(model, _feeds(program, sample), True)
        for name, arrays in values.items():
            arrays.append(_channels_last(computed[name]))
    return {
        name: np.ldexp(np.concatenate(arrays).astype(np.float64), -program.tensor[name].format.exponent)
        for name, arrays in values.items()
    }


def run_onnx(
    program: Program, path: str | os.PathLike, x: list[np.ndarray], optimized: bool = False
) -> dict[str, np.ndarray]:
    """Run a plain ONNX file in onnxruntime, on one thread.

    Args:
        program: what the file was written from.
        path: of the file.
        x: values of the inputs, ``(samples, ...)``, as for Keras.
        optimized: whether onnxruntime's graph optimizer may change the file.

    Returns:
        Every tensor that the file stores as integers by name, ``(samples, *shape)``: all but those that only move.
    """
    onnx = require("onnx", "running an ONNX file")
    runtime = require("onnxruntime", "running an ONNX file")
    model = onnx.load(os.fspath(path))
    names = {integers_of(tensor.name): tensor.name for tensor in program.tensors}
    stored = [value for value in model.graph.value_info if value.name in names]
    model.graph.output.extend(stored)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    level = runtime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arrays = session.run([value.name for value in stored], _feeds(program, x))
    return {names[value.name]: _channels_last(array) for value, array in zip(stored, arrays, strict=True)}


def run_litert(
    program: Program, path: str | os.PathLike, integers: dict[str, np.ndarray], kernels: str = XNNPACK
) -> list[np.ndarray]:
    """Run a LiteRT file in its interpreter, on one thread.

    Args:
        program: what the file was written from.
        path: of the file.
        integers: of the inputs by name, ``(samples, *shape)``.
        kernels: one of :data:`LITERT_KERNELS`.

    Returns:
        The program's integers of each output, ``(samples, *shape)``, int64.
    """
    litert = require("ai_edge_litert.interpreter", "running a LiteRT file")
    resolver = litert.OpResolverType[LITERT_KERNELS[kernels]]
    interpreter = litert.Interpreter(os.fspath(path), experimental_op_resolver_type=resolver, num_threads=1)
    inputs = list(zip(program.inputs, interpreter.get_input_details(), strict=True))
    for name, details in inputs:
        interpreter.resize_tensor_input(details["index"], integers[name].shape)
    interpreter.allocate_tensors()
    for name, details in inputs:
        stored = integers[name] + zero_point(program.tensor[name].format)
        interpreter.set_tensor(details["index"], stored.astype(np.int8))
    interpreter.invoke()
    return [
        interpreter.get_tensor(details["index"]).astype(np.int64) - zero_point(program.tensor[output.tensor].format)
        for output, details in zip(program.outputs, interpreter.get_output_details(), strict=True)
    ]


def single_operations(program: Program) -> Iterator[Program]:
    """Yield, for each operation, the program of it alone, so that no difference comes from another one."""
    for operation in program.operations:
        names = dict.fromkeys((*operation.inputs, operation.output))
        yield dataclasses.replace(
            program,
            tensors=tuple(program.tensor[name] for name in names),
            inputs=tuple(dict.fromkeys(operation.inputs)),
            operations=(operation,),
            outputs=(Output(operation.output),),
        )


def _feeds(program: Program, x: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}/input": np.asarray(array, np.float32) for name, array in zip(program.inputs, x, strict=True)}


def _samples(x: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for sample in range(len(x[0])):
        yield [array[sample : sample + 1] for array in x]


def _channels_last(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
