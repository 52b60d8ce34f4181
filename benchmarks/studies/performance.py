"""How long a training step, a trial's set-up, calibration and inference take, against the float network.

``python -m benchmarks.studies.performance`` measures the six published networks on random data and writes
``benchmarks/results/performance.csv``: hours on 2 cores. All variants of a network are built in one process and timed
in turn, round after round, so that a busy machine slows all of them alike. ``--training-step`` times the training step
alone, at the batch size of each recipe, in the least processor seconds of all rounds: minutes for a small network.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import qkeras
import tensorflow as tf

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.models import models_with_data
from benchmarks.studies.provenance import command_line, versions
from benchmarks.studies.rows import replace_rows
from po2quant.benchmark import NetworkSpec, Recipe, load_benchmark
from po2quant.bit_config import BitConfig
from po2quant.compat import build_loss_and_metrics
from po2quant.graphs import graphs_released
from po2quant.network import (
    activation_quantizers,
    calibrate,
    flat_config,
    fold_batch_norm,
    quantize_model,
    weight_quantizers,
)
from po2quant.progress import SILENT, ProgressLine, progress_line
from po2quant.quantizers import AUTO, AUTO_PO2, LEARNED_PO2
from po2quant.runs.folder import project_commit
from po2quant.search.trial import trial_input_count
from po2quant.training.exponents import search_exponents
from po2quant.training.fit import compile_model
from po2quant.training.prepare import CALIBRATION_SAMPLES
from po2quant.training.reusable import ReusableNetwork

MODELS = models_with_data()
OUTPUT, STEP_OUTPUT = Path("benchmarks/results/performance.csv"), Path("benchmarks/results/training-step.csv")
KEY = ("benchmark", "model")
BITS, BATCH_SIZE, ROUNDS = 8, 32, 5
EXPONENT_INTERVAL = 8
STEPS = 2 * EXPONENT_INTERVAL
PACKAGES = ("tensorflow", "keras", "qkeras-v3", "numpy")

FLOAT, FOLDED = "float", "float_folded"
STOCK = {"stock_auto": AUTO, "stock_auto_po2": AUTO_PO2}
OURS = {
    "auto": (AUTO, "static"),
    "auto_po2": (AUTO_PO2, "static"),
    "auto_po2_per_sample": (AUTO_PO2, "per_sample"),
    "learned_po2": (LEARNED_PO2, "static"),
}
KEPT = "auto_po2_kept"
"""As ``auto_po2``, with exponents of weights that are searched at every :data:`EXPONENT_INTERVAL`-th training step."""
STEP_VARIANTS = (FLOAT, FOLDED, "auto", "auto_po2", KEPT, "learned_po2")
"""What ``--training-step`` compares."""
STATIC = tuple(name for name, (_, activation_scale) in OURS.items() if activation_scale == "static")

TRAINING_STEP, INFERENCE, CALIBRATION = "training_step", "inference", "calibration"
FIRST_SETUP, LATER_SETUP = "first_setup", "later_setup"
PER_STEP = (TRAINING_STEP, INFERENCE)
REPEATED = (*PER_STEP, CALIBRATION, LATER_SETUP)

Seconds = dict[str, dict[str, list[float]]]
"""Times by measure and variant, one per round."""


@dataclasses.dataclass
class Timings:
    """What one network took.

    Args:
        seconds: times by measure and variant, one per round.
        errors: why a variant could not be built.
        trial_samples: inputs that calibrate it in a set-up.
    """

    seconds: Seconds = dataclasses.field(default_factory=dict)
    errors: dict[str, str] = dataclasses.field(default_factory=dict)
    trial_samples: int = CALIBRATION_SAMPLES


@dataclasses.dataclass(frozen=True)
class Workload:
    """What every variant of a network is given.

    Args:
        recipe: loss and metrics.
        config: widths of the quantized variants.
        x: one batch of inputs.
        y: its targets.
        calibration_inputs: inputs that set activation ranges.
    """

    recipe: Recipe
    config: BitConfig
    x: tf.Tensor
    y: tf.Tensor
    calibration_inputs: tf.Tensor

    @classmethod
    def random(cls, spec: NetworkSpec, recipe: Recipe, batch_size: int = BATCH_SIZE) -> Workload:
        """Return random inputs; targets are classes where the loss takes class indices, else the inputs."""
        model, rng = spec.new_network(), np.random.default_rng(0)
        inputs = rng.random((CALIBRATION_SAMPLES, *model.input_shape[1:]), np.float32)
        x = tf.constant(inputs[:batch_size])
        is_classifier = recipe.loss.startswith("sparse_")
        y = rng.integers(model.output_shape[-1], size=batch_size, dtype=np.int32) if is_classifier else x
        return cls(recipe, flat_config(model, BITS, spec.placement), x, tf.constant(y), tf.constant(inputs))


def in_turn(
    tasks: Mapping[str, Callable[[], Any]],
    rounds: int,
    repeats: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of a clock that one call of each task takes, as means over the repeats of a round.

    Each task is called once before, untimed; a round then calls all of them, one after the other.
    """
    for task in tasks.values():
        task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = clock()
            for _ in range(repeats):
                task()
            seconds[name].append((clock() - start) / repeats)
    return seconds


