"""Runs exchange files in the executors of others, to compare their integers with the interpreter's."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from po2quant.export.environments import TFLITE_MICRO
from po2quant.export.exchange import require
from po2quant.export.litert.rounding import Storage
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
        interpreter.set_tensor(details["index"], _stored(program, name, integers))
    interpreter.invoke()
    details = interpreter.get_output_details()
    return _integers(program, [interpreter.get_tensor(output["index"]) for output in details])


def run_tflite_micro(
    files: Sequence[tuple[Program, str | os.PathLike]], integers: dict[str, np.ndarray]
) -> list[list[np.ndarray]]:
    """Run LiteRT files in tflite-micro, whose kernels are those of microcontrollers, in an environment of its own.

    Args:
        files: what each was written from, and its path.
        integers: of all inputs by name, ``(samples, *shape)``.

    Returns:
        For each file, the program's integers of each output, ``(samples, *shape)``, int64.

    Raises:
        ValueError: where the environment is missing, or tflite-micro refuses a file.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number, (program, path) in enumerate(files):
            shutil.copyfile(path, Path(folder, f"{number}.tflite"))
            stored = {str(place): _stored(program, name, integers) for place, name in enumerate(program.inputs)}
            np.savez(Path(folder, f"{number}.npz"), outputs=len(program.outputs), **stored)  # type: ignore[arg-type]
        TFLITE_MICRO.run(Path(__file__).with_name("litert") / "run_micro.py", Path(folder))
        found = []
        for number, (program, _) in enumerate(files):
            with np.load(Path(folder, f"{number}.out.npz")) as computed:
                found.append(_integers(program, [computed[str(place)] for place in range(len(program.outputs))]))
    return found


def _integers(program: Program, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the program's integers of outputs of a LiteRT file."""
    storage = Storage.of(program)
    zeros = [storage.zero_point(program.tensor[output.tensor].format) for output in program.outputs]
    return [array.astype(np.int64) - zero for array, zero in zip(arrays, zeros, strict=True)]


def _stored(program: Program, name: str, integers: dict[str, np.ndarray]) -> np.ndarray:
    """Return the integers of an input as a LiteRT file has them."""
    storage = Storage.of(program)
    return (integers[name] + storage.zero_point(program.tensor[name].format)).astype(storage.kind)


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
