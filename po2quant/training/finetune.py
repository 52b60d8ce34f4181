"""Retrain a quantized network, and compare configurations of one network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from po2quant.benchmark import PUBLISHED, Benchmark, Dataset, NetworkSpec, Recipe, Score, Split
from po2quant.bit_config import BitConfig
from po2quant.cost import AverageBits, average_bits
from po2quant.files import replaced_whole, write_json
from po2quant.network import FoldedNetwork, freeze_scales
from po2quant.progress import progress_line
from po2quant.quantizers import AUTO_PO2, check_alpha
from po2quant.ranges import MSE
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS, CHECKPOINT, MODEL_FILE, SCORES_FILE
from po2quant.training.fit import FitState, Monitor, fit, save_weights
from po2quant.training.prepare import (
    Prepared,
    calibration_inputs,
    check_fits,
    evaluate,
    load_float_network,
    prepare_network,
    seed_masks,
)
from po2quant.training.reusable import ReusableNetwork
from po2quant.weight_files import WeightFile, read_weight_file

Observer = Callable[[keras.Model, Path], Callable[[int], None]]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What all runs on one network share.

    Args:
        benchmark: task.
        model: name of the network.
        dataset: data; the test split is used for scores alone.
        alpha: scales of quantized networks, one of :data:`~po2quant.bit_config.ALPHAS`, where a configuration has none
            of its own.
        weights: weights to start from: a file, a run folder or a float model. None: still to be trained.
        seed: of calibration and training.
        preset: name of the recipe.
        resume: whether runs go on where their folders stand.
        folded: description of the network, whose weights are then the experiment's. None: it is made when it is needed.
        stored: what the file ``weights`` holds; it is read where that is not given.
        calibration: how activation ranges follow from data where a configuration does not say it, see
            :func:`~po2quant.ranges.calibration_rules`.

    Raises:
        ValueError: for an unknown model or alpha, or a weight file that is missing or damaged.
    """

    benchmark: Benchmark
    model: str
    dataset: Dataset
    alpha: str = AUTO_PO2
    weights: Path | keras.Model | None = None
    seed: int = 0
    preset: str = PUBLISHED
    resume: bool = False
    folded: FoldedNetwork | None = None
    stored: WeightFile | None = None
    calibration: str = MSE

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        self.benchmark.recipe_of(self.model, self.preset)
        if isinstance(self.weights, Path) and self.stored is None:
            object.__setattr__(self, "stored", read_weight_file(self.weights))

    @property
    def start(self) -> WeightFile | keras.Model | None:
        """The weights to start from, opened."""
        return self.stored if isinstance(self.weights, Path) else self.weights

    @property
    def is_quantized(self) -> bool:
        """Whether it starts from a quantized network's state."""
        return isinstance(self.start, WeightFile) and self.start.is_quantized

    @property
    def spec(self) -> NetworkSpec:
        """The network."""
        return self.benchmark.network(self.model)[1]

    @functools.cached_property
    def network(self) -> FoldedNetwork:
        """The network's description."""
        return self.folded or self.spec.fold()

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.benchmark.recipe_of(self.model, self.preset)

    def completed(self, config: BitConfig) -> BitConfig:
        """Return a configuration that says every kind of scales and of calibration."""
        return config.with_alpha(self.alpha).with_calibration(self.calibration)

    def with_float_weights(self, folder: Path) -> Experiment:
        """Return the experiment itself, or after training the float network in ``folder`` where it has no weights."""
        if self.weights is not None:
            return self
        train_float(self, folder)
        return dataclasses.replace(self, weights=folder, folded=self.network)


def _ignore(epoch: int) -> None:
    """Observe nothing."""


def require_training_data(dataset: Dataset) -> tuple[Split, Split]:
    """Return the training and validation split, or raise ValueError where there is nothing to train on."""
    if dataset.train is None or dataset.validation is None:
        raise ValueError(f"{dataset.describe()} has no training split, and there must be data to train on")
    return dataset.train, dataset.validation