def stock_network(spec: NetworkSpec, alpha: str) -> keras.Model:
    """Return the quantized network with qkeras' ``quantized_bits`` in the place of every quantizer of ours.

    Activations too, as qkeras offers it: the scale of a batch, per channel, at run time.
    """
    model = _quantized(spec, alpha, "static")
    for weight in list(weight_quantizers(model)):
        part = "depthwise" if hasattr(weight.layer, "depthwise_quantizer_internal") else "kernel"
        name = "bias" if weight.part == "bias" else part
        setattr(weight.layer, f"{name}_quantizer_internal", _stock_quantizer(alpha))
    for name, _ in list(activation_quantizers(model)):
        model.get_layer(name).activation = _stock_quantizer(alpha)
    return model


def _stock_quantizer(alpha: str) -> qkeras.quantizers.quantized_bits:
    return qkeras.quantizers.quantized_bits(BITS, BITS, 1, 1, alpha=alpha)


def _quantized(spec: NetworkSpec, alpha: str, activation_scale: str) -> keras.Model:
    model = spec.new_network()
    return quantize_model(model, flat_config(model, BITS, spec.placement), alpha, spec.placement, activation_scale)


def builders(spec: NetworkSpec) -> dict[str, Callable[[], keras.Model]]:
    """Return what builds each variant of a network."""
    return {
        FLOAT: spec.new_network,
        FOLDED: lambda: fold_batch_norm(spec.new_network()),
        **{name: functools.partial(stock_network, spec, alpha) for name, alpha in STOCK.items()},
        **{name: functools.partial(_quantized, spec, *scales) for name, scales in OURS.items()},
        KEPT: functools.partial(_quantized, spec, *OURS["auto_po2"]),
    }


def measure_model(
    variants: Mapping[str, Callable[[], keras.Model]],
    work: Workload,
    rounds: int,
    steps: int,
    line: ProgressLine = SILENT,
) -> Timings:
    """Time the variants of a network in this process.

    A first set-up builds and compiles a network and takes its first step; for ours it is that of a search's first
    trial. A later one resets the network for the next trial, calibration included. The first step alone is measured by
    :mod:`benchmarks.studies.first_step`.

    Args:
        variants: what builds each of them; a stock variant may fail.
        work: what they are given.
        rounds: times of each measure.
        steps: training steps, or batches of inference, per round.
        line: shows progress, in measures.
    """
    timings = Timings()
    models, networks = _set_up_all(variants, work, timings, line)
    calibrated = [variant for variant in STATIC if variant in models]
    steps_of = _training_steps(models, work)
    batches_of = {
        name: functools.partial(model.predict_on_batch, work.x) for name, model in models.items() if name != KEPT
    }
    calibrations = {name: functools.partial(calibrate, models[name], work.calibration_inputs) for name in calibrated}
    resets = {
        name: functools.partial(network.reset, work.config, work.calibration_inputs[: timings.trial_samples])
        for name, network in networks.items()
    }
    tasks = {TRAINING_STEP: steps_of, INFERENCE: batches_of, CALIBRATION: calibrations, LATER_SETUP: resets}
    for measure in REPEATED:
        line.update(message=measure)
        timings.seconds[measure] = in_turn(tasks[measure], rounds, steps if measure in PER_STEP else 1)
        line.advance()
    return timings


