"""A whole search: from a float network to the log of its trials."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import keras
from sklearn.exceptions import ConvergenceWarning

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec
from po2quant.bit_config import BitConfig
from po2quant.cost import reference_config
from po2quant.search.trial_log import TrialLog
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.prepare import calibration_inputs, describe_network, load_float_network
from po2quant.training.progress import progress_line
from po2quant.transform import quantize_model


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """A finished or interrupted search."""

    tuner: BitWidthTuner
    interrupted: bool

    @property
    def log(self) -> TrialLog:
        """The finished trials."""
        return self.tuner.log

    def best_config(self, name: str) -> BitConfig:
        """Return the configuration of highest score."""
        return self.tuner.best_config(name)


def run_search(
    benchmark: Benchmark,
    spec: NetworkSpec,
    alpha: str,
    weights: Path,
    dataset: Dataset,
    folder: Path,
    max_trials: int,
    epochs: int,
    seed: int = 0,
) -> SearchResult:
    """Search the published space for a benchmark's network; Ctrl-C ends it with the trials so far.

    Args:
        benchmark: task.
        spec: network.
        alpha: scales that trials train with, ``'auto'`` or ``'auto_po2'``.
        weights: float weights that every trial starts from.
        dataset: its validation split chooses, its test split is not touched.
        folder: run folder; an unfinished search in it goes on.
        max_trials: trials in all.
        epochs: epochs of a trial.
        seed: of the oracle and of training.
    """
    keras.utils.set_random_seed(seed)
    layers = describe_network(spec)
    model = quantize_model(load_float_network(spec, weights), reference_config(layers), alpha, spec.placement)
    samples, _ = calibration_inputs(dataset, model, seed)
    interrupted = False
    with progress_line("search", max_trials) as line:
        tuner = BitWidthTuner(
            model,
            layers,
            dataset,
            samples,
            benchmark.recipe,
            benchmark.selection,
            epochs,
            max_trials,
            folder,
            seed=seed,
            line=line,
        )
        with warnings.catch_warnings():
            # The oracle's Gaussian process says so whenever a hyperparameter does not matter.
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                tuner.search(verbose=0)
            except KeyboardInterrupt:
                interrupted = True
    return SearchResult(tuner, interrupted)
