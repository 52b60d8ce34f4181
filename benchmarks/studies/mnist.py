"""Twelve families of networks on MNIST: what each learns, and what powers of two cost it: ``docs/mnist.md``.

``python -m benchmarks.studies.mnist --data-dir D`` trains each network in float, measures what it separates, then for
each configuration quantizes it (calibrated, reconstructed, fine-tuned), exports it to C, compares 64 digits of the
interpreter and the C with Keras, and runs the C on an emulated Cortex-M4. ``benchmarks/results/mnist.csv`` gets a row
for each network and configuration as soon as it is done; a row that is there is not run again, and training that was
stopped goes on after its last epoch. D is a folder with ``mnist.npz`` or the official files.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from benchmarks.mnist.recipe import FLOAT_EPOCHS, small
from benchmarks.studies.clusters import Embedding, embed
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.microcontroller import measure as measure_on_core
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import Benchmark, Dataset, Recipe, Split, load_benchmark
from po2quant.bit_config import AUTO_PO2, FLOAT
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network, spread_inputs
from po2quant.deploy.verify import verify
from po2quant.export.c.run import compile_c
from po2quant.export.c.source import memory_bytes, write_c
from po2quant.export.cores.emulator import CORES
from po2quant.export.cores.instructions import instructions, work_of_program
from po2quant.files import read_csv, write_csv
from po2quant.graphs import graphs_released
from po2quant.integer.program import Program
from po2quant.runs.folder import project_commit
from po2quant.runs.names import EPOCHS_CSV
from po2quant.training.finetune import Experiment, Workbench
from po2quant.training.fit import validation_logs
from po2quant.training.pipeline import Pipeline
from po2quant.training.prepare import resolve_config
from po2quant.training.reconstruct import Reconstruction

RESULTS, RUNS = Path("benchmarks/results/mnist.csv"), Path("runs/mnist")
POINTS = "mnist-tsne.csv"
"""Beside the results: where the digits of one network lie."""
KEY = ("model", "config", "seed")
CONFIGS = (FLOAT, "w4a4", "w8a8", "w4a8")
FLOAT_PRESET, QUANTIZED_PRESET = "small", "strong"
RECONSTRUCTION = Reconstruction(samples=256, steps=100)
COMPARED, EMBEDDED = 64, 1000
"""Test digits whose every integer is compared, and that are embedded."""
GOAL = 0.99
"""Validation accuracy whose first epoch is told."""
CORE, LEVEL = "m4", "O3"
DRAWN = "resnet18"
"""Network whose embedding is drawn."""
COLUMNS = (
    *("test_accuracy", "accuracy_calibrated", "accuracy_reconstructed", "test_loss"),
    *("train_accuracy", "train_loss", "validation_accuracy", "validation_loss"),
    *("parameters", "macs", "weight_bytes", "arena_bytes", "code_bytes", "stack_bytes"),
    *("instructions", "instructions_estimated", "compared_digits", "compared_integers", "differing"),
    *("differing_on_core", "epochs", "epochs_to_99", "train_cpu_seconds", "test_cpu_seconds"),
    *("ari_kmeans", "ari_dbscan", "dbscan"),
)
"""What rows have between their key and where they come from."""


def penultimate(model: keras.Model) -> keras.Model:
    """Return the network up to what its last layer with weights sees, ``(batch, features)``; places are averaged."""
    weighted = [layer for layer in model.layers if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))]
    features = weighted[-1].input
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(model.input, features)


def epochs_to(goal: float, epochs: Sequence[Mapping[str, str]]) -> int | None:
    """Return the first epoch whose validation accuracy reaches a goal, None where none does."""
    return next((int(row["epoch"]) for row in epochs if float(row["val_accuracy"]) >= goal), None)


def measure_float(experiment: Experiment, folder: Path, points: Path | None) -> dict[str, Any]:
    """Train the float network in its folder, unless that is done, and return what it learned.

    Args:
        experiment: a network without weights.
        folder: where it is trained.
        points: file of the embedded digits; None: they are not kept.
    """
    is_new, start = not folder.exists(), time.process_time()
    experiment = experiment.with_float_weights(folder)
    train_seconds = time.process_time() - start if is_new else None
    model, dataset, recipe = experiment.float_network.source, experiment.dataset, experiment.recipe
    model.compile(loss=recipe.loss, metrics=list(recipe.metrics))
    row: dict[str, Any] = {}
    for part in ("train", "validation", "test"):
        pipeline = Pipeline(getattr(dataset, part))
        start = time.process_time()
        logs = validation_logs(model, pipeline, recipe)
        test_seconds = time.process_time() - start
        row |= {f"{part}_accuracy": round(logs["accuracy"], 4), f"{part}_loss": round(logs["loss"], 4)}
    epochs = read_csv(folder / EPOCHS_CSV)
    network = experiment.network
    row |= {
        "parameters": model.count_params(),
        "macs": sum(layer.macs for layer in network.layers),
        "weight_bytes": 4 * sum(layer.kernel_parameters + layer.bias_parameters for layer in network.layers),
        "epochs": len(epochs),
        "epochs_to_99": epochs_to(GOAL, epochs),
        "train_cpu_seconds": None if train_seconds is None else round(train_seconds, 1),
        "test_cpu_seconds": round(test_seconds, 2),
    }
    found = embedded(model, dataset.test, experiment.seed, points)
    return row | {
        "ari_kmeans": round(found.kmeans_ari, 4),
        "ari_dbscan": round(found.dbscan_ari, 4),
        "dbscan": f"eps={found.eps:.3g} min_samples={found.min_samples}",
    }


def embedded(model: keras.Model, split: Split, seed: int, points: Path | None) -> Embedding:
    """Return where a network's features put the first test digits, and write it into a file."""
    chosen = split.head(EMBEDDED)
    features = penultimate(model).predict(chosen.inputs(), verbose=0)
    found = embed(features, chosen.y, seed)
    if points is not None:
        columns = zip(found.points, chosen.y, found.kmeans, found.dbscan, strict=True)
        rows = [
            {"x": f"{x:.2f}", "y": f"{y:.2f}", "digit": digit, "kmeans": kmeans, "dbscan": dbscan}
            for (x, y), digit, kmeans, dbscan in columns
        ]
        write_csv(points, rows)
    return found


