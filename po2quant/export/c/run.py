"""Compiles the C of an integer program with gcc and runs it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.export.c.source import TRACE_MACRO, CSource
from po2quant.export.c.types import tensor_dtype
from po2quant.integer.checks import shown
from po2quant.integer.interpreter import Arrays
from po2quant.integer.operations import Block, Recurrent, Shape, Tensor

COMPILER = "gcc"
FLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-Wconversion")


@dataclasses.dataclass(frozen=True)
class Executable:
    """A compiled program that runs a file of inputs.

    Args:
        source: its C files.
        path: the file; those of integers go beside it.
        trace: whether it also writes every tensor.
        command: what runs it in its folder; empty: the file itself, with the names of the files of integers.
    """

    source: CSource
    path: Path
    trace: bool
    command: tuple[str, ...] = ()

    def run(self, integers: Arrays) -> dict[str, np.ndarray]:
        """Run the program on integers.

        Args:
            integers: ``(samples, ...)``, one array for each input, as
                :func:`po2quant.integer.interpreter.quantize_inputs` makes them.

        Returns:
            The outputs by name, or every tensor if it traces, as :func:`po2quant.integer.interpreter.run` returns them.

        Raises:
            ValueError: for integers that do not fit the inputs.
            RuntimeError: where the program fails.
        """
        program = self.source.program
        written = files_of_run(self, integers)[-1]
        if self.trace:
            return _traced(program, np.fromfile(written, _trace(program)))
        tensors = tuple(output.tensor for output in program.outputs)
        record = np.fromfile(written, _record(self.source, tensors))
        return {
            name: record[field].astype(np.int64) for name, field in zip(tensors, record.dtype.names or (), strict=True)
        }


def files_of_run(executable: Executable, integers: Arrays) -> list[Path]:
    """Run a program on integers, and return the files that it read and wrote: inputs, outputs, and tensors if any."""
    arrays: list[Any] = [*integers] if isinstance(integers, (list, tuple)) else [integers]
    samples = _samples(executable.source, executable.source.program.inputs, arrays)
    names = ("inputs.bin", "outputs.bin", "tensors.bin")[: 3 if executable.trace else 2]
    files = [executable.path.with_name(name) for name in names]
    samples.tofile(files[0])
    call(executable.command or [executable.path, *files], executable.path.parent)
    return files


def compile_c(source: CSource, folder: str | os.PathLike, trace: bool = False, flags: Sequence[str] = ()) -> Executable:
    """Compile the program that runs a file of inputs.

    Args:
        source: what :func:`po2quant.export.c.source.write_c` returned.
        folder: where the executable goes; it is made if there is none.
        trace: also write every tensor.
        flags: for gcc, beside :data:`FLAGS`.

    Raises:
        ValueError: without gcc.
        RuntimeError: where gcc refuses the files.
    """
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise ValueError(f"running an integer program in C needs {COMPILER} on the PATH. Received: none")
    executable = Path(folder, source.name).absolute()
    executable.parent.mkdir(parents=True, exist_ok=True)
    macros = [f"-D{TRACE_MACRO}"] if trace else []
    call([compiler, *FLAGS, *macros, *flags, "-o", executable, source.source, source.main])
    return Executable(source, executable, trace)


def _record(source: CSource, names: Sequence[str]) -> np.dtype:
    """Return the type of one sample in a file: tensors one after the other."""
    tensors = [source.program.tensor[name] for name in names]
    return np.dtype([(f"tensor_{i}", tensor_dtype(tensor), tensor.shape) for i, tensor in enumerate(tensors)])


def _trace(block: Block) -> np.dtype:
    """Return the type of what a block traces: its inputs, then each output, behind all steps of a cell."""
    fields: list[Any] = [_field(block.tensor[name]) for name in block.inputs]
    for operation in block.operations:
        if isinstance(operation, Recurrent):
            fields.append((_trace(operation.cell), (operation.steps,)))
        fields.append(_field(block.output_of(operation)))
    return np.dtype([(f"field_{place}", *field) for place, field in enumerate(fields)])


def _field(tensor: Tensor) -> tuple[np.dtype, Shape]:
    return tensor_dtype(tensor), tensor.shape


def _traced(block: Block, record: np.ndarray) -> dict[str, np.ndarray]:
    """Return every tensor by name, given what :func:`_trace` describes."""
    fields = iter(record.dtype.names or ())
    tensors = {name: record[next(fields)].astype(np.int64) for name in block.inputs}
    for operation in block.operations:
        if isinstance(operation, Recurrent):
            tensors |= _traced(operation.cell, record[next(fields)])
        tensors[operation.output] = record[next(fields)].astype(np.int64)
    return tensors


def _samples(source: CSource, names: Sequence[str], arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return inputs as they go into a file."""
    shapes = [np.shape(array) for array in arrays]
    expected = [(*shape[:1], *source.program.tensor[name].shape) for name, shape in zip(names, shapes, strict=False)]
    if len(arrays) != len(names) or shapes != expected or len({shape[0] for shape in shapes}) != 1:
        wanted = ", ".join(f"{name} {source.program.tensor[name].shape}" for name in names)
        raise ValueError(f"inputs must have as many samples each of {wanted}. Received: {shapes}")
    samples = np.empty(shapes[0][0], _record(source, names))
    for name, field, array in zip(names, samples.dtype.names or (), arrays, strict=True):
        format = source.program.tensor[name].format
        array = np.asarray(array)
        low, high = array.min(initial=0), array.max(initial=0)
        if array.dtype.kind not in "iu" or low < format.min_int or high > format.max_int:
            raise ValueError(
                f"input {shown(name)} must be integers in [{format.min_int}, {format.max_int}]. "
                f"Received: {array.dtype.name} from {low} to {high}"
            )
        samples[field] = array
    return samples


def call(command: Sequence[str | os.PathLike], folder: Path | None = None) -> str:
    """Run a command, in a folder or here, and return what it says; RuntimeError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} must succeed. Received: exit {done.returncode}: {done.stderr}")
    return done.stdout
