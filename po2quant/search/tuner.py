"""Bayesian search of bit widths with Keras Tuner, in one compiled graph."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams import api_pb2, summary

from po2quant.bit_config import BitConfig
from po2quant.cost import network_size
from po2quant.files import read_csv, replaced_whole, write_csv
from po2quant.progress import SILENT, ProgressLine
from po2quant.runs.names import (
    BEST_WEIGHTS,
    EPOCHS_CSV,
    FRONT_CSV,
    TENSORBOARD_FOLDER,
    TRIAL_CONFIG,
    TRIALS_CSV,
    TRIALS_FOLDER,
    TUNER_FOLDER,
)
from po2quant.search.front import Front
from po2quant.search.oracle import OBJECTIVE, end_trial, unfinished
from po2quant.search.problem import SearchProblem
from po2quant.search.space import config_from_values
from po2quant.search.trial import TrialTraining
from po2quant.search.trial_log import COMPLETED, FAILED, TrialLog, TrialRow
from po2quant.training.fit import save_weights

KEPT_TRIALS = 3
LOGGED = ("score", "metric", "size_ratio", "seconds")
"""What TensorBoard's table of hyperparameters shows of a trial."""

EPOCHS_VALUE, LEARNING_RATE = "tuner/epochs", "learning_rate"
"""Where Keras Tuner's hyperband says how long a trial is, and a search of rates which it has."""