def measure_training_step(
    variants: Mapping[str, Callable[[], keras.Model]], work: Workload, rounds: int, steps: int
) -> Timings:
    """Time the training step of the variants of a network in this process, in its processor seconds."""
    models, _ = _set_up_all(variants, work, Timings(), SILENT)
    return Timings({TRAINING_STEP: in_turn(_training_steps(models, work), rounds, steps, time.process_time)})


def _training_steps(models: Mapping[str, keras.Model], work: Workload) -> dict[str, Callable[[], Any]]:
    steps_of = {name: functools.partial(model.train_on_batch, work.x, work.y) for name, model in models.items()}
    if KEPT in models:
        steps_of[KEPT] = _step_that_keeps_exponents(models[KEPT], steps_of[KEPT])
    return steps_of


def _step_that_keeps_exponents(model: keras.Model, step: Callable[[], Any]) -> Callable[[], None]:
    """Return a step before which exponents are searched as in training: every so many times, the first included."""
    numbers = itertools.count()

    def step_after_search() -> None:
        if next(numbers) % EXPONENT_INTERVAL == 0:
            search_exponents(model)
        step()

    return step_after_search


def _set_up_all(
    variants: Mapping[str, Callable[[], keras.Model]], work: Workload, timings: Timings, line: ProgressLine
) -> tuple[dict[str, keras.Model], dict[str, ReusableNetwork]]:
    """Return all variants after their first step, and those of ours as reusable networks."""
    models, networks = {}, {}

    def set_up(variant: str) -> None:
        model = variants[variant]()
        if variant in OURS:
            networks[variant] = ReusableNetwork(model, work.recipe)
        elif variant == KEPT:
            compile_model(model, dataclasses.replace(work.recipe, exponent_interval=EXPONENT_INTERVAL))
        else:
            compile_model(model, work.recipe)
        build_loss_and_metrics(model, tf.TensorSpec(work.y.shape, work.y.dtype))
        if variant in OURS:
            timings.trial_samples = trial_input_count(model)
            networks[variant].reset(work.config, work.calibration_inputs[: timings.trial_samples])
        elif variant == KEPT:
            calibrate(model, work.calibration_inputs[: timings.trial_samples])
            search_exponents(model)
        model.train_on_batch(work.x, work.y)
        models[variant] = model

    set_up(FLOAT)  # what TensorFlow does once in a process is no part of any set-up
    first_setup = timings.seconds.setdefault(FIRST_SETUP, {})
    for variant in variants:
        line.update(message=f"building {variant}")
        start = time.perf_counter()
        try:
            set_up(variant)
        except Exception as error:
            if variant not in STOCK:
                raise
            timings.errors[variant] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            continue
        first_setup[variant] = [time.perf_counter() - start]
    return models, networks


def rows_of(
    label: str,
    timings: Timings,
    facts: Mapping[str, Any],
    of_rounds: Callable[[Sequence[float]], float] = statistics.median,
) -> list[dict[str, Any]]:
    """Return a row for each measure and variant: one time of its rounds, and its ratios to those of float networks.

    Args:
        label: ``<benchmark>/<model>``.
        timings: what :func:`measure_model` returns.
        facts: further columns, the same in every row.
        of_rounds: median or least of a variant's times.
    """
    benchmark, model = label.split("/")
    rows = []
    for measure, seconds in timings.seconds.items():
        times = {variant: of_rounds(rounds) for variant, rounds in seconds.items()}
        samples = timings.trial_samples if measure in (FIRST_SETUP, LATER_SETUP) else CALIBRATION_SAMPLES
        for variant in dict.fromkeys([*times, *(timings.errors if measure == TRAINING_STEP else ())]):
            taken = times.get(variant)
            row = {"benchmark": benchmark, "model": model, "measure": measure, "variant": variant}
            row["milliseconds"] = None if taken is None else round(1000 * taken, 4)
            for column, reference in (("ratio_to_float", FLOAT), ("ratio_to_folded_float", FOLDED)):
                known = taken is not None and reference in times
                row[column] = round(taken / times[reference], 4) if known else None
            rows.append(
                row
                | {"rounds": len(seconds.get(variant, ())), "calibration_samples": samples}
                | facts
                | {"error": timings.errors.get(variant)}
            )
    return rows