def train_float(experiment: Experiment, folder: Path) -> keras.Model:
    """Train the float network by the benchmark's recipe, in ``folder``, and return it.

    Where the recipe has no epochs for it, the network is trained already, and its weights are written alone.

    Raises:
        ValueError: where the data set has no training or validation split.
    """
    keras.utils.set_random_seed(experiment.seed)
    model = experiment.spec.new_network()
    recipe = experiment.recipe
    if recipe.float_epochs:
        _fit(experiment, recipe.for_float(), model, folder, recipe.float_epochs, "float network")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(model, folder / BEST_WEIGHTS)
    return model


def _fit(
    experiment: Experiment,
    recipe: Recipe,
    model: keras.Model,
    folder: Path,
    epochs: int,
    title: str,
    observe: Callable[[int], None] = _ignore,
) -> FitState:
    splits = require_training_data(experiment.dataset)
    keras.utils.set_random_seed(experiment.seed)

    def test_score() -> dict[str, float]:
        score = evaluate(experiment.benchmark, model, experiment.dataset.test)
        return {f"test_{score.metric}": score.value}

    with progress_line(title, epochs) as line:
        monitor = Monitor(experiment.benchmark.selection, test_score, observe, line)
        return fit(model, splits, recipe, monitor, folder, epochs, experiment.seed, experiment.resume)


@dataclasses.dataclass(frozen=True)
class Result:
    """One row of a comparison.

    Args:
        config: ``"float"``, ``"mpq"``, ``"flat8"`` or a file.
        alpha: ``"float"``, the kind of scales, or ``"mixed"``.
        size_bits: activations and parameters, by the bit accounting.
        average: mean widths, None for float.
        calibrated: test score before training.
        finetuned: test score after training, None where none was done.
        epochs: epochs trained.
        seconds: wall time of the training.
        calibration: where the activation ranges come from.
        validation: best value of the validation split over the epochs, which chose the weights; None where no epoch
            was trained.
        reconstructed: test score after :func:`~po2quant.training.reconstruct.reconstruct`, None where it was not done.
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
    validation: float | None = None
    reconstructed: Score | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON has it."""
        return dataclasses.asdict(self)


def finetune(
    experiment: Experiment,
    prepared: Prepared,
    folder: Path,
    epochs: int,
    title: str,
    observe: Callable[[int], None] = _ignore,
) -> FitState:
    """Train a prepared network, freeze its scales and save it; ``observe`` as in :func:`~po2quant.training.fit.fit`.

    Writes the configuration and the files of :func:`~po2quant.training.fit.fit`; afterwards ``best.weights.h5`` holds
    the frozen network and ``model.keras`` the network with its architecture. A run in ``folder`` is resumed only if it
    has the same configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, config_file = prepared.config, folder / BEST_CONFIG
    if config is not None:
        is_same = config_file.exists() and _load_complete(config_file, experiment).layers == config.layers
        if not is_same:
            (folder / CHECKPOINT).unlink(missing_ok=True)  # that of another configuration
        experiment = dataclasses.replace(experiment, resume=experiment.resume and is_same)
        save_config(config, experiment, folder)
    state = _fit(experiment, experiment.recipe, prepared.model, folder, epochs, title, observe)
    if config is not None:
        freeze_scales(prepared.model, experiment.network.placement)
    save_network(prepared.model, folder)
    return state


def save_network(model: keras.Model, folder: Path) -> None:
    """Write the weights of a run's network, and the network with its architecture."""
    save_weights(model, folder / BEST_WEIGHTS)
    with replaced_whole(folder / MODEL_FILE) as temporary:
        model.save(temporary)


def save_config(config: BitConfig, experiment: Experiment, folder: Path) -> None:
    """Write the configuration of a run's network, without what the run says of all layers."""
    config.without_alpha(experiment.alpha).without_calibration(experiment.calibration).save(folder / BEST_CONFIG)


