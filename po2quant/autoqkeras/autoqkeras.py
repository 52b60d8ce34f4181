"""``AutoQKeras`` for Keras 3: the search under the name, arguments and dictionaries of QKeras 0.9.0."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from po2quant.autoqkeras.arguments import (
    FIT_DEFAULTS,
    check_filters,
    check_fit_arguments,
    check_mode,
    check_model,
    check_names,
    free_folder,
    fresh_callbacks,
    fresh_optimizer,
    own_dataset,
    read_options,
    together,
)
from po2quant.autoqkeras.energy_goal import goal_from
from po2quant.autoqkeras.filters import factors_of, filter_choices, tuned_layers, with_filters
from po2quant.autoqkeras.objective import SCORE, MetricObjective
from po2quant.autoqkeras.quantization_config import QuantizationConfig, search_space, searched_layers
from po2quant.autoqkeras.results import SearchResults
from po2quant.autoqkeras.tuner import AutoQKerasTuner
from po2quant.benchmark import Dataset, Recipe
from po2quant.bit_config import BitConfig
from po2quant.compat import loss_weights_of
from po2quant.cost import ForgivingFactor, LayerShape, reference_config
from po2quant.deploy.template import width_template
from po2quant.network import Placement, fold, fold_batch_norm, network_layers, quantize_model
from po2quant.network.quantize import STATIC
from po2quant.progress import SILENT, progress_line
from po2quant.runs.folder import RunFolder
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS
from po2quant.search.problem import Goal, SearchProblem
from po2quant.search.run import measured_sensitivities
from po2quant.search.space import config_from_values
from po2quant.search.strategies import BAYESIAN, HYPERBAND, INFORMED, STRATEGIES
from po2quant.search.trial import TrialTraining, trial_inputs
from po2quant.search.tuner import LEARNING_RATE
from po2quant.training.finetune import require_training_data
from po2quant.training.fit import compile_model, validation_logs
from po2quant.training.pipeline import Pipeline
from po2quant.training.prepare import check_fits
from po2quant.training.reusable import ReusableNetwork
from po2quant.weight_files import load_weights

RATE_FACTORS = (1.0, 0.5, 0.65, 0.8, 1.1)
"""What ``learning_rate_optimizer`` multiplies the learning rate by; the first is what first trials have."""

CHECKED_SAMPLES = 32
"""Validation samples that show before the search which logs there are."""


class AutoQKeras(SearchResults):
    """Searches the width of every kernel, bias and activation of a Keras model.

    Equation:
        score = metric * (1 + delta * log_rate(stress * reference_size / trial_size)); the metric is the best value over
        the epochs of a trial, on validation data.

    The model is left alone. BatchNormalization is folded into it, activation quantizers are placed by
    :func:`~po2quant.network.place_quantizers`, and all trials train in one compiled graph, each from the same weights
    with a fresh Adam. The flat configurations of the space are tried first, then what measured sensitivities promise.

    Arguments up to ``score_metric`` stand in the order of QKeras 0.9.0.

    Args:
        model: float functional or Sequential model with one input, compiled; its loss, weights of losses, optimizer and
            learning rate are the trials'. A learning rate schedule is read at the start of each epoch.
        metrics: the objective, then metrics to log; see :meth:`~po2quant.autoqkeras.objective.MetricObjective.of`.
        custom_objects: Keras objects by name, for models that need them.
        goal: AutoQKeras' dictionary, of bits or energy; see
            :meth:`~po2quant.autoqkeras.objective.BitsGoal.from_dict` and
            :class:`~po2quant.autoqkeras.energy_goal.EnergyGoal`. None: 8 % for each factor of 2 below 8 bits.
        output_dir: folder of the run: ``trials.csv``, ``best_config.json``, ``best.weights.h5``, ``trials/``.
        mode: ``'bayesian'``, ``'random'`` or ``'hyperband'``: many trials of few epochs, the best of them
            again with more (Li et al., JMLR 18, 2018, 185). A trial that goes on repeats its first epochs exactly.
        custom_tuner: None.
        transfer_weights: whether trials start from the model's weights, else from random ones, the same in all trials.
        frozen_layers: names of layers that are not searched; they keep the widths of ``left_alone``.
        activation_bits: without effect: every activation has a width of its own.
        limit: AutoQKeras' dictionary; see :class:`~po2quant.autoqkeras.quantization_config.Limits`. None: no limits.
        tune_filters: ``'block'`` multiplies the filters and units of all searched layers by one choice of 0.5, 0.75, 1,
            1.5, 2, ``'layer'`` those of each by its own. Each size is a network of its own, which is compiled.
        tune_filters_exceptions: regular expression that is found in the names of layers that keep their filters.
        learning_rate_optimizer: whether a trial also chooses its learning rate, from 0.5 to 1.1 times the model's.
        layer_indexes: positions in ``model.layers`` of the layers to search; None: all. The others, like layers that
            ``limit`` does not name, keep the widths of the goal's reference.
        quantization_config: AutoQKeras' dictionary; see
            :meth:`~po2quant.autoqkeras.quantization_config.QuantizationConfig.from_dict`. None: the published widths
            with power-of-two scales.
        overwrite: True starts anew, in ``<output_dir>_1`` and so on where ``output_dir`` holds something; False goes on
            with an unfinished search there.
        head_name: key of ``metrics``, where it is a dictionary; of several outputs the one whose first metric counts.
        score_metric: ``'val_score'``, or the validation value to maximise alone, e.g. ``'val_accuracy'``.
        max_trials: trials in all; hyperband has its own number.
        seed: of the trials, the first weights, calibration and order of samples.
        informed: whether a bayesian search from the model's weights first measures what each width of each quantizer
            costs alone (``sensitivity.csv``), which saves most of its trials.
        placement: what the rules of quantizer placement leave open.
        activation_scale: ``'static'``, or ``'per_sample'``: what ``scale_axis=0`` meant, for comparison; no integer
            engine can do that.
        left_alone: widths by slot, such as ``'conv.kernel'``, of what is not searched, where they are not the
            reference's.
        options: ``executions_per_trial``, ``max_retries_per_trial``, ``directory``; ``max_epochs``, ``factor`` and
            ``hyperband_iterations`` of hyperband; ``fit``, a dictionary of default arguments of :meth:`fit`; other
            options of QKeras and Keras Tuner, see docs/autoqkeras.md.

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
        custom_objects: Mapping[str, Any] | None = None,
        goal: Mapping[str, Any] | ForgivingFactor | None = None,
        output_dir: str | Path = "result",
        mode: str = BAYESIAN,
        custom_tuner: None = None,
        transfer_weights: bool = True,
        frozen_layers: Iterable[str] | None = None,
        activation_bits: int = 4,
        limit: Mapping[str, Sequence] | None = None,
        tune_filters: str = "none",
        tune_filters_exceptions: str | None = None,
        learning_rate_optimizer: bool = False,
        layer_indexes: Iterable[int] | None = None,
        quantization_config: Mapping[str, Mapping[str, int]] | None = None,
        overwrite: bool = True,
        head_name: str | None = None,
        score_metric: str | None = None,
        *,
        max_trials: int = 10,
        seed: int = 0,
        informed: bool = True,
        placement: Placement = Placement(),
        activation_scale: str = STATIC,
        left_alone: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        options = {**options, "custom_tuner": custom_tuner, "activation_bits": activation_bits}
        _, read, self._learning_rate, self._objective, self._goal, self._quantizers, exceptions, frozen = together(
            lambda: check_mode(mode, max_trials),
            lambda: read_options(options, mode),
            lambda: check_model(model),
            lambda: MetricObjective.of(metrics, head_name, score_metric, getattr(model, "output_names", ())),
            lambda: goal_from(goal),
            lambda: QuantizationConfig.from_dict(quantization_config),
            lambda: check_filters(tune_filters, tune_filters_exceptions),
            lambda: check_names("frozen_layers", frozen_layers, model),
        )
        self._options = read
        self.model, self.mode, self.max_trials, self.seed = model, mode, max_trials, seed
        self._transfer_weights, self._placement, self._activation_scale = transfer_weights, placement, activation_scale
        self._scope = lambda: keras.saving.custom_object_scope(dict(custom_objects or {}))
        with self._scope():
            self.layers: list[LayerShape] = self._goal.counted_layers(network_layers(fold_batch_norm(model), placement))
            widths = self._goal.reference_widths | dict(left_alone or {})
            self.space = search_space(model, self._quantizers, limit, layer_indexes, widths, placement, frozen)
            self._network_goal = self._goal.of_network(self.layers, lambda: width_template(fold(model, placement)))
        if score_metric not in (None, SCORE):
            self._network_goal = dataclasses.replace(self._network_goal, trade=None)
        self.tuned = tuned_layers(model, exceptions, searched_layers(self.space)) if tune_filters != "none" else []
        extra = filter_choices(self.tuned, tune_filters)
        if learning_rate_optimizer:
            extra[LEARNING_RATE] = tuple(float(self._learning_rate(0)) * factor for factor in RATE_FACTORS)
        self.space = dataclasses.replace(self.space, extra=extra)
        is_informed = (
            informed and transfer_weights and mode == BAYESIAN and activation_scale == STATIC and not self.tuned
        ) and len(model.outputs) == 1
        self._strategy = INFORMED if is_informed else mode
        path = read.directory / output_dir
        self.output_dir = free_folder(path) if overwrite else path
        self.tuner: AutoQKerasTuner | None = None

    def fit(self, x: Any, y: Any = None, *positional: Any, **arguments: Any) -> None:
        """Run the search.

        A search that Ctrl-C ends keeps its finished trials: :meth:`history` and the best results are there.

        Args:
            x: training inputs, an array ``(samples, ...)``, or a ``tf.data.Dataset`` of batches, read into memory.
            y: training targets, an array ``(samples, ...)``; an auto-encoder's are ``x``. Those of several outputs are
                a list or tuple in their order, or a dictionary by their names.
            positional: ``batch_size``, ``epochs`` and ``verbose``, as Keras has them.
            arguments: ``validation_data=(x, y)``, or ``validation_split``, the share at the end of the training samples
                that is taken for validation, as Keras does; ``epochs`` of a trial (10); ``batch_size`` (32);
                ``verbose`` (1), 0 shows no progress; ``callbacks``, of which each trial gets copies; ``class_weight``,
                ``sample_weight``; ``steps_per_epoch``, which bounds the training samples.

        Raises:
            ValueError: for wrong arguments, samples that do not fit the model or a metric that the logs have not.
            RuntimeError: where no trial completed.
        """
        named = dict(zip(("batch_size", "epochs", "verbose"), positional, strict=False))
        given = {**FIT_DEFAULTS, **self._options.fit, **named, **arguments}
        check_fit_arguments(given)
        steps, batch_size = given["steps_per_epoch"], given["batch_size"] or FIT_DEFAULTS["batch_size"]
        weights = {name: given[name] for name in ("sample_weight", "class_weight")}
        most = None if steps is None else steps * batch_size
        splits = {"validation_data": given["validation_data"], "validation_split": given["validation_split"]}
        dataset = own_dataset(x, y, **splits, **weights, most=most, outputs=getattr(self.model, "output_names", ()))
        check_fits(dataset, self.model)
        train, validation = require_training_data(dataset)
        recipe = self._make_recipe(dataset, batch_size, given["epochs"])
        self._callbacks = given["callbacks"]
        fresh_callbacks(self._callbacks)
        self._data = f"passed to fit: {len(train)} train, {len(validation)} validation samples"
        for text, reason in self._quantizers.left_out.items():
            warnings.warn(f"{text} is left out of the search: {reason}", stacklevel=2)
        with RunFolder(self.output_dir, self._identity(recipe, dataset), resume=True) as folder:
            folder.write_environment(seed=self.seed, data=self._data)
            self._search(dataset, recipe, bool(given["verbose"]) and self.mode != HYPERBAND)

    def _search(self, dataset: Dataset, recipe: Recipe, shown: bool) -> None:
        keras.utils.set_random_seed(self.seed)
        training = self.training_of(self._start(), self.layers, dataset, recipe)
        model, (_, validation) = training.network.model, require_training_data(dataset)
        self._objective.read(validation_logs(model, Pipeline(validation.head(CHECKED_SAMPLES)), recipe))
        goal = self._network_goal
        problem = SearchProblem(
            self.space,
            self.layers,
            goal,
            self.max_trials,
            recipe.epochs,
            self.seed,
            lambda: measured_sensitivities(problem, training, self.output_dir, shown),
            costs={goal.name: goal.cost},
        )
        oracle = STRATEGIES[self._strategy](problem, **self._options.hyperband)
        with progress_line("search", self.max_trials) if shown else contextlib.nullcontext(SILENT) as line:
            counts = {"executions": self._options.executions, "retries": self._options.retries}
            self.tuner = AutoQKerasTuner(problem, training, oracle, self.output_dir, line, **counts)
            self.tuner.search_of = self
            self.tuner.search(verbose=0)
        self.get_best_config().save(self.output_dir / BEST_CONFIG)

    def training_of(
        self, start: keras.Model, layers: Sequence[LayerShape], dataset: Dataset, recipe: Recipe
    ) -> TrialTraining:
        """Return the training of trials of a float network."""
        network = ReusableNetwork(self._quantize(start, reference_config(layers)), recipe)
        samples = trial_inputs(dataset, network.model, self.seed)
        callbacks = lambda: fresh_callbacks(self._callbacks)  # noqa: E731
        return TrialTraining(network, dataset, samples, recipe, self._objective, callbacks=callbacks)

    def resized(self, values: Mapping[str, Any]) -> tuple[keras.Model, list[LayerShape]]:
        """Return the float network with the filters of a trial, and its layers as the goal counts them."""
        model = with_filters(self._start(), factors_of(values, self.tuned))
        return model, self._goal.counted_layers(network_layers(fold_batch_norm(model), self._placement))

    def goal_of(self, model: keras.Model, layers: Sequence[LayerShape]) -> Goal:
        """Return the goal of a network with other filters, against the reference of the network itself."""
        own = self._goal.of_network(layers, lambda: width_template(fold(model, self._placement)))
        return dataclasses.replace(self._network_goal, cost=own.cost)

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
            optimizer=fresh_optimizer(self.model),
            loss_weights=loss_weights_of(self.model),
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
            "optimizer": type(self.model.optimizer).__name__,
            "executions": self._options.executions,
            "alpha": self._quantizers.alpha,
            "activation_scale": self._activation_scale,
            "widths": self.space.choices(self.layers),
            "groups": self.space.groups,
            "extra": self.space.extra,
            "transfer_weights": self._transfer_weights,
            "informed": self._strategy == INFORMED,
            "trial_epochs": recipe.epochs,
            "hyperband": self._options.hyperband,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate(0),
            "data": dataset.fingerprint(),
        }

    def _quantize(self, model: keras.Model, config: BitConfig) -> keras.Model:
        with self._scope():
            quantized = quantize_model(model, config, self._quantizers.alpha, self._placement, self._activation_scale)
        if len(model.outputs) > 1:
            quantized.output_names = model.output_names  # which losses, metrics and targets are told apart by
        return quantized

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
        tuner = self._finished()
        best = tuner.log.ranked()[:1]
        if not best:
            self.get_best_config()  # raises, with the reason
        model = self.model_of(best[0].trial_id)
        load_weights(model, self.output_dir / BEST_WEIGHTS)
        return model

    def model_of(self, trial_id: str) -> keras.Model:
        """Return the quantized network of a trial, compiled, with float weights."""
        tuner = self._finished()
        values = tuner.oracle.get_trial(trial_id).hyperparameters.values
        model = self.resized(values)[0] if self.tuned else self.model
        quantized = self._quantize(model, config_from_values(values, self.layers))
        recipe = tuner.training.recipe
        rate = values.get(LEARNING_RATE, recipe.learning_rate(0))
        compile_model(quantized, dataclasses.replace(recipe, learning_rate=lambda epoch: rate))
        return quantized

    def best_float_model(self) -> keras.Model:
        """Return the float model with the filters of the best trial, compiled as the model is."""
        if not self.tuned:
            return self.model
        tuner = self._finished()
        model, _ = self.resized(tuner.oracle.get_trial(tuner.log.ranked()[0].trial_id).hyperparameters.values)
        recipe = tuner.training.recipe
        compile_model(model, recipe)
        return model
