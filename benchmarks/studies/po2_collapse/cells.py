"""One row of the table: a network that is trained and scored under one rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.studies.po2_collapse.rules import Rule, quantize_under
from po2quant.diagnostics.measurement import BIAS, KERNEL, QuantizedTensor
from po2quant.diagnostics.probe import Probe
from po2quant.diagnostics.recorder import Recorder
from po2quant.files import read_csv
from po2quant.network import calibrate, fold_batch_norm, weight_quantizers
from po2quant.progress import progress_line
from po2quant.runs.folder import RunFolder, project_commit
from po2quant.runs.names import BEST_WEIGHTS, EPOCHS_CSV
from po2quant.training.finetune import Experiment, require_training_data
from po2quant.training.fit import DivergedError, Monitor, fit
from po2quant.training.prepare import calibration_inputs, check_fits, evaluate, load_float_network, resolve_config

TRAINED_START, RANDOM_START = "trained", "random"
STARTS = (TRAINED_START, RANDOM_START)
KEY = ("benchmark", "model", "config", "rule", "l2", "start", "seed", "epochs")
TRAINED, DIVERGED = "trained", "diverged"


@dataclasses.dataclass(frozen=True)
class Cell:
    """What one row is about, apart from network and data.

    Args:
        config: ``"flat16"`` to ``"flat4"`` or ``"mpq"``.
        rule: how the network is quantized.
        l2: factor of the penalty ``l2 * sum(w**2)`` on every kernel.
        start: from trained float weights, or from random ones.
        epochs: epochs of training.
    """

    config: str
    rule: Rule
    l2: float = 0.0
    start: str = TRAINED_START
    epochs: int = 5

    def key(self, experiment: Experiment) -> tuple[str, ...]:
        """Return the values of the columns :data:`KEY`."""
        of_experiment = experiment.benchmark.name, experiment.model
        words = (*of_experiment, self.config, self.rule.name, self.l2, self.start, experiment.seed, self.epochs)
        return tuple(map(str, words))


def folder_of(key: Sequence[str], root: Path) -> Path:
    """Return the run folder below ``root`` of the values of the columns :data:`KEY`."""
    benchmark, model, *words = key
    return root / f"{benchmark}-{model}" / "-".join(words)


def run_cell(experiment: Experiment, cell: Cell, root: Path, command: str) -> dict[str, Any]:
    """Train and score a network, in its folder below ``root``; one that was stopped goes on. Return its row.

    Args:
        experiment: network, data, recipe, weights and seed.
        cell: how it is trained.
        root: folder of the run folders.
        command: command line that makes the row.
    """
    folder = folder_of(cell.key(experiment), root)
    facts = dict(zip(KEY, cell.key(experiment), strict=True))
    arguments = facts | {"preset": experiment.preset, "weights": experiment.weights}
    with RunFolder(folder, arguments, resume=folder.exists()) as run:
        run.write_environment(seed=experiment.seed, data=experiment.dataset.describe(), command_line=command)
        return facts | _measured(experiment, cell, folder) | {"commit": project_commit(), "command": command}


def _measured(experiment: Experiment, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train and score a network in a folder; return what came out."""
    model, inputs = prepare(experiment, cell)
    test = experiment.dataset.test
    before = evaluate(experiment.benchmark, model, test)
    probe = None if cell.rule.alpha is None else Probe(model, inputs)
    tensors = probe() if probe else []
    outcome = _train(experiment, cell, model, probe, folder) if cell.epochs else ""
    after = evaluate(experiment.benchmark, model, test) if cell.epochs else None
    rows = read_csv(folder / EPOCHS_CSV, missing_ok=True)
    return {
        "causes": " ".join(cell.rule.causes),
        "metric": before.metric,
        "score_calibrated": round(before.value, 6),
        "score_trained": round(after.value, 6) if after else None,
        "outcome": outcome,
        "validation": _best_validation(experiment, rows),
        **_weight_facts(tensors, probe() if probe and cell.epochs else []),
        "train_samples": len(experiment.dataset.train),
        "test_samples": len(test),
        "data": experiment.dataset.describe(),
        "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
    }


def prepare(experiment: Experiment, cell: Cell) -> tuple[keras.Model, np.ndarray]:
    """Return the network before training, and the inputs that calibrated it."""
    keras.utils.set_random_seed(experiment.seed)
    spec = experiment.spec
    is_random = cell.start == RANDOM_START
    model = _random_network(experiment) if is_random else load_float_network(spec.fold(), experiment.weights).model
    check_fits(experiment.dataset, model)
    inputs, _ = calibration_inputs(experiment.dataset, model, experiment.seed)
    if cell.rule.alpha is None:
        kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    else:
        model = quantize_under(cell.rule, model, resolve_config(cell.config, spec), spec.placement)
        calibrate(model, inputs)
        kernels = [weight.variable for weight in weight_quantizers(model) if weight.part == KERNEL]
    for kernel in kernels:
        kernel.regularizer = keras.regularizers.L2(cell.l2) if cell.l2 else None
    return model, inputs


def _random_network(experiment: Experiment) -> keras.Model:
    """Return an untrained network whose BatchNormalization has the statistics of the data, folded.

    With the ones of an untrained layer, the signal would vanish in a deep network.
    """
    model = experiment.spec.new_network()
    inputs, _ = calibration_inputs(experiment.dataset, model, experiment.seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(inputs, training=True)
    return fold_batch_norm(model)


def _train(experiment: Experiment, cell: Cell, model: keras.Model, probe: Probe | None, folder: Path) -> str:
    """Train a network, leave it with its best weights, and return how that ended."""
    dataset, recipe, benchmark = experiment.dataset, experiment.recipe, experiment.benchmark
    recipe = recipe.for_float() if cell.start == RANDOM_START else recipe
    observe = Recorder(probe, folder).observe if probe else lambda epoch: None

    def test_score() -> dict[str, float]:
        score = evaluate(benchmark, model, dataset.test)
        return {f"test_{score.metric}": score.value}

    with progress_line(f"{cell.config} {cell.rule.name}", cell.epochs) as line:
        try:
            splits = require_training_data(dataset)
            monitor = Monitor(benchmark.selection, test_score, observe, line)
            fit(model, splits, recipe, monitor, folder, cell.epochs, experiment.seed, resume=True)
        except DivergedError:
            if (folder / BEST_WEIGHTS).exists():
                model.load_weights(folder / BEST_WEIGHTS)
            return DIVERGED
    return TRAINED


def _best_validation(experiment: Experiment, rows: Sequence[dict[str, str]]) -> float | None:
    values = [
        experiment.benchmark.selection(
            {key.removeprefix("val_"): float(value) for key, value in row.items() if key.startswith("val_")}
        )
        for row in rows
    ]
    return round(max(values), 6) if values else None


def _weight_facts(before: Sequence[QuantizedTensor], after: Sequence[QuantizedTensor]) -> dict[str, float | None]:
    """Return the shares of zeros before and after training, and of kernel values that training left as they were."""
    facts: dict[str, float | None] = {}
    for stage, tensors in (("before", before), ("after", after)):
        for part in (KERNEL, BIAS):
            zeros = [tensor.quantized == 0.0 for tensor in tensors if tensor.part == part]
            facts[f"{part}_zero_ratio_{stage}"] = _share(zeros)
    still = [new.quantized == old.quantized for new, old in zip(after, before, strict=False) if new.part == KERNEL]
    return facts | {"kernel_unchanged_ratio": _share(still)}


def _share(masks: Sequence[np.ndarray]) -> float | None:
    return round(float(np.mean(np.concatenate([mask.ravel() for mask in masks]))), 6) if masks else None