class BitWidthTuner(keras_tuner.Tuner):
    """Tries configurations of one quantized network and keeps the one of highest score.

    score = metric * factor of the cost, where the metric is the best validation value over a trial's epochs.

    ``folder`` gets ``trials.csv``, a folder for each trial (the best few keep their weights), the weights of the best
    as ``best.weights.h5``, the Pareto front as ``front.csv`` and TensorBoard's curves and hyperparameters. Of a search
    with several costs, the points of the front keep their weights as well.

    Args:
        problem: what is searched.
        training: trains a trial, in the graph that the first one compiled.
        oracle: what to try.
        folder: run folder; an unfinished search in it goes on.
        line: shows progress, in trials.
        kept_trials: how many of the best trials keep their weights.
        executions: trainings of a trial, of different seeds, whose metrics are averaged.
        retries: how often a trial that fails runs again.
    """

    def __init__(
        self,
        problem: SearchProblem,
        training: TrialTraining,
        oracle: keras_tuner.Oracle,
        folder: Path,
        line: ProgressLine = SILENT,
        kept_trials: int = KEPT_TRIALS,
        executions: int = 1,
        retries: int = 0,
    ) -> None:
        self._executions, self._retries = executions, retries
        self._problem, self.training, self._folder = problem, training, folder
        self._line, self._kept_trials = line, kept_trials
        with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints that it resumes
            super().__init__(oracle=oracle, directory=str(folder), project_name=TUNER_FOLDER, overwrite=False)
        oracle.verbose = 0
        self.log = TrialLog(folder / TRIALS_CSV, oracle.trials)
        self._front = Front(folder, problem.costs or {problem.goal.name: problem.goal.cost})
        running = unfinished(oracle)
        for row in self.log.rows:
            if row.trial_id in running:
                end_trial(oracle, row)
        self._promoted: str | None = None
        self.keep_best_weights()

    def on_search_begin(self) -> None:
        """Make the search one that goes on, from its first trial."""
        self.save()

    def run_trial(self, trial: keras_tuner.engine.trial.Trial, verbose: int = 0) -> dict[str, float]:
        """Train and score one configuration, and record it; a trial that raises must not end the search."""
        values = trial.hyperparameters.values
        row = self._try(trial.trial_id, values)
        self.record(row, values)
        if row.status == FAILED:
            raise keras_tuner.errors.FailedTrialError(row.error)
        return {OBJECTIVE.name: row.rank}

    def _try(self, trial_id: str, values: Mapping[str, Any]) -> TrialRow:
        """Return what comes out of a trial; its files are in its folder."""
        start, goal = time.perf_counter(), self._problem.goal
        config = config_from_values(values, self._problem.layers, f"trial_{trial_id}")
        size_bits, cost = network_size(self._problem.layers, config).total_bits, goal.cost(values)
        ratio, factor = cost / goal.reference, goal.factor(cost)
        self._show(f"trial {len(self.log.rows) + 1}/{self.oracle.max_trials or '?'}, {ratio:.0%} of reference")
        status, score, metric, error, deviation = FAILED, None, None, "", None
        for _ in range(1 + self._retries):
            try:
                metric, deviation = self._train(config, trial_id, values, factor)
                status, score, error = COMPLETED, metric * factor, ""
                break
            except Exception as exception:
                self._weights(trial_id).unlink(missing_ok=True)
                error = f"{type(exception).__name__}: {' '.join(str(exception).split())}"
        seconds = round(time.perf_counter() - start, 3)
        return TrialRow(trial_id, status, score, metric, size_bits, round(ratio, 6), seconds, error, deviation)

    def record(self, row: TrialRow, values: Mapping[str, Any]) -> None:
        """Log a trial that has ended in its folder, and keep its weights if it is among the best.

        Args:
            row: what came out of it.
            values: its hyperparameters.
        """
        self._log_to_tensorboard(row, values)
        self.log.append(row)
        self.keep_best_weights()
        self._show(f"trial {row.trial_id} {row.status}")

    def _show(self, message: str) -> None:
        best = self.log.best()
        self._line.update(len(self.log.rows), message + (f", best score {best.score:.4f}" if best else ""))

    def _train(
        self, config: BitConfig, trial_id: str, values: Mapping[str, Any], factor: float
    ) -> tuple[float, float | None]:
        """Return the best validation value of a trial, whose weights are saved if they may be kept, and its error."""
        folder = self.trial_folder(trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        config.save(folder / TRIAL_CONFIG)
        kept = self.log.ranked()[: self._kept_trials]
        keeps_all = len(kept) < self._kept_trials or self._has_front
        best, metrics = -np.inf if keeps_all else kept[-1].rank / factor, []
        epochs, rate = values.get(EPOCHS_VALUE, self._problem.epochs), values.get(LEARNING_RATE)
        for execution in range(self._executions):
            rows, metric = [], -np.inf
            for row, value in self.training.run(config, epochs, self._problem.seed + execution, rate):
                rows.append(row)
                metric = max(metric, value)
                if value > best:
                    best = value
                    save_weights(self.training.network.model, self._weights(trial_id))
            metrics.append(metric)
            write_csv(folder / EPOCHS_CSV, rows)
        if self._executions > 1:
            return float(np.mean(metrics)), float(np.std(metrics, ddof=1) / np.sqrt(len(metrics)))
        return float(metric), self.training.standard_error(metric, rows)

    def trial_folder(self, trial_id: str) -> Path:
        """Return where a trial leaves its configuration, epochs and weights."""
        return self._folder / TRIALS_FOLDER / trial_id

    def _weights(self, trial_id: str) -> Path:
        return self.trial_folder(trial_id) / BEST_WEIGHTS

    def keep_best_weights(self) -> None:
        """Leave the best trials their weights, and put the best one's into the run folder."""
        ranked = self.log.ranked()
        if ranked and ranked[0].trial_id != self._promoted:
            with replaced_whole(self._folder / BEST_WEIGHTS) as temporary:
                shutil.copyfile(self._weights(ranked[0].trial_id), temporary)
            self._promoted = ranked[0].trial_id
        front = self._front.points(self.log.rows)
        kept = {point.row.trial_id for point in front} if self._has_front else set()
        for row in ranked[self._kept_trials :]:
            if row.trial_id not in kept:
                self._weights(row.trial_id).unlink(missing_ok=True)
        if front:
            self._front.write(self._folder / FRONT_CSV, front)

    @property
    def _has_front(self) -> bool:
        return len(self._problem.costs) > 1

    def _log_to_tensorboard(self, row: TrialRow, values: Mapping[str, Any]) -> None:
        with tf.summary.create_file_writer(str(self._folder / TENSORBOARD_FOLDER / row.trial_id)).as_default(step=0):
            hparams.hparams_config([hparams.HParam(name) for name in values], [hparams.Metric(n) for n in LOGGED])
            hparams.hparams(dict(values), trial_id=row.trial_id)
            for name in LOGGED:
                if (value := getattr(row, name)) is not None:
                    tf.summary.scalar(name, value)
            for epoch in read_csv(self.trial_folder(row.trial_id) / EPOCHS_CSV, missing_ok=True):
                for name in epoch.keys() - {"epoch"}:
                    tf.summary.scalar(f"epochs/{name}", float(epoch[name]), step=int(float(epoch["epoch"])))
            status = api_pb2.STATUS_SUCCESS if row.status == COMPLETED else api_pb2.STATUS_FAILURE
            tf.summary.experimental.write_raw_pb(summary.session_end_pb(status).SerializeToString(), step=0)

    def best_config(self, name: str) -> BitConfig:
        """Return the configuration of highest score.

        Raises:
            RuntimeError: where no trial completed, with the last error.
        """
        best = self.log.best()
        if best is None:
            last = self.log.rows[-1].error if self.log.rows else "no trial ran"
            raise RuntimeError(f"no trial completed. The last error: {last}")
        found = BitConfig.load(self.trial_folder(best.trial_id) / TRIAL_CONFIG)
        provenance = {
            "found_by": "po2quant search",
            "trial": best.trial_id,
            "trials": len(self.log.rows),
            "epochs_per_trial": self._problem.epochs,
            "seed": self._problem.seed,
            "score": best.score,
            "metric": best.metric,
            "size_bits": best.size_bits,
            "reference_size_bits": self._problem.goal.reference,
            "data": self.training.dataset.describe(),
        }
        return BitConfig(found.layers, name, provenance)
