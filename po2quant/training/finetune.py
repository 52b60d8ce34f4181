"""Retrain a quantized network, and compare configurations of one network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Score
from po2quant.bit_config import BitConfig
from po2quant.cost import WEIGHTS, AverageBits, LayerShape, average_bits, network_size
from po2quant.training.fit import FitState, fit, save_weights
from po2quant.training.prepare import Prepared, describe_network, evaluate, prepare_network
from po2quant.training.progress import progress_line
from po2quant.training.weights import BEST_WEIGHTS
from po2quant.transform import freeze_scales

FLOAT_BITS = 32
MODEL_FILE = "model.keras"


def train_float(
    benchmark: Benchmark, spec: NetworkSpec, dataset: Dataset, folder: Path, seed: int, resume: bool = False
) -> keras.Model:
    """Train the float network by the benchmark's recipe, in ``folder``, and return it.

    Raises:
        ValueError: where the data set has no training or validation split.
    """
    require_training_data(dataset)
    keras.utils.set_random_seed(seed)
    model = spec.build()
    epochs = benchmark.recipe.float_epochs
    with progress_line("float network", epochs) as line:
        fit(
            model,
            dataset.train,
            dataset.validation,
            benchmark.recipe,
            benchmark.selection,
            folder,
            epochs,
            seed,
            resume,
            line,
        )
    return model


def require_training_data(dataset: Dataset) -> None:
    """Raise ValueError where there is nothing to train on."""
    if dataset.train is None or dataset.validation is None:
        raise ValueError(f"{dataset.describe()} has no training split: --data-dir must name data to train on")


@dataclasses.dataclass(frozen=True)
class Result:
    """One row of a comparison.

    Args:
        config: ``"float"``, ``"mpq"``, ``"flat8"`` or a file.
        alpha: ``"float"``, ``"auto"`` or ``"auto_po2"``.
        size_bits: activations and parameters, by the bit accounting.
        average: mean widths, None for float.
        calibrated: test score before training.
        finetuned: test score after training, None where none was done.
        epochs: epochs trained.
        seconds: wall time of the training.
        calibration: where the activation ranges come from.
    """

    config: str
    alpha: str
    size_bits: int
    average: AverageBits | None
    calibrated: Score
    finetuned: Score | None
    epochs: int
    seconds: float
    calibration: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON has it."""
        return dataclasses.asdict(self)


def finetune(
    benchmark: Benchmark,
    prepared: Prepared,
    dataset: Dataset,
    folder: Path,
    epochs: int,
    seed: int = 0,
    resume: bool = False,
    title: str = "fine-tuning",
) -> FitState:
    """Train a prepared network, freeze its scales and save it.

    Writes the files of :func:`~po2quant.training.fit.fit`; afterwards ``best.weights.h5`` holds the frozen
    network and ``model.keras`` the network with its architecture.
    """
    require_training_data(dataset)
    keras.utils.set_random_seed(seed)
    with progress_line(title, epochs) as line:
        state = fit(
            prepared.model,
            dataset.train,
            dataset.validation,
            benchmark.recipe,
            benchmark.selection,
            folder,
            epochs,
            seed,
            resume,
            line,
        )
    if prepared.config is not None:
        freeze_scales(prepared.model)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(prepared.model, folder / BEST_WEIGHTS)
    prepared.model.save(folder / MODEL_FILE)
    return state


def finetune_and_score(
    benchmark: Benchmark,
    spec: NetworkSpec,
    name: str,
    config: BitConfig | None,
    alpha: str,
    weights: Path | keras.Model,
    dataset: Dataset,
    folder: Path,
    epochs: int,
    seed: int = 0,
    resume: bool = False,
) -> Result:
    """Score one configuration on the test split, before and after fine-tuning it in ``folder``.

    Args:
        benchmark: task.
        spec: network.
        name: what the result calls the configuration.
        config: widths, None for float.
        alpha: ``'auto'`` or ``'auto_po2'``.
        weights: weights to start from.
        dataset: data; its test split is used for the scores alone.
        folder: run folder.
        epochs: epochs of fine-tuning; 0 only calibrates.
        seed: of calibration and training.
        resume: go on with an unfinished run in ``folder``.
    """
    layers = describe_network(spec)
    prepared = prepare_network(spec, config, alpha, weights, dataset, seed)
    calibrated = evaluate(benchmark, prepared.model, dataset.test)
    finetuned, state = None, FitState()
    if epochs:
        state = finetune(benchmark, prepared, dataset, folder, epochs, seed, resume, f"{name} {alpha}")
        finetuned = evaluate(benchmark, prepared.model, dataset.test)
    return Result(
        name,
        "float" if config is None else alpha,
        size_in_bits(layers, config),
        None if config is None else average_bits(layers, config),
        calibrated,
        finetuned,
        state.epoch,
        round(sum(row["seconds"] for row in state.rows), 1),
        prepared.calibration,
    )


def compare(
    benchmark: Benchmark,
    spec: NetworkSpec,
    configs: Sequence[tuple[str, BitConfig | None]],
    alpha: str,
    weights: Path | keras.Model,
    dataset: Dataset,
    folder: Path,
    epochs: int,
    seed: int = 0,
    resume: bool = False,
) -> list[Result]:
    """Score several configurations of one network; each starts from the same weights, float is not trained.

    ``folder`` gets one run per configuration.
    """
    return [
        finetune_and_score(
            benchmark,
            spec,
            name,
            config,
            alpha,
            weights,
            dataset,
            folder / name,
            epochs if config is not None else 0,
            seed,
            resume,
        )
        for name, config in configs
    ]


def size_in_bits(layers: Sequence[LayerShape], config: BitConfig | None) -> int:
    """Return a network's size; a float one has 32 bits everywhere."""
    if config is not None:
        return network_size(layers, config).total_bits
    elements = sum(layer.elements for layer in layers if layer.kind != WEIGHTS)
    return FLOAT_BITS * (elements + sum(layer.kernel_parameters + layer.bias_parameters for layer in layers))
