"""How a trial is trained."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np

from po2quant.benchmark import Dataset, Recipe
from po2quant.bit_config import BitConfig
from po2quant.network import activation_quantizers
from po2quant.network.graph import read_graph
from po2quant.training.finetune import Experiment, require_training_data, reusable_network
from po2quant.training.fit import DivergedError, Steps, begun, train_epoch, validation_logs
from po2quant.training.pipeline import Pipeline
from po2quant.training.prepare import CALIBRATION_SAMPLES, calibration_inputs
from po2quant.training.reconstruct import Reconstruction, input_count, reconstruct_in_place
from po2quant.training.reusable import ReusableNetwork

CALIBRATION_VALUES = 2**27
"""Activation values that calibrate a trial at most: time for more is better spent on more trials."""


@dataclasses.dataclass(frozen=True)
class TrialTraining:
    """Trains configurations of one network, each from the same weights and with a fresh optimizer, in one graph.

    Args:
        network: quantized network with float weights.
        dataset: training and validation splits, used without augmentation; the test split is not touched.
        calibration_inputs: network inputs that set the activation ranges of each trial.
        recipe: loss, rates, batch size.
        selection: value of the validation logs, in [0, 1], to maximise.
        learn_rounding: is given the network of a trial before it is trained. None: nothing.
        callbacks: makes Keras callbacks for one training, which are called as ``fit`` would.
    """

    network: ReusableNetwork
    dataset: Dataset
    calibration_inputs: np.ndarray
    recipe: Recipe
    selection: Callable[[Mapping[str, float]], float]
    learn_rounding: Callable[[keras.Model], None] | None = None
    callbacks: Callable[[], list[keras.callbacks.Callback]] = list

    @classmethod
    def of(cls, experiment: Experiment) -> TrialTraining:
        """Return the training of the trials of an experiment, by its benchmark's selection."""
        network, dataset = reusable_network(experiment), experiment.dataset
        samples = trial_inputs(dataset, network.model, experiment.seed)
        settings = experiment.reconstruction
        rounding = None if settings is None else _rounding(experiment, settings)
        return cls(network, dataset, samples, experiment.recipe, experiment.benchmark.selection, rounding)

    @functools.cached_property
    def _pipelines(self) -> tuple[Pipeline, Pipeline]:
        train, validation = require_training_data(self.dataset)
        return Pipeline(train.without_augmentation()), Pipeline(validation)

    def standard_error(self, value: float, rows: Sequence[Mapping[str, float]]) -> float | None:
        """Return the standard error of a share of right answers among the validation samples, None of other values.

        Equation:
            sqrt(p (1 - p) / n) of a share p of n samples.
        """
        if value not in [row.get("val_accuracy") for row in rows] or not 0.0 <= value <= 1.0:
            return None
        _, validation = require_training_data(self.dataset)
        return math.sqrt(value * (1.0 - value) / len(validation))

    def run(
        self, config: BitConfig, epochs: int, seed: int, learning_rate: float | None = None
    ) -> Iterator[tuple[dict[str, float], float]]:
        """Train a configuration, and yield the logs of each epoch with the value to maximise.

        Args:
            config: widths.
            epochs: how many.
            seed: of the order of samples.
            learning_rate: of the first epoch, where it is not the recipe's; those of others change in proportion.

        Raises:
            DivergedError: where the value is not finite.
        """
        model, (train, validation) = self.network.model, self._pipelines
        recipe = self._recipe(learning_rate)
        self.network.reset(config, self.calibration_inputs)
        if self.learn_rounding is not None:
            self.learn_rounding(model)
        callbacks = begun(self.callbacks(), model, epochs, -(-len(train) // recipe.batch_size))
        for epoch in range(epochs):
            callbacks.on_epoch_begin(epoch)
            logs = train_epoch(model, train, recipe, epoch, seed, epochs=epochs, callbacks=[Steps(callbacks)])
            validated = validation_logs(model, validation, recipe)
            value = self.selection(validated)
            if not np.isfinite(value):
                raise DivergedError(f"the validation value of epoch {epoch + 1} is {value}")
            logs |= {f"val_{name}": log for name, log in validated.items()}
            callbacks.on_epoch_end(epoch, logs)
            yield {"epoch": epoch + 1, **logs}, value
            if model.stop_training:
                break
        callbacks.on_train_end()

    def _recipe(self, learning_rate: float | None) -> Recipe:
        if learning_rate is None:
            return self.recipe
        rates = self.recipe.learning_rate
        return dataclasses.replace(self.recipe, learning_rate=lambda e: learning_rate * rates(e) / rates(0))


def _rounding(experiment: Experiment, settings: Reconstruction) -> Callable[[keras.Model], None]:
    """Return what learns the rounding of a trial's weights, from inputs that all trials share."""
    network = experiment.float_network
    count = input_count(network, settings.samples)
    x, _ = calibration_inputs(experiment.dataset, network.model, experiment.seed, count)
    return lambda model: reconstruct_in_place(network, model, x, settings, experiment.seed)


def trial_inputs(dataset: Dataset, model: keras.Model, seed: int) -> np.ndarray:
    """Return the inputs that calibrate the trials of a quantized network."""
    return calibration_inputs(dataset, model, seed, trial_input_count(model))[0]


def trial_input_count(model: keras.Model) -> int:
    """Return how many inputs calibrate a trial: fewer where activations are large, see :data:`CALIBRATION_VALUES`."""
    names, steps = dict(activation_quantizers(model)), read_graph(model).steps
    values = sum(math.prod(node.fixed_shape) * times for node, times in steps.items() if node.layer.name in names)
    return min(CALIBRATION_SAMPLES, max(1, CALIBRATION_VALUES // values))
