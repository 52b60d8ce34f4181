"""The forms in which a trained network runs: floats of Keras, the integer program, LiteRT and compiled C."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from po2quant.export.c.run import compile_c
from po2quant.export.c.source import write_c
from po2quant.export.executors import run_litert
from po2quant.export.litert.to_litert import to_litert
from po2quant.integer.interpreter import quantize_inputs, results, run
from po2quant.integer.program import Program

FLOAT, INTEGER, LITERT, C = FORMS = ("float", "integer", "litert", "c")
NETWORKS = DETECTOR, CLASSIFIER = "detector", "classifier"
KERAS_SUFFIX, PROGRAM_SUFFIX = ".keras", ".npz"
BATCH = 16

Predict = Callable[[np.ndarray], np.ndarray]
"""From inputs as the network was trained on, float32 ``(samples, ...)``, to outputs ``(samples, ...)``."""


class Running(NamedTuple):
    """A network that runs.

    Args:
        predict: runs it.
        size: rows and columns of its input.
    """

    predict: Predict
    size: int


@contextmanager
def running(path: Path, form: str) -> Iterator[Running]:
    """Give a network that runs in a form.

    Args:
        path: without its ending: ``.keras`` is a float network, ``.npz`` an integer program.
        form: one of :data:`FORMS`.

    Raises:
        ValueError: for another form, or a file that is missing or damaged.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}. Received: {form!r}")
    if form == FLOAT:
        from po2quant.network.load import load_model

        model = load_model(path.with_suffix(KERAS_SUFFIX))
        yield Running(_in_batches(model.predict_on_batch), model.input_shape[1])
        return
    program = Program.load(path.with_suffix(PROGRAM_SUFFIX))
    with tempfile.TemporaryDirectory() as folder:
        size = program.tensor[program.inputs[0]].shape[0]
        yield Running(_in_batches(program_runner(program, form, Path(folder))), size)


def program_runner(program: Program, form: str, folder: Path) -> Predict:
    """Return a function that runs an integer program as numpy's integers, LiteRT or C, with files in a folder."""
    (output,) = program.outputs
    if form == LITERT:
        file = folder / "network.tflite"
        to_litert(program, file)

        def tensors(integers: list[np.ndarray]) -> dict[str, np.ndarray]:
            return {output.tensor: run_litert(program, file, {program.inputs[0]: integers[0]})[0]}
    elif form == C:
        executable = compile_c(write_c(program, folder, "network"), folder)

        def tensors(integers: list[np.ndarray]) -> dict[str, np.ndarray]:
            return executable.run(integers)
    else:

        def tensors(integers: list[np.ndarray]) -> dict[str, np.ndarray]:
            return run(program, integers)

    return lambda x: results(program, tensors(quantize_inputs(program, x)))[0]


def _in_batches(predict: Predict) -> Predict:
    def predicted(x: np.ndarray) -> np.ndarray:
        return np.concatenate([predict(x[start : start + BATCH]) for start in range(0, len(x), BATCH)])

    return predicted
