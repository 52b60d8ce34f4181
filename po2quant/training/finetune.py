"""Retrain a quantized network, and compare configurations of one network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Recipe, Score
from po2quant.bit_config import BitConfig
from po2quant.cost import WEIGHTS, AverageBits, LayerShape, average_bits, network_size
from po2quant.files import replaced_whole
from po2quant.quantizers import AUTO_PO2, check_alpha
from po2quant.training.fit import FitState, fit, save_weights
from po2quant.training.prepare import Prepared, describe_network, evaluate, prepare_network
from po2quant.training.progress import progress_line
from po2quant.training.weights import BEST_WEIGHTS, is_quantized_checkpoint
from po2quant.transform import freeze_scales

FLOAT_BITS = 32
MODEL_FILE, CONFIG_FILE = "model.keras", "best_config.json"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What all runs on one network share.

    Args:
        benchmark: task.
        model: name of the network.
        dataset: data; the test split is used for scores alone.
        alpha: scales of quantized networks, ``'auto'`` or ``'auto_po2'``.
        weights: weights to start from: a file, a run folder or a float model. None: still to be trained.
        seed: of calibration and training.
        resume: whether runs go on where their folders stand.

    Raises:
        ValueError: for an unknown model or alpha, or a weight file that is missing or damaged.
    """

    benchmark: Benchmark
    model: str
    dataset: Dataset
    alpha: str = AUTO_PO2
    weights: Path | keras.Model | None = None
    seed: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        self.benchmark.network(self.model)
        if isinstance(self.weights, Path):
            is_quantized_checkpoint(self.weights)

    @property
    def spec(self) -> NetworkSpec:
        """The network."""
        return self.benchmark.network(self.model)[1]

    def with_float_weights(self, folder: Path) -> Experiment:
        """Return the experiment itself, or after training the float network in ``folder`` where it has no weights."""
        if self.weights is not None:
            return self
        train_float(self, folder)
        return dataclasses.replace(self, weights=folder)


def require_training_data(dataset: Dataset) -> None:
    """Raise ValueError where there is nothing to train on."""
    if dataset.train is None or dataset.validation is None:
        raise ValueError(f"{dataset.describe()} has no training split: --data-dir must name data to train on")


def train_float(experiment: Experiment, folder: Path) -> keras.Model:
    """Train the float network by the benchmark's recipe, in ``folder``, and return it.

    Raises:
        ValueError: where the data set has no training or validation split.
    """
    keras.utils.set_random_seed(experiment.seed)
    model = experiment.spec.build()
    recipe = experiment.benchmark.recipe
    _fit(experiment, recipe.for_float(), model, folder, recipe.float_epochs, "float network")
    return model


def _fit(experiment: Experiment, recipe: Recipe, model: keras.Model, folder: Path, epochs: int, title: str) -> FitState:
    dataset = experiment.dataset
    require_training_data(dataset)
    keras.utils.set_random_seed(experiment.seed)
    with progress_line(title, epochs) as line:
        return fit(
            model,
            dataset.train,
            dataset.validation,
            recipe,
            experiment.benchmark.selection,
            folder,
            epochs,
            experiment.seed,
            experiment.resume,
            line,
        )


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


def finetune(experiment: Experiment, prepared: Prepared, folder: Path, epochs: int, title: str) -> FitState:
    """Train a prepared network, freeze its scales and save it.

    Writes the configuration and the files of :func:`~po2quant.training.fit.fit`; afterwards ``best.weights.h5`` holds
    the frozen network and ``model.keras`` the network with its architecture. A run in ``folder`` is resumed only if it
    has the same configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, config_file = prepared.config, folder / CONFIG_FILE
    if config is not None:
        is_same = config_file.exists() and BitConfig.load(config_file).layers == config.layers
        experiment = dataclasses.replace(experiment, resume=experiment.resume and is_same)
        config.save(config_file)
    state = _fit(experiment, experiment.benchmark.recipe, prepared.model, folder, epochs, title)
    if config is not None:
        freeze_scales(prepared.model)
    save_weights(prepared.model, folder / BEST_WEIGHTS)
    with replaced_whole(folder / MODEL_FILE) as temporary:
        prepared.model.save(temporary)
    return state


def finetune_and_score(
    experiment: Experiment, name: str, config: BitConfig | None, folder: Path, epochs: int
) -> Result:
    """Score one configuration on the test split, before and after fine-tuning it in ``folder``.

    Args:
        experiment: network, data and weights to start from.
        name: what the result calls the configuration.
        config: widths, None for float.
        folder: run folder.
        epochs: epochs of fine-tuning; 0 only calibrates.
    """
    benchmark, test = experiment.benchmark, experiment.dataset.test
    layers = describe_network(experiment.spec)
    prepared = prepare_network(
        experiment.spec, config, experiment.alpha, experiment.weights, experiment.dataset, experiment.seed
    )
    calibrated = evaluate(benchmark, prepared.model, test)
    finetuned, state = None, FitState()
    if epochs:
        state = finetune(experiment, prepared, folder, epochs, f"{name} {experiment.alpha}")
        finetuned = evaluate(benchmark, prepared.model, test)
    return Result(
        name,
        "float" if config is None else experiment.alpha,
        size_in_bits(layers, config),
        None if config is None else average_bits(layers, config),
        calibrated,
        finetuned,
        state.epoch,
        round(sum(row["seconds"] for row in state.rows), 1),
        prepared.calibration,
    )


def compare(
    experiment: Experiment, configs: Sequence[tuple[str, BitConfig | None]], folder: Path, epochs: int
) -> list[Result]:
    """Score several configurations of one network; each starts from the same weights, float is not trained.

    ``folder`` gets one run per configuration.
    """
    return [
        finetune_and_score(experiment, name, config, folder / name, epochs if config is not None else 0)
        for name, config in configs
    ]


def size_in_bits(layers: Sequence[LayerShape], config: BitConfig | None) -> int:
    """Return a network's size; a float one has 32 bits everywhere."""
    if config is not None:
        return network_size(layers, config).total_bits
    elements = sum(layer.elements for layer in layers if layer.kind != WEIGHTS)
    return FLOAT_BITS * (elements + sum(layer.kernel_parameters + layer.bias_parameters for layer in layers))
