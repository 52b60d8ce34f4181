"""A whole search: from a float network to the log of its trials."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from po2quant.bit_config import BitConfig
from po2quant.cost import LayerShape
from po2quant.search.allocation import pareto_seeds
from po2quant.search.oracle import bayesian_oracle
from po2quant.search.sensitivity import load_sensitivities, save_sensitivities, sensitivity_sweep
from po2quant.search.space import SearchSpace
from po2quant.search.trial_log import TrialLog
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.finetune import Experiment, reusable_network
from po2quant.training.prepare import calibration_inputs, describe_network
from po2quant.training.progress import progress_line
from po2quant.training.reusable import ReusableNetwork

SENSITIVITY_CSV, SENSITIVITY_SAMPLES = "sensitivity.csv", 128


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
    experiment: Experiment, folder: Path, max_trials: int, epochs: int, informed: bool = True
) -> SearchResult:
    """Search the published space for a network; Ctrl-C ends it with the trials so far.

    Args:
        experiment: network, data and the float weights that every trial starts from. The validation split
            chooses, the test split is not touched.
        folder: run folder; an unfinished search in it goes on.
        max_trials: trials in all.
        epochs: epochs of a trial.
        informed: whether allocations by measured sensitivity are tried early.
    """
    dataset, seed = experiment.dataset, experiment.seed
    keras.utils.set_random_seed(seed)
    space, layers = SearchSpace(), describe_network(experiment.spec)
    network = reusable_network(experiment)
    samples, _ = calibration_inputs(dataset, network.model, seed)
    promising = informed_trials(experiment, network, layers, space, samples, folder) if informed else []
    oracle = bayesian_oracle(space, layers, max_trials, seed, promising)
    interrupted = False
    with progress_line("search", max_trials) as line:
        with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints that it resumes
            tuner = BitWidthTuner(
                network,
                layers,
                oracle,
                dataset,
                samples,
                experiment.recipe,
                experiment.benchmark.selection,
                epochs,
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


def informed_trials(
    experiment: Experiment,
    network: ReusableNetwork,
    layers: Sequence[LayerShape],
    space: SearchSpace,
    samples: np.ndarray,
    folder: Path,
) -> list[dict[str, int]]:
    """Return hyperparameter values of the allocations of least output error, at sizes from the smallest to the
    reference's. The measured sensitivities are kept in ``sensitivity.csv``.
    """
    path = folder / SENSITIVITY_CSV
    if not path.exists():
        choices = space.choices(layers)
        with progress_line("sensitivities", sum(len(widths) - 1 for widths in choices.values())) as line:
            measured = experiment.dataset.train.head(SENSITIVITY_SAMPLES)
            rows = sensitivity_sweep(network.model, choices, samples, measured, experiment.recipe.loss, line=line)
        folder.mkdir(parents=True, exist_ok=True)
        save_sensitivities(path, rows)
    rows = load_sensitivities(path)
    allocations = pareto_seeds(rows, layers, groups=space.groups)
    return [space.values_of(allocation.widths, layers) for allocation in allocations]