def _load_complete(path: Path, experiment: Experiment) -> BitConfig:
    return experiment.completed(BitConfig.load(path))


class Workbench:
    """Prepares, trains and scores the configurations of an experiment, in one compiled network.

    Each result is that of a network of its own; a configuration with other kinds of scales than the last one also
    compiles one of its own.

    Args:
        experiment: what all configurations share.
        observer: given a quantized network and its run folder, returns what :func:`~po2quant.training.fit.fit` calls
            between epochs. None: nothing.
    """

    def __init__(self, experiment: Experiment, observer: Observer | None = None) -> None:
        self.experiment = experiment
        self._observer = observer
        self._network: ReusableNetwork | None = None
        self._alphas: dict[str, str] = {}

    def prepare(self, config: BitConfig | None) -> Prepared:
        """Return the network that starts from the experiment's weights with the widths of ``config``, None for float.

        A quantized network is valid until the next one is prepared.
        """
        experiment = self.experiment
        config = None if config is None else experiment.completed(config)
        if config is None or experiment.is_quantized:
            keras.utils.set_random_seed(experiment.seed)
            prepared = prepare_network(
                experiment.network, config, experiment.start, experiment.dataset, experiment.seed
            )
            seed_masks(prepared.model, experiment.seed)
            return prepared
        alphas = config.alphas()
        if self._network is None or alphas != self._alphas:
            keras.utils.set_random_seed(experiment.seed)
            self._network, self._alphas = reusable_network(experiment, alphas), alphas
        inputs, source = calibration_inputs(experiment.dataset, self._network.model, experiment.seed)
        self._network.reset(config, inputs)
        return Prepared(self._network.model, config, source)

    def finetune_and_score(self, name: str, config: BitConfig | None, folder: Path, epochs: int) -> Result:
        """Score one configuration on the test split, before and after fine-tuning it in ``folder``.

        Args:
            name: what the result calls the configuration.
            config: widths, None for float.
            folder: run folder.
            epochs: epochs of fine-tuning; 0 only calibrates.
        """
        experiment, test = self.experiment, self.experiment.dataset.test
        prepared = self.prepare(config)
        scales = "float" if prepared.config is None else prepared.config.scales
        calibrated = evaluate(experiment.benchmark, prepared.model, test)
        finetuned, state = None, FitState()
        if epochs:
            observe = _ignore if self._observer is None or config is None else self._observer(prepared.model, folder)
            state = finetune(experiment, prepared, folder, epochs, f"{name} {scales}", observe)
            finetuned = evaluate(experiment.benchmark, prepared.model, test)
        result = Result(
            name,
            scales,
            experiment.network.size(config).total_bits,
            None if config is None else average_bits(experiment.network.layers, config),
            calibrated,
            finetuned,
            state.epoch,
            round(sum(row["seconds"] for row in state.rows), 1),
            prepared.calibration,
            state.best_value if state.rows else None,
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SCORES_FILE, result.to_dict())
        return result


def reusable_network(experiment: Experiment, alphas: Mapping[str, str] | None = None) -> ReusableNetwork:
    """Return the quantized network of an experiment with its float weights, not yet calibrated.

    Args:
        experiment: network, weights and kind of scales.
        alphas: kind of scales by layer, where it is not the experiment's.
    """
    network = load_float_network(experiment.network, experiment.start)
    check_fits(experiment.dataset, network.model)
    widths = experiment.completed(network.reference().with_alphas(alphas or {}))
    model = network.quantize(widths)
    seed_masks(model, experiment.seed)
    return ReusableNetwork(model, experiment.recipe)


def compare(
    experiment: Experiment, configs: Sequence[tuple[str, BitConfig | None]], folder: Path, epochs: int
) -> list[Result]:
    """Score several configurations of one network; each starts from the same weights, float is not trained.

    ``folder`` gets one run per configuration.
    """
    bench = Workbench(experiment)
    return [
        bench.finetune_and_score(name, config, folder / name, epochs if config is not None else 0)
        for name, config in configs
    ]