def measure_quantized(bench: Workbench, config: str, folder: Path) -> dict[str, Any]:
    """Quantize, train, export, compare and count one configuration."""
    experiment = bench.experiment
    widths = resolve_config(config, experiment.spec, experiment.network)
    start = time.process_time()
    result = bench.finetune_and_score(config, widths, folder, experiment.recipe.epochs)
    seconds = time.process_time() - start
    dataset = experiment.dataset
    network = frozen_network(experiment.spec, experiment.completed(widths), folder, dataset, experiment.seed)
    program = integer_program(network)
    weight_bytes, arena_bytes = memory_bytes(program, pack=True)
    return {
        "test_accuracy": round(result.finetuned.value, 4),
        "accuracy_calibrated": round(result.calibrated.value, 4),
        "accuracy_reconstructed": round(result.reconstructed.value, 4),
        "epochs": result.epochs,
        "train_cpu_seconds": round(seconds, 1),
        "weight_bytes": weight_bytes,
        "arena_bytes": arena_bytes,
        "instructions_estimated": round(instructions(CORE, work_of_program(program, pack=True))),
        **compared(program, network, dataset),
        **counted(program),
    }


def compared(program: Program, network: keras.Model, dataset: Dataset) -> dict[str, Any]:
    """Return how many integers of test digits were compared, and how many differ."""
    with tempfile.TemporaryDirectory() as folder:
        executable = compile_c(write_c(program, folder, "network", pack=True), Path(folder), trace=True)
        found = verify(program, network, executable, spread_inputs(dataset.test, network, COMPARED))
    return {
        "compared_digits": found.keras.samples,
        "compared_integers": found.keras.integers + found.c.integers,
        "differing": found.mismatches,
    }


def counted(program: Program) -> dict[str, Any]:
    """Return instructions, bytes of code and of stack on the emulated core; nothing where there is none."""
    core = CORES[CORE]
    if core.missing_tools():
        return {}
    found = measure_on_core(program, core, pack=True, level=LEVEL)
    return {
        "instructions": found["instructions"],
        "differing_on_core": found["differing_output_bytes"],
        "code_bytes": found["code_bytes"],
        "stack_bytes": found["stack_bytes"],
    }


def with_recipe(task: Benchmark, recipe: Recipe) -> Benchmark:
    """Return a task whose float networks are trained by a recipe."""
    networks = {
        model: dataclasses.replace(spec, recipes={**spec.recipes, FLOAT_PRESET: recipe})
        for model, spec in task.networks.items()
    }
    return dataclasses.replace(task, networks=networks)


def run(options: argparse.Namespace, command: str) -> None:
    """Measure what the results have not, network after network."""
    task = with_recipe(load_benchmark("mnist"), small(options.float_epochs))
    dataset = task.load_data(options.data_dir, options.seed)
    facts = {"data": dataset.describe(), "commit": project_commit(), "command": command}
    for model in options.models or task.networks:
        keys = {config: (model, config, str(options.seed)) for config in options.configs}
        missing = [config for config, key in keys.items() if not has_row(options.results, key, KEY)]
        if not missing:
            continue
        experiment = Experiment(task, model, dataset, AUTO_PO2, seed=options.seed, preset=FLOAT_PRESET, resume=True)
        with graphs_released():
            for config, row in measured(experiment, missing, options):
                key = dict(zip(KEY, keys[config], strict=True))
                add_row(options.results, key | dict.fromkeys(COLUMNS) | row | facts, KEY)
                sys.stdout.write(f"{model} {config}: {row}\n")
                sys.stdout.flush()


def measured(
    experiment: Experiment, configs: Sequence[str], options: argparse.Namespace
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each configuration of a network and its row; training that was begun goes on."""
    folder = options.output_dir / f"{experiment.model}-float-{experiment.seed}"
    if FLOAT in configs:
        points = options.results.with_name(POINTS) if experiment.model == DRAWN else None
        yield FLOAT, measure_float(experiment, folder, points)
    quantized = [config for config in configs if config != FLOAT]
    if quantized:
        experiment = experiment.with_float_weights(folder)
        bench = Workbench(dataclasses.replace(experiment, preset=QUANTIZED_PRESET, reconstruction=RECONSTRUCTION))
        for config in quantized:
            cell = folder.with_name(f"{experiment.model}-{config}-{experiment.seed}")
            yield config, measure_quantized(bench, config, cell)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.mnist", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="MNIST; scikit-learn's digits, enlarged, by default")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="all by default")
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help=f"{' '.join(CONFIGS)} by default")
    parser.add_argument("--float-epochs", type=int, default=FLOAT_EPOCHS, help=f"{FLOAT_EPOCHS} by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, default=RUNS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")
    with ending_in_words(parser):
        run(options, command_line("benchmarks.studies.mnist", arguments))


if __name__ == "__main__":
    main()
