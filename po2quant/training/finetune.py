"""Retrain a quantized network, and compare configurations of one network."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import keras

from po2quant.benchmark import PUBLISHED, Benchmark, Dataset, NetworkSpec, Recipe, Split
from po2quant.bit_config import BitConfig
from po2quant.cost import average_bits
from po2quant.files import write_json
from po2quant.network import FoldedNetwork, freeze_scales
from po2quant.progress import progress_line
from po2quant.quantizers import AUTO_PO2, check_alpha
from po2quant.ranges import MSE
from po2quant.runs.names import BEST_WEIGHTS, LAYERS_FOLDER, SCORES_FILE, STAGES_FOLDER
from po2quant.training.centring import centred
from po2quant.training.distill import distill
from po2quant.training.fit import FitState, Monitor, compile_model, fit, save_weights
from po2quant.training.prepare import (
    Prepared,
    calibration_inputs,
    check_fits,
    evaluate,
    load_float_network,
    prepare_network,
    seed_masks,
)
from po2quant.training.reconstruct import Reconstruction, input_count, reconstruct_in_place
from po2quant.training.records import begin_in, save_network
from po2quant.training.result import Result as Result
from po2quant.training.reusable import ReusableNetwork
from po2quant.training.stages import enter, stages_of
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
        reconstruction: how much is learned without labels before a quantized network is scored or trained. None:
            nothing.
        callbacks: makes Keras callbacks for one training.

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
    reconstruction: Reconstruction | None = None
    callbacks: Callable[[], list[keras.callbacks.Callback]] = list

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
    def quantized_file(self) -> Path | None:
        """The file of the quantized network that it starts from; None where it starts from a float network."""
        return self.start.path if isinstance(self.start, WeightFile) and self.start.is_quantized else None

    @property
    def is_quantized(self) -> bool:
        """Whether it starts from a quantized network's state."""
        return self.quantized_file is not None

    @property
    def spec(self) -> NetworkSpec:
        """The network."""
        return self.benchmark.network(self.model)[1]

    @functools.cached_property
    def network(self) -> FoldedNetwork:
        """The network's description."""
        return self.folded or self.spec.fold()

    @functools.cached_property
    def float_network(self) -> FoldedNetwork:
        """The network's description with the float weights to start from."""
        return load_float_network(self.network, self.start)

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.benchmark.recipe_of(self.model, self.preset)

    def completed(self, config: BitConfig) -> BitConfig:
        """Return a configuration that says every kind of scales and of calibration."""
        if self.recipe.activation_alpha is not None and self.alpha == AUTO_PO2:
            config = config.with_alphas(
                {
                    name: self.recipe.activation_alpha
                    for name, bits in config.layers.items()
                    if bits.activation is not None and bits.alpha is None
                }
            )
        return config.with_alpha(self.alpha).with_calibration(self.calibration)

    def with_float_weights(self, folder: Path) -> Experiment:
        """Return the experiment itself, or after training the float network in ``folder`` where it has no weights."""
        if self.weights is not None:
            return self
        train_float(self, folder)
        return dataclasses.replace(self, weights=folder, folded=self.network)


def require_training_data(dataset: Dataset) -> tuple[Split, Split]:
    """Return the training and validation split, or raise ValueError where there is nothing to train on."""
    if dataset.train is None or dataset.validation is None:
        raise ValueError(f"{dataset.describe()} has no training split, and there must be data to train on")
    return dataset.train, dataset.validation


def _ignore(epoch: int) -> None:
    """Observe nothing."""


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
    if recipe.distillation and experiment.is_quantized:
        raise ValueError(
            f"preset {experiment.preset!r} learns from the float network: weights must be its. "
            f"Received: {experiment.quantized_file}, of a quantized one"
        )
    splits = require_training_data(experiment.dataset)
    keras.utils.set_random_seed(experiment.seed)

    def test_score() -> dict[str, float]:
        score = evaluate(experiment.benchmark, model, experiment.dataset.test)
        return {f"test_{score.metric}": score.value}

    with progress_line(title, epochs) as line:
        monitor = Monitor(experiment.benchmark.selection, test_score, observe, line, experiment.callbacks())
        return fit(model, splits, recipe, monitor, folder, epochs, experiment.seed, experiment.resume)


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
    config = prepared.config
    if config is not None:
        is_same = begin_in(folder, experiment, config)
        experiment = dataclasses.replace(experiment, resume=experiment.resume and is_same)
    is_centred = experiment.recipe.centred and config is not None
    inputs = calibration_inputs(experiment.dataset, prepared.model, experiment.seed)[0] if is_centred else None
    with nullcontext() if inputs is None else centred(prepared.model, inputs):
        state = _train(experiment, prepared, folder, epochs, title, observe)
    if config is not None:
        freeze_scales(prepared.model, experiment.network.placement)
    save_network(prepared.model, folder)
    return state


