"""A whole search: from a float network to the log of its trials."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from pathlib import Path

import keras
from sklearn.exceptions import ConvergenceWarning

from po2quant.bit_config import BitConfig
from po2quant.search.trial_log import TrialLog
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.finetune import Experiment, reusable_network
from po2quant.training.prepare import calibration_inputs, describe_network
from po2quant.training.progress import progress_line


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


def run_search(experiment: Experiment, folder: Path, max_trials: int, epochs: int) -> SearchResult:
    """Search the published space for a network; Ctrl-C ends it with the trials so far.

    Args:
        experiment: network, data and the float weights that every trial starts from. The validation split
            chooses, the test split is not touched.
        folder: run folder; an unfinished search in it goes on.
        max_trials: trials in all.
        epochs: epochs of a trial.
    """
    dataset, seed = experiment.dataset, experiment.seed
    keras.utils.set_random_seed(seed)
    network = reusable_network(experiment)
    samples, _ = calibration_inputs(dataset, network.model, seed)
    interrupted = False
    with progress_line("search", max_trials) as line:
        with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints that it resumes
            tuner = BitWidthTuner(
                network,
                describe_network(experiment.spec),
                dataset,
                samples,
                experiment.recipe,
                experiment.benchmark.selection,
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
