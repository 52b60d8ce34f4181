"""Bayesian search of bit widths with Keras Tuner, in one compiled graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import TrialStatus

from po2quant.benchmark import Dataset, Recipe
from po2quant.bit_config import BitConfig
from po2quant.cost import ForgivingFactor, LayerShape, network_size, reference_config
from po2quant.search.space import SearchSpace, config_from_values
from po2quant.search.trial_log import COMPLETED, FAILED, TrialLog, TrialRow
from po2quant.training.fit import (
    EPOCHS_CSV,
    DivergedError,
    save_weights,
    train_epoch,
    validation_logs,
)
from po2quant.training.pipeline import Pipeline
from po2quant.training.progress import SILENT, ProgressLine
from po2quant.training.reusable import ReusableNetwork
from po2quant.training.run_folder import write_csv
from po2quant.training.weights import BEST_WEIGHTS

OBJECTIVE = keras_tuner.Objective("score", "max")
RANDOM_TRIALS = 5
TRIALS_CSV, TUNER_FOLDER, TRIALS_FOLDER = "trials.csv", "tuner", "trials"


class SeededOracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """A Bayesian oracle that first tries given configurations.

    Args:
        seeds: hyperparameter values of the first trials.
        random_trials: trials at random after them, before the Gaussian process chooses.
        arguments: those of Keras Tuner's ``BayesianOptimizationOracle``.
    """

    def __init__(self, seeds: Sequence[Mapping[str, int]], random_trials: int, **arguments: Any) -> None:
        super().__init__(num_initial_points=len(seeds) + random_trials, **arguments)
        self._seeds = seeds

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of a trial; ids count from 0."""
        if int(trial_id) < len(self._seeds):
            return {"status": TrialStatus.RUNNING, "values": dict(self._seeds[int(trial_id)])}
        return super().populate_space(trial_id)


