"""The proof: Keras in float64, the interpreter and the compiled C compute the same integers."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from po2quant.benchmark import Benchmark, Score, Split
from po2quant.deploy.reference import KERAS, PROGRAM, Arrays, Float64Network, batches, inexact_operations
from po2quant.export.c.run import Executable
from po2quant.integer.comparison import Comparer, Comparison, Mismatch
from po2quant.integer.interpreter import quantize_inputs, results, run
from po2quant.integer.program import Program
from po2quant.progress import SILENT, ProgressLine, progress_line
from po2quant.training.prepare import EVALUATION_BATCH_SIZE, network_inputs

C = "C"
SCORE_BATCH_SIZE = 512
"""Samples at a time: a bound on memory and on the files of integers."""

Predictor = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a verification found.

    Args:
        keras: the interpreter compared with Keras in float64, every quantized tensor.
        c: the compiled C compared with the interpreter, every tensor of the program.
        inexact: operations whose sums might need more bits than float64 has.
    """

    keras: Comparison
    c: Comparison
    inexact: tuple[str, ...]

    @property
    def mismatches(self) -> int:
        """Integers that differ in either comparison."""
        return self.keras.mismatches + self.c.mismatches

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON has it; ``first`` has both integers under the names of who computed them."""
        comparisons = (self.keras, self.c)
        return {
            "samples": self.keras.samples,
            "tensors": self.keras.tensors,
            "integers": sum(comparison.integers for comparison in comparisons),
            "mismatches": self.mismatches,
            "first": next(
                (_shown(comparison, comparison.first) for comparison in comparisons if comparison.first), None
            ),
            "inexact": list(self.inexact),
            "comparisons": [dataclasses.asdict(comparison) for comparison in comparisons],
        }


def _shown(comparison: Comparison, mismatch: Mismatch) -> dict[str, Any]:
    return {
        "layer": mismatch.layer,
        "tensor": mismatch.tensor,
        "index": list(mismatch.index),
        comparison.computed_by: mismatch.computed,
        comparison.expected_by: mismatch.expected,
    }


def verify(
    program: Program, model: keras.Model, executable: Executable, x: Arrays, line: ProgressLine = SILENT
) -> Verification:
    """Compute every tensor three times and compare.

    Args:
        program: the integer program of ``model``.
        model: the frozen network.
        executable: the program in C, compiled with ``trace=True``.
        x: ``(samples, ...)``, one array for each model input.
        line: shows progress, in samples.

    Raises:
        ValueError: for no samples, or an executable that writes its outputs only.
    """
    if not executable.trace:
        raise ValueError("the executable must write every tensor: compile it with trace=True. Received: trace=False")
    network = Float64Network(model)
    with_keras, with_c = Comparer(program, PROGRAM, KERAS), Comparer(program, C, PROGRAM)
    for batch in network.batches(x):
        integers = quantize_inputs(program, batch)
        computed = run(program, integers)
        with_keras.add(computed, network(batch))
        with_c.add(executable.run(integers), computed)
        line.advance(len(batch[0]))
    return Verification(with_keras.result(), with_c.result(), inexact_operations(program))


def predictor(executable: Executable, line: ProgressLine = SILENT) -> Predictor:
    """Return a function from inputs to outputs, as :class:`~po2quant.benchmark.Benchmark` scores it, that runs the C.

    Args:
        executable: a program of one input and one output.
        line: shows progress, in network inputs.
    """
    program = executable.source.program
    shape = program.tensor[program.inputs[0]].shape

    def predict(x: np.ndarray) -> np.ndarray:
        outputs = []
        for batch in batches(x.reshape(-1, *shape), SCORE_BATCH_SIZE):
            (values,) = results(program, executable.run(quantize_inputs(program, batch)))
            outputs.append(values.astype(np.float32))
            line.advance(len(values))
        return np.concatenate(outputs)

    return predict


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the C program and Keras score on a split.

    Args:
        c: of the C program.
        keras: of Keras in float32, whose sums of wide tensors and 31-bit biases are not exact.
        decided_otherwise: where the scores differ, the network inputs whose largest output is another one,
            ``(samples, ...)``, else none. :func:`verify` tells whether Keras in float64 agrees with the C.
    """

    c: Score
    keras: Score
    decided_otherwise: np.ndarray

    def __str__(self) -> str:
        """Return the scores as a sentence."""
        return f"{self.c.metric} on {self.c.samples} samples: {C} {self.c.value:.6f}, Keras {self.keras.value:.6f}"

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON has them."""
        return {
            "metric": self.c.metric,
            "test_samples": self.c.samples,
            "score_c": self.c.value,
            "score_keras": self.keras.value,
            "decided_otherwise": len(self.decided_otherwise),
        }


def score(benchmark: Benchmark, model: keras.Model, executable: Executable, split: Split) -> Scores:
    """Score the C program of a frozen network, and Keras.

    Args:
        benchmark: scores outputs.
        model: the frozen network.
        executable: its program in C.
        split: test split.
    """
    shape = model.input_shape[1:]
    with progress_line(f"score {C}", split.x.size // math.prod(shape)) as line:
        of_c, decisions_of_c = _decided(benchmark, predictor(executable, line), split)
    of_keras, decisions_of_keras = _decided(benchmark, functools.partial(_predict, model), split)
    if of_c.value == of_keras.value:
        return Scores(of_c, of_keras, np.empty((0, *shape), np.float32))
    return Scores(of_c, of_keras, network_inputs(split.inputs(), model)[decisions_of_c != decisions_of_keras])


def _predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return model.predict(network_inputs(x, model), batch_size=EVALUATION_BATCH_SIZE, verbose=0)


def _decided(benchmark: Benchmark, predict: Predictor, split: Split) -> tuple[Score, np.ndarray]:
    """Return the score and, of each network input, which output is the largest."""
    decisions = []

    def recorded(x: np.ndarray) -> np.ndarray:
        outputs = predict(x)
        decisions.append(outputs.argmax(axis=-1))
        return outputs

    return benchmark.score(recorded, split), np.concatenate(decisions)