def _train(
    experiment: Experiment,
    prepared: Prepared,
    folder: Path,
    epochs: int,
    title: str,
    observe: Callable[[int], None],
) -> FitState:
    """Train a prepared network through the stages of its recipe; return the last one's state, with the rows of all."""
    recipe, model = experiment.recipe, prepared.model
    if prepared.config is None or not recipe.staged_bits:
        return _fit(experiment, recipe, model, folder, epochs, title, observe)
    *earlier, last = stages_of(prepared.config, recipe, epochs)
    inputs, rows = calibration_inputs(experiment.dataset, model, experiment.seed)[0], []
    if not model.compiled:
        compile_model(model, recipe)
    for stage in earlier:
        enter(model, stage, inputs)
        where = folder / STAGES_FOLDER / str(stage.bits)
        rows += _fit(experiment, recipe, model, where, stage.epochs, f"{title}, {stage.bits} bits").rows
    enter(model, last, inputs)
    state = _fit(experiment, recipe, model, folder, last.epochs, title, observe)
    return dataclasses.replace(state, rows=[*rows, *state.rows])


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
        scales = "float" if config is None else config.with_alpha(experiment.alpha).scales
        calibrated = evaluate(experiment.benchmark, prepared.model, test)
        reconstructed, finetuned, state = None, None, FitState()
        seconds: float = 0
        if experiment.reconstruction is not None and prepared.config is not None:
            start = time.monotonic()
            prepared = self._reconstruct(prepared, prepared.config, experiment.reconstruction, folder)
            seconds = time.monotonic() - start
            reconstructed = evaluate(experiment.benchmark, prepared.model, test)
        if epochs:
            observe = _ignore if self._observer is None or config is None else self._observer(prepared.model, folder)
            state = finetune(experiment, prepared, folder, epochs, f"{name} {scales}", observe)
            finetuned = evaluate(experiment.benchmark, prepared.model, test)
        elif reconstructed is not None:
            freeze_scales(prepared.model, experiment.network.placement)
            save_network(prepared.model, folder)
        result = Result(
            name,
            scales,
            experiment.network.size(config).total_bits,
            None if config is None else average_bits(experiment.network.layers, config),
            calibrated,
            finetuned,
            state.epoch,
            round(seconds + sum(row["seconds"] for row in state.rows), 1),
            prepared.calibration,
            state.best_value if state.rows else None,
            reconstructed,
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SCORES_FILE, result.to_dict())
        return result

    def _reconstruct(self, prepared: Prepared, config: BitConfig, settings: Reconstruction, folder: Path) -> Prepared:
        """Learn how to round the weights of a prepared network, and say from which inputs.

        What the folder has of it is not learned again.
        """
        experiment = self.experiment
        if experiment.is_quantized:
            raise ValueError(
                f"a reconstruction begins at float weights. Received: {experiment.quantized_file}, of a quantized one"
            )
        if experiment.recipe.staged_bits:
            raise ValueError(
                "a reconstruction needs a recipe without staged_bits, whose wider stages would undo it. "
                f"Received: preset {experiment.preset!r} with staged_bits={experiment.recipe.staged_bits}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        begin_in(folder, experiment, config)
        network = experiment.float_network
        count = input_count(network, settings.samples)
        x, source = calibration_inputs(experiment.dataset, network.model, experiment.seed, count)
        with progress_line(
            f"reconstruct {config.name}", len(network.graph.weighted) + bool(settings.joint_steps)
        ) as line:
            layers = folder / LAYERS_FOLDER
            reconstruct_in_place(network, prepared.model, x, settings, experiment.seed, layers, line)
        return dataclasses.replace(prepared, calibration=source)


def reusable_network(experiment: Experiment, alphas: Mapping[str, str] | None = None) -> ReusableNetwork:
    """Return the quantized network of an experiment with its float weights, not yet calibrated.

    Args:
        experiment: network, weights and kind of scales.
        alphas: kind of scales by layer, where it is not the experiment's.
    """
    network = experiment.float_network
    check_fits(experiment.dataset, network.model)
    widths = experiment.completed(network.widest().with_alphas(alphas or {}))
    model, recipe = network.quantize(widths), experiment.recipe
    seed_masks(model, experiment.seed)
    if recipe.distillation:
        distill(model, network.model, recipe.loss, recipe.distillation)
    return ReusableNetwork(model, recipe)


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
