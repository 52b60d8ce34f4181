"""How long a network takes from its float model to the end of its first training step.

``python -m benchmarks.studies.first_step`` measures the networks on random data, in processor seconds of one thread,
and writes ``benchmarks/results/first-step.csv``: some minutes for a small network. Each network has a process of its
own, which builds every variant in turn, round after round; the least of each counts. ``keras`` is the float network as
Keras alone compiles it: variables of optimizer, loss and metrics are made within the first trace, and a second follows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.performance import BATCH_SIZE, FLOAT, KEY, MODELS, Workload, builders, machine_facts, network_of
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import replace_rows
from po2quant.compat import build_loss_and_metrics
from po2quant.graphs import graphs_released
from po2quant.network import activation_quantizers, calibrate
from po2quant.search.trial import trial_input_count
from po2quant.training.fit import compile_model

OUTPUT = Path("benchmarks/results/first-step.csv")
EVERY = ("digits/ds_cnn", *MODELS)
KERAS = "keras"
VARIANTS = (KERAS, FLOAT, "auto", "auto_po2", "learned_po2")
ROUNDS = 3
ONE_THREAD = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")


def measure(label: str, rounds: int) -> dict[str, float]:
    """Return the least processor seconds of each variant of a network."""
    tf.get_logger().setLevel("ERROR")
    keras.utils.set_random_seed(0)
    spec, recipe = network_of(label)
    every, work = builders(spec), Workload.random(spec, recipe)
    first_step(every[FLOAT](), work, FLOAT)  # what TensorFlow does once in a process is no part of any first step
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, times in seconds.items():
            with graphs_released():
                start = time.process_time()
                model = every[FLOAT if variant == KERAS else variant]()
                times.append(time.process_time() - start + first_step(model, work, variant))
    return {variant: min(times) for variant, times in seconds.items()}


def first_step(model: keras.Model, work: Workload, variant: str) -> float:
    """Return the processor seconds from a built model to the end of its first training step, without calibration."""
    start = time.process_time()
    if variant == KERAS:
        model.compile(keras.optimizers.Adam(), work.recipe.loss, metrics=list(work.recipe.metrics), jit_compile=False)
    else:
        compile_model(model, work.recipe)
        build_loss_and_metrics(model, tf.TensorSpec(work.y.shape, work.y.dtype))
    compiled = time.process_time() - start
    if dict(activation_quantizers(model)):
        calibrate(model, work.calibration_inputs[: trial_input_count(model)])
    start = time.process_time()
    model.train_on_batch(work.x, work.y)
    return compiled + time.process_time() - start


def rows_of(label: str, seconds: Mapping[str, float], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each variant of a network.

    Args:
        label: ``<benchmark>/<model>``.
        seconds: what :func:`measure` returns.
        facts: further columns, the same in every row.
    """
    benchmark, model = label.split("/")
    return [
        {
            "benchmark": benchmark,
            "model": model,
            "variant": variant,
            "cpu_seconds": round(value, 2),
            "ratio_to_keras": round(value / seconds[KERAS], 3),
            **facts,
        }
        for variant, value in seconds.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.first_step", description=__doc__)
    parser.add_argument("--models", nargs="+", default=EVERY, help="<benchmark>/<model>; all published ones if none")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"first steps of each variant, {ROUNDS} by default")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"CSV file, {OUTPUT} by default")
    options = parser.parse_args(arguments)
    command = command_line("benchmarks.studies.first_step", arguments)
    with ending_in_words(parser, f"stopped; {options.output} has the models that are done"):
        if options.rounds < 1:
            raise ValueError(f"--rounds must be 1 or more. Received: {options.rounds}")
        for label in options.models:
            network_of(label)  # a wrong one ends all before anything is measured
        os.environ.update(ONE_THREAD)
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawned, max_tasks_per_child=1) as pool:
            for label in options.models:
                seconds = pool.submit(measure, label, options.rounds).result()
                facts = {"rounds": options.rounds} | machine_facts(command, 1, BATCH_SIZE)
                replace_rows(options.output, rows_of(label, seconds, facts), KEY)
    sys.stdout.write(f"{options.output}\n")


if __name__ == "__main__":
    main()