class BitWidthTuner(keras_tuner.Tuner):
    """Tries configurations of one quantized network and keeps the one of highest score.

    score = metric * forgiving factor, where the metric is the best validation value over a trial's
    epochs. The first trials are the flat configurations of the space, so that the result is never worse than
    they are. Every trial starts from the same weights, with its own calibration and a fresh optimizer
    state, in the graph that the first trial compiled.

    Args:
        network: quantized network with float weights.
        layers: its layers as the bit accounting sees them.
        dataset: training and validation splits, used without augmentation; the test split is not touched.
        calibration_inputs: inputs that set the activation ranges of each trial.
        recipe: loss, rates, batch size.
        selection: value of the validation logs, in [0, 1], to maximise.
        epochs: epochs of a trial.
        max_trials: trials in all.
        folder: run folder; an unfinished search in it goes on.
        space: widths to choose from.
        forgiving_factor: trade of metric for size.
        seed: of the oracle and of the order of samples.
        line: shows progress, in trials.
    """

    def __init__(
        self,
        network: ReusableNetwork,
        layers: Sequence[LayerShape],
        dataset: Dataset,
        calibration_inputs: np.ndarray,
        recipe: Recipe,
        selection: Callable[[Mapping[str, float]], float],
        epochs: int,
        max_trials: int,
        folder: Path,
        space: SearchSpace | None = None,
        forgiving_factor: ForgivingFactor | None = None,
        seed: int = 0,
        line: ProgressLine = SILENT,
    ) -> None:
        self._network, self._model, self._layers = network, network.model, layers
        self._train_pipeline = Pipeline(dataset.train.without_augmentation())
        self._validation_pipeline, self._data = Pipeline(dataset.validation), dataset.describe()
        self._calibration_inputs, self._recipe, self._selection = calibration_inputs, recipe, selection
        self._epochs, self._max_trials, self._seed, self._line = epochs, max_trials, seed, line
        self._folder = folder
        self._factor = forgiving_factor or ForgivingFactor()
        self._reference_bits = network_size(layers, reference_config(layers)).total_bits
        space = space or SearchSpace()
        oracle = SeededOracle(
            space.flat_values(layers),
            RANDOM_TRIALS,
            objective=OBJECTIVE,
            max_trials=max_trials,
            hyperparameters=space.hyperparameters(layers),
            allow_new_entries=False,
            seed=seed,
            max_retries_per_trial=0,
            max_consecutive_failed_trials=max_trials + 1,
        )
        super().__init__(oracle=oracle, directory=str(folder), project_name=TUNER_FOLDER, overwrite=False)
        finished = {trial_id for trial_id, trial in oracle.trials.items() if trial.status not in ("RUNNING", "IDLE")}
        self.log = TrialLog(folder / TRIALS_CSV, finished)

    def run_trial(self, trial: keras_tuner.engine.trial.Trial, verbose: int = 0) -> dict[str, float]:
        """Train and score one configuration, and log it; a trial that raises must not end the search."""
        start = time.perf_counter()
        config = config_from_values(trial.hyperparameters.values, self._layers, f"trial_{trial.trial_id}")
        size_bits = network_size(self._layers, config).total_bits
        factor = self._factor(size_bits, self._reference_bits)
        best = self.log.best()
        message = (
            f"trial {len(self.log.rows) + 1}/{self._max_trials}, {size_bits / self._reference_bits:.0%} of reference"
        )
        message += f", best score {best.score:.4f}" if best else ""
        self._line.update(len(self.log.rows), message)

        def row(status: str, score: float | None, metric: float | None, error: str = "") -> TrialRow:
            seconds = round(time.perf_counter() - start, 3)
            ratio = round(size_bits / self._reference_bits, 6)
            return TrialRow(trial.trial_id, status, score, metric, size_bits, ratio, seconds, error)

        try:
            metric = self._train(config, trial.trial_id, factor, best)
        except Exception as error:
            self.log.append(row(FAILED, None, None, f"{type(error).__name__}: {' '.join(str(error).split())}"))
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        score = metric * factor
        self.log.append(row(COMPLETED, score, metric))
        return {"score": score}

    def _train(self, config: BitConfig, trial_id: str, factor: float, best: TrialRow | None) -> float:
        self._network.reset(config, self._calibration_inputs)
        folder = self._folder / TRIALS_FOLDER / trial_id
        folder.mkdir(parents=True, exist_ok=True)
        config.save(folder / "config.json")
        rows, metric = [], -np.inf
        for epoch in range(self._epochs):
            logs = train_epoch(self._model, self._train_pipeline, self._recipe, epoch, self._seed)
            validation = validation_logs(self._model, self._validation_pipeline, self._recipe)
            rows.append({"epoch": epoch + 1, **logs, **{f"val_{name}": value for name, value in validation.items()}})
            value = self._selection(validation)
            if not np.isfinite(value):
                raise DivergedError(f"the validation value of epoch {epoch + 1} is {value}")
            if value > metric:
                metric = value
                if best is None or metric * factor > best.score:
                    save_weights(self._model, self._folder / BEST_WEIGHTS)
        write_csv(folder / EPOCHS_CSV, rows)
        return float(metric)

    def best_config(self, name: str) -> BitConfig:
        """Return the configuration of highest score.

        Raises:
            RuntimeError: where no trial completed, with the last error.
        """
        best = self.log.best()
        if best is None:
            last = self.log.rows[-1].error if self.log.rows else "no trial ran"
            raise RuntimeError(f"no trial completed. The last error: {last}")
        found = BitConfig.load(self._folder / TRIALS_FOLDER / best.trial_id / "config.json")
        provenance = {
            "found_by": "po2quant search",
            "trial": best.trial_id,
            "trials": len(self.log.rows),
            "epochs_per_trial": self._epochs,
            "seed": self._seed,
            "score": best.score,
            "metric": best.metric,
            "size_bits": best.size_bits,
            "reference_size_bits": self._reference_bits,
            "data": self._data,
        }
        return BitConfig(found.layers, name, provenance)
