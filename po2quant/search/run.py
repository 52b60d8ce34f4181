"""A whole search: from a float network to the log of its trials."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from po2quant.benchmark import NetworkSpec, Split
from po2quant.bit_config import BitConfig
from po2quant.cost import LayerShape
from po2quant.progress import SILENT, ProgressLine, progress_line
from po2quant.runs.names import CURVATURE_CSV, SENSITIVITY_CSV
from po2quant.search.curvature import PROBES, Loss, hessian_sensitivities
from po2quant.search.gradient import trained_widths
from po2quant.search.problem import SearchProblem
from po2quant.search.repeats import CANDIDATES, Candidate, Repeats, choose
from po2quant.search.sensitivity import Sensitivity, load_sensitivities, save_sensitivities, sensitivity_sweep
from po2quant.search.settings import SearchSettings
from po2quant.search.space import SearchSpace
from po2quant.search.strategies import STRATEGIES
from po2quant.search.trial import TrialTraining
from po2quant.search.trial_log import TrialLog
from po2quant.search.tuner import KEPT_TRIALS, BitWidthTuner
from po2quant.training.finetune import Experiment, require_training_data
from po2quant.training.interrupt import insistent_interrupt

SENSITIVITY_SAMPLES = 128


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """A finished or interrupted search."""

    tuner: BitWidthTuner
    interrupted: bool
    choice: Sequence[Candidate] = ()
    """The trials that were repeated, best first."""

    @property
    def log(self) -> TrialLog:
        """The finished trials."""
        return self.tuner.log

    def best_config(self, name: str) -> BitConfig:
        """Return the configuration of highest score."""
        return self.tuner.best_config(name)


def run_search(
    experiment: Experiment,
    folder: Path,
    settings: SearchSettings,
    run_trials: Callable[[BitWidthTuner], None] = BitWidthTuner.search,
) -> SearchResult:
    """Search a bit width for every quantizer of a network; Ctrl-C ends it with the trials so far.

    Args:
        experiment: network, data and the float weights that every trial starts from. The validation split
            chooses, the test split is not touched.
        folder: run folder; an unfinished search in it goes on.
        settings: what the search tries and maximises.
        run_trials: runs the trials that the tuner's oracle chooses; by default here, one after the other.
    """
    keras.utils.set_random_seed(experiment.seed)
    layers = experiment.network.layers
    settings.check_size(layers, experiment.network)
    training = dataclasses.replace(TrialTraining.of(experiment), callbacks=settings.callbacks)
    costed = settings.costed(layers, experiment.network, training.calibration_inputs)
    problem = settings.problem(layers, experiment.seed, costed)
    problem = dataclasses.replace(
        problem,
        sensitivities=lambda: measured_sensitivities(problem, training, folder),
        trained=lambda: trained_widths(problem, training, folder),
        curvatures=lambda: computed_curvatures(problem, training, folder),
        known=known_values(experiment.spec, settings.space, layers),
    )
    oracle, interrupted, choice = STRATEGIES[settings.strategy](problem), False, list[Candidate]()
    kept_trials = CANDIDATES if settings.repeats else KEPT_TRIALS
    with progress_line("search", settings.max_trials) as line:
        tuner = BitWidthTuner(problem, training, oracle, folder, line, kept_trials)
        try:
            with insistent_interrupt():
                run_trials(tuner)
                if settings.repeats and tuner.log.best() is not None:
                    repeats = Repeats(tuner, settings.epochs, experiment.seed, folder)
                    choice = choose(tuner, repeats, settings.repeats)
        except KeyboardInterrupt:
            interrupted = True
    return SearchResult(tuner, interrupted, choice)


def measured_sensitivities(
    problem: SearchProblem, training: TrialTraining, folder: Path, is_shown: bool = True
) -> list[Sensitivity]:
    """Return what each width of each slot costs, kept in ``sensitivity.csv`` of ``folder``.

    Args:
        problem: has the widths.
        training: has the network, its data and loss.
        folder: run folder.
        is_shown: whether there is a progress line.
    """
    choices = problem.space.choices(problem.layers)
    steps = sum(len(widths) - 1 for widths in choices.values())

    def measure() -> list[Sensitivity]:
        with _progress("sensitivities", steps, is_shown) as line:
            model, inputs, samples, loss = _measured_with(training)
            return sensitivity_sweep(model, choices, inputs, samples, loss, line=line)

    return _kept(folder / SENSITIVITY_CSV, measure)


def computed_curvatures(
    problem: SearchProblem, training: TrialTraining, folder: Path, is_shown: bool = True
) -> list[Sensitivity]:
    """Return what each width of each slot costs by Hessian traces, kept in ``curvature.csv`` of ``folder``.

    Arguments are those of :func:`measured_sensitivities`.
    """

    def compute() -> list[Sensitivity]:
        with _progress("Hessian traces", PROBES, is_shown) as line:
            model, inputs, samples, loss = _measured_with(training)
            choices = problem.space.choices(problem.layers)
            return hessian_sensitivities(model, choices, inputs, samples, loss, problem.seed, line)

    return _kept(folder / CURVATURE_CSV, compute)


def _progress(title: str, steps: int, is_shown: bool) -> contextlib.AbstractContextManager[ProgressLine]:
    return progress_line(title, steps) if is_shown else contextlib.nullcontext(SILENT)


def _measured_with(training: TrialTraining) -> tuple[keras.Model, np.ndarray, Split, Loss]:
    train, _ = require_training_data(training.dataset)
    samples = train.head(SENSITIVITY_SAMPLES)
    return training.network.model, training.calibration_inputs, samples, training.recipe.loss


def _kept(path: Path, measure: Callable[[], list[Sensitivity]]) -> list[Sensitivity]:
    if not path.exists():
        rows = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_sensitivities(path, rows)
    return load_sensitivities(path)


def known_values(spec: NetworkSpec, space: SearchSpace, layers: Sequence[LayerShape]) -> list[Mapping[str, int]]:
    """Return the network's own mixed-precision configuration as hyperparameter values, if the space contains it.

    Where the space leaves a slot no choice, its width stands for the configuration's.
    """
    if spec.mpq_config is None:
        return []
    config = BitConfig.load(spec.mpq_config)
    given = {slot: widths[0] for slot, widths in space.slots.items() if len(widths) == 1}
    known = space.values_of_config(config.with_widths(given), layers)
    return [known] if known else []