def machine_facts(command: str, steps: int, batch_size: int = BATCH_SIZE) -> dict[str, Any]:
    """Return what a reader must know to judge the times."""
    return {
        "steps": steps,
        "batch_size": batch_size,
        "bits": BITS,
        "data": "random",
        "cores": os.cpu_count(),
        "machine": platform.platform(),
        "versions": f"python={platform.python_version()} {versions(PACKAGES)}",
        "commit": project_commit(),
        "command": command,
    }


def network_of(label: str) -> tuple[NetworkSpec, Recipe]:
    """Return network and recipe of ``<benchmark>/<model>``.

    Raises:
        ValueError: for an unknown benchmark or model.
    """
    name, separator, model = label.partition("/")
    if not separator:
        raise ValueError(f"a model must read <benchmark>/<model>, e.g. {MODELS[1]}. Received: {label!r}")
    benchmark = load_benchmark(name)
    return benchmark.network(model)[1], benchmark.recipe_of(model)


def run(labels: Sequence[str], rounds: int, steps: int, output: Path, command: str) -> None:
    """Measure models one after the other; those that are done are in ``output``, whatever happens next."""
    networks = {label: network_of(label) for label in labels}
    with progress_line("performance", len(REPEATED) * len(labels)) as line:
        for label, (spec, recipe) in networks.items():
            keras.utils.set_random_seed(0)
            line.update(message=label)
            with graphs_released():
                timings = measure_model(builders(spec), Workload.random(spec, recipe), rounds, steps, line)
            replace_rows(output, rows_of(label, timings, machine_facts(command, steps)), KEY)


def run_training_step(labels: Sequence[str], rounds: int, steps: int, output: Path, command: str) -> None:
    """Measure the training step of models as :func:`run` does, at the batch sizes of their recipes."""
    networks = {label: network_of(label) for label in labels}
    for label, (spec, recipe) in networks.items():
        keras.utils.set_random_seed(0)
        every, work = builders(spec), Workload.random(spec, recipe, recipe.batch_size)
        with graphs_released():
            timings = measure_training_step({name: every[name] for name in STEP_VARIANTS}, work, rounds, steps)
        replace_rows(output, rows_of(label, timings, machine_facts(command, steps, recipe.batch_size), min), KEY)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.performance", description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, help="<benchmark>/<model>; those that need data if none")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"times of each measure, {ROUNDS} by default")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps per round, {STEPS} by default")
    parser.add_argument("--training-step", action="store_true", help="time the training step alone, see above")
    parser.add_argument("--output", type=Path, help=f"CSV file, {OUTPUT} by default, {STEP_OUTPUT} of --training-step")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.steps) < 1:
        parser.exit(2, f"error: --rounds and --steps must be 1 or more. Received: {options.rounds}, {options.steps}\n")
    command = command_line("benchmarks.studies.performance", arguments)
    tf.get_logger().setLevel("ERROR")  # one graph per variant is meant, TensorFlow warns of retracing
    measure, default = (run_training_step, STEP_OUTPUT) if options.training_step else (run, OUTPUT)
    output = options.output or default
    with ending_in_words(parser, f"stopped; {output} has the models that are done"):
        measure(options.models, options.rounds, options.steps, output, command)
    sys.stdout.write(f"{output}\n")


if __name__ == "__main__":
    main()
