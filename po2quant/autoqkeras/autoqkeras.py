"""``AutoQKeras`` for Keras 3: the search under the name, arguments and dictionaries of QKeras 0.9.0."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from po2quant.autoqkeras.arguments import (
    FIT_DEFAULTS,
    check_fit_arguments,
    check_mode,
    check_model,
    free_folder,
    own_dataset,
    read_options,
    together,
)
from po2quant.autoqkeras.objective import BitsGoal, MetricObjective
from po2quant.autoqkeras.quantization_config import QuantizationConfig, search_space
from po2quant.benchmark import Dataset, Recipe
from po2quant.bit_config import BitConfig
from po2quant.cost import ForgivingFactor, LayerShape, reference_config
from po2quant.files import read_csv
from po2quant.network import Placement, fold_batch_norm, network_layers, quantize_model
from po2quant.network.quantize import STATIC
from po2quant.progress import SILENT, progress_line
from po2quant.runs.folder import RunFolder
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS, EPOCHS_CSV, TRIALS_FOLDER
from po2quant.search.problem import SearchProblem
from po2quant.search.run import measured_sensitivities
from po2quant.search.strategies import BAYESIAN, HYPERBAND, INFORMED, STRATEGIES
from po2quant.search.trial import TrialTraining, trial_inputs
from po2quant.search.trial_log import TrialRow
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.finetune import require_training_data
from po2quant.training.fit import compile_model, validation_logs
from po2quant.training.pipeline import Pipeline
from po2quant.training.prepare import check_fits
from po2quant.training.reusable import ReusableNetwork
from po2quant.weight_files import load_weights

CHECKED_SAMPLES = 32
"""Validation samples that show before the search which logs there are."""


class AutoQKeras:
    """Searches the width of every kernel, bias and activation of a Keras model.

    Equation:
        score = metric * (1 + delta * log_rate(stress * reference_size / trial_size)); the metric is the best value over
        the epochs of a trial, on validation data.

    The model is left alone. BatchNormalization is folded into it, activation quantizers are placed by
    :func:`~po2quant.network.place_quantizers`, and all trials train in one compiled graph, each from the same weights
    with a fresh Adam. The flat configurations of the space are tried first, then what measured sensitivities promise.

    Args:
        model: float functional or Sequential model with one input and one output, compiled with Adam; its loss and
            learning rate are the trials'. A learning rate schedule is read at the start of each epoch.
        metrics: the objective, then metrics to log; see :meth:`~po2quant.autoqkeras.objective.MetricObjective.of`.
        goal: AutoQKeras' dictionary; see :meth:`~po2quant.autoqkeras.objective.BitsGoal.from_dict`. None: 8 % for each
            factor of 2 below 8 bits.
        quantization_config: AutoQKeras' dictionary; see
            :meth:`~po2quant.autoqkeras.quantization_config.QuantizationConfig.from_dict`. None: the published widths
            with power-of-two scales.
        limit: AutoQKeras' dictionary; see :class:`~po2quant.autoqkeras.quantization_config.Limits`. None: no limits.
        mode: ``'bayesian'``, ``'random'`` or ``'hyperband'``: many trials of few epochs, the best of them
            again with more (Li et al., JMLR 18, 2018, 185). A trial that goes on repeats its first epochs exactly.
        informed: whether a bayesian search from the model's weights first measures what each width of each quantizer
            costs alone (``sensitivity.csv``), which saves most of its trials.
        layer_indexes: positions in ``model.layers`` of the layers to search; None: all. The others, like layers that
            ``limit`` does not name, keep the widths of the goal's reference.
        transfer_weights: whether trials start from the model's weights, else from random ones, the same in all trials.
        max_trials: trials in all; hyperband has its own number.
        seed: of the trials, the first weights, calibration and order of samples.
        output_dir: folder of the run: ``trials.csv``, ``best_config.json``, ``best.weights.h5``, ``trials/``.
        overwrite: True starts anew, in ``<output_dir>_1`` and so on where ``output_dir`` holds something; False goes on
            with an unfinished search there.
        custom_objects: Keras objects by name, for models that need them.
        placement: what the rules of quantizer placement leave open.
        activation_scale: ``'static'``, or ``'per_sample'``: what ``scale_axis=0`` meant, for comparison; no integer
            engine can do that.
        options: ``max_epochs``, ``factor`` and ``hyperband_iterations`` of hyperband; ``fit``, a dictionary of default
            arguments of :meth:`fit`; QKeras' other options at their neutral values.

    Raises:
        ValueError: for arguments that are wrong or not offered, saying what is.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")])
        >>> model.compile("adam", "mse")
        >>> limit = {"Dense": [8, 31, 8], "Activation": [8]}
        >>> search = AutoQKeras(model, [lambda logs: 1 / (1 + logs["loss"])], limit=limit, max_trials=20)
        >>> search.space.choices(search.layers)["dense.kernel"]
        (4, 8)

    Reference:
        Coelho et al., arXiv 2006.10159; QKeras 0.9.0, ``qkeras.autoqkeras``.
    """

    def __init__(
        self,
        model: keras.Model,
        metrics: Any = None,
        *,
        goal: Mapping[str, Any] | ForgivingFactor | None = None,
        quantization_config: Mapping[str, Mapping[str, int]] | None = None,
        limit: Mapping[str, Sequence] | None = None,
        mode: str = BAYESIAN,
        informed: bool = True,
        layer_indexes: Iterable[int] | None = None,
        transfer_weights: bool = True,
        max_trials: int = 10,
        seed: int = 0,
        output_dir: str | Path = "result",
        overwrite: bool = True,
        custom_objects: Mapping[str, Any] | None = None,
        placement: Placement = Placement(),
        activation_scale: str = STATIC,
        **options: Any,
    ) -> None:
        _, read, self._learning_rate, self._objective, self._goal, self._quantizers = together(
            lambda: check_mode(mode, max_trials),
            lambda: read_options(options, mode),
            lambda: check_model(model),
            lambda: MetricObjective.of(metrics),
            lambda: BitsGoal.from_dict(goal),
            lambda: QuantizationConfig.from_dict(quantization_config),
        )
        self._fit_defaults, self._hyperband = read
        self.model, self.mode, self.max_trials, self.seed = model, mode, max_trials, seed
        self._transfer_weights, self._placement, self._activation_scale = transfer_weights, placement, activation_scale
        is_informed = informed and transfer_weights and mode == BAYESIAN and activation_scale == STATIC
        self._strategy = INFORMED if is_informed else mode
        self._scope = lambda: keras.saving.custom_object_scope(dict(custom_objects or {}))
        with self._scope():
            self.layers: list[LayerShape] = self._goal.counted_layers(network_layers(fold_batch_norm(model), placement))
            widths = self._goal.reference_widths
            self.space = search_space(model, self._quantizers, limit, layer_indexes, widths, placement)
        self._network_goal = self._goal.of_network(self.layers)
        self.output_dir = free_folder(Path(output_dir)) if overwrite else Path(output_dir)
        self.tuner: BitWidthTuner | None = None

    def fit(self, x: Any, y: Any, **arguments: Any) -> None:
        """Run the search.

        A search that Ctrl-C ends keeps its finished trials: :meth:`history` and the best results are there.

        Args:
            x: training inputs, an array ``(samples, ...)``.
            y: training targets, an array ``(samples, ...)``; an auto-encoder's are ``x``.
            arguments: ``validation_data=(x, y)``, or ``validation_split``, the share at the end of the training samples
                that is taken for validation, as Keras does; ``epochs`` of a trial (10); ``batch_size`` (32);
                ``verbose`` (1), 0 shows no progress.

        Raises:
            ValueError: for wrong arguments, samples that do not fit the model or a metric that the logs have not.
            RuntimeError: where no trial completed.
        """
        given = {**FIT_DEFAULTS, **self._fit_defaults, **arguments}
        check_fit_arguments(given)
        dataset = own_dataset(x, y, given["validation_data"], given["validation_split"])
        check_fits(dataset, self.model)
        train, validation = require_training_data(dataset)
        recipe = self._make_recipe(dataset, given["batch_size"], given["epochs"])
        self._data = f"passed to fit: {len(train)} train, {len(validation)} validation samples"
        with RunFolder(self.output_dir, self._identity(recipe, dataset), resume=True) as folder:
            folder.write_environment(seed=self.seed, data=self._data)
            self._search(dataset, recipe, bool(given["verbose"]) and self.mode != HYPERBAND)

    def _search(self, dataset: Dataset, recipe: Recipe, shown: bool) -> None:
        keras.utils.set_random_seed(self.seed)
        network = ReusableNetwork(self._quantize(self._start(), reference_config(self.layers)), recipe)
        _, validation = require_training_data(dataset)
        self._objective.read(validation_logs(network.model, Pipeline(validation.head(CHECKED_SAMPLES)), recipe))
        samples = trial_inputs(dataset, network.model, self.seed)
        training = TrialTraining(network, dataset, samples, recipe, self._objective)
        problem = SearchProblem(
            self.space,
            self.layers,
            self._network_goal,
            self.max_trials,
            recipe.epochs,
            self.seed,
            lambda: measured_sensitivities(problem, training, self.output_dir, shown),
        )
        oracle = STRATEGIES[self._strategy](problem, **self._hyperband)
        with progress_line("search", self.max_trials) if shown else contextlib.nullcontext(SILENT) as line:
            self.tuner = BitWidthTuner(problem, training, oracle, self.output_dir, line)
            self.tuner.search(verbose=0)
        self.get_best_config().save(self.output_dir / BEST_CONFIG)

    def _start(self) -> keras.Model:
        """Return the float model with the weights that trials start from."""
        if self._transfer_weights:
            return self.model
        with self._scope():
            return keras.models.clone_model(self.model)

    def _make_recipe(self, dataset: Dataset, batch_size: int, epochs: int) -> Recipe:
        train, _ = require_training_data(dataset)
        rate, steps = self._learning_rate, -(-len(train) // batch_size)
        return Recipe(
            self.model.loss,
            epochs,
            0,
            batch_size,
            lambda epoch: float(rate(epoch * steps)),
            self._objective.metrics,
        )

    def _identity(self, recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
        """Return what an unfinished search must have in common with the one that goes on with it."""
        return {
            "search": type(self).__name__,
            "mode": self.mode,
            "max_trials": self.max_trials,
            "seed": self.seed,
            "metric": self._objective.name,
            "goal": dataclasses.asdict(self._goal),
            "alpha": self._quantizers.alpha,
            "activation_scale": self._activation_scale,
            "widths": self.space.choices(self.layers),
            "groups": self.space.groups,
            "transfer_weights": self._transfer_weights,
            "informed": self._strategy == INFORMED,
            "trial_epochs": recipe.epochs,
            "hyperband": self._hyperband,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate(0),
            "data": dataset.fingerprint(),
        }

    def _quantize(self, model: keras.Model, config: BitConfig) -> keras.Model:
        with self._scope():
            return quantize_model(model, config, self._quantizers.alpha, self._placement, self._activation_scale)

    def _finished(self) -> BitWidthTuner:
        if self.tuner is None:
            raise ValueError("fit must be called first: there is no trial yet")
        return self.tuner

    def history(self, number_of_trials: int = -1) -> dict[str, list]:
        """Return the completed trials, best first, as lists of equal length.

        Args:
            number_of_trials: how many; -1 means all.

        Returns:
            ``trial_id``, ``score``, ``trial_size`` in bits, and of the best epoch its number ``epoch``, ``loss``,
            ``val_loss``, every metric and its ``val_`` value.
        """
        ranked = self._finished().log.ranked()
        history: dict[str, list] = {}
        for row in ranked if number_of_trials < 0 else ranked[:number_of_trials]:
            size = row.size_bits + self._goal.extra_bits(self.layers)
            best_epoch = max(self._epochs(row), key=self._validation_value)
            values = {"trial_id": row.trial_id, "score": row.score, "trial_size": size} | best_epoch
            for name, value in values.items():
                history.setdefault(name, []).append(value)
        return history

    def _epochs(self, row: TrialRow) -> list[dict[str, float]]:
        rows = read_csv(self.output_dir / TRIALS_FOLDER / row.trial_id / EPOCHS_CSV)
        return [{name: float(value) for name, value in epoch.items()} for epoch in rows]

    def _validation_value(self, epoch: Mapping[str, float]) -> float:
        return self._objective.read(
            {name.removeprefix("val_"): value for name, value in epoch.items() if name.startswith("val_")}
        )

    def get_best_config(self) -> BitConfig:
        """Return the widths of the trial of highest score."""
        tuner = self._finished()
        found, (best, *_) = tuner.best_config(self.model.name), tuner.log.ranked()
        facts = {
            "found_by": f"po2quant {type(self).__name__}",
            "alpha": self._quantizers.alpha,
            "epochs_per_trial": len(self._epochs(best)),
            "size_bits": best.size_bits + self._goal.extra_bits(self.layers),
            "data": self._data,
        }
        return BitConfig(found.layers, found.name, {**found.provenance, **facts})

    def get_best_model(self) -> keras.Model:
        """Return the quantized network of the trial of highest score, with the weights of its best epoch.

        It is compiled for further training; :func:`~po2quant.network.freeze_scales` fixes its scales.
        """
        model = self._quantize(self.model, self.get_best_config())
        compile_model(model, self._finished().training.recipe)
        load_weights(model, self.output_dir / BEST_WEIGHTS)
        return model
