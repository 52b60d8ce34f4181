"""A whole search: from a float network to the log of its trials."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from po2quant.benchmark import Dataset, NetworkSpec, Split
from po2quant.bit_config import BitConfig
from po2quant.cost import LayerShape, network_size, reference_config
from po2quant.network import activation_quantizers
from po2quant.runs.names import SENSITIVITY_CSV
from po2quant.search.advice import Advisor
from po2quant.search.allocation import pareto_seeds, spread_budgets
from po2quant.search.oracle import SeededOracle, bayesian_oracle
from po2quant.search.sensitivity import Sensitivity, load_sensitivities, save_sensitivities, sensitivity_sweep
from po2quant.search.settings import SearchSettings
from po2quant.search.space import SearchSpace
from po2quant.search.trial_log import TrialLog
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.finetune import Experiment, reusable_network
from po2quant.training.interrupt import insistent_interrupt
from po2quant.training.prepare import CALIBRATION_SAMPLES, calibration_inputs
from po2quant.training.progress import SILENT, ProgressLine, progress_line
from po2quant.training.reusable import ReusableNetwork

SENSITIVITY_SAMPLES = 128

CALIBRATION_VALUES = 2**27
"""Activation values that calibrate a trial at most: time for more is better spent on more trials."""


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
    space, layers = settings.space, experiment.network.layers
    settings.check_size(layers)
    network = reusable_network(experiment)
    samples = trial_inputs(experiment.dataset, network.model, experiment.seed)
    if settings.informed:
        measured, loss = experiment.dataset.train.head(SENSITIVITY_SAMPLES), experiment.recipe.loss
        sensitivities = measured_sensitivities(network.model, space.choices(layers), samples, measured, loss, folder)
        reference_bits = network_size(layers, reference_config(layers)).total_bits
        oracle = informed_oracle(
            space,
            layers,
            sensitivities,
            lambda bits: settings.size_factor(bits, reference_bits),
            settings.max_trials,
            experiment.seed,
            known_values(experiment.spec, space, layers),
            settings.max_bits,
        )
    else:
        oracle = bayesian_oracle(space, layers, settings.max_trials, experiment.seed, max_bits=settings.max_bits)
    interrupted = False
    with progress_line("search", settings.max_trials) as line:
        tuner = make_tuner(BitWidthTuner, experiment, network, layers, samples, oracle, settings, folder, line)
        with warnings.catch_warnings():
            # The oracle's Gaussian process says so whenever a hyperparameter does not matter.
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                with insistent_interrupt():
                    run_trials(tuner)
            except KeyboardInterrupt:
                interrupted = True
    return SearchResult(tuner, interrupted)


def trial_inputs(dataset: Dataset, model: keras.Model, seed: int) -> np.ndarray:
    """Return the inputs that calibrate the trials of a quantized network."""
    return calibration_inputs(dataset, model, seed, trial_input_count(model))[0]


def trial_input_count(model: keras.Model) -> int:
    """Return how many inputs calibrate a trial: fewer where activations are large, see :data:`CALIBRATION_VALUES`."""
    shapes = [model.get_layer(name).output.shape[1:] for name, _ in activation_quantizers(model)]
    return min(CALIBRATION_SAMPLES, max(1, CALIBRATION_VALUES // sum(map(math.prod, shapes))))


def make_tuner(
    kind: type[BitWidthTuner],
    experiment: Experiment,
    network: ReusableNetwork,
    layers: Sequence[LayerShape],
    samples: np.ndarray,
    oracle: keras_tuner.Oracle,
    settings: SearchSettings,
    folder: Path,
    line: ProgressLine = SILENT,
) -> BitWidthTuner:
    """Return a tuner for the network of an experiment; ``samples`` calibrate its trials."""
    with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints that it resumes
        return kind(
            network,
            layers,
            oracle,
            experiment.dataset,
            samples,
            experiment.recipe,
            experiment.benchmark.selection,
            settings.epochs,
            folder,
            settings.size_factor,
            seed=experiment.seed,
            line=line,
        )


def measured_sensitivities(
    model: keras.Model,
    choices: Mapping[str, Sequence[int]],
    calibration_inputs: np.ndarray,
    measured: Split,
    loss: str | Callable[..., Any],
    folder: Path,
    is_shown: bool = True,
) -> list[Sensitivity]:
    """Return what each width of each slot costs, kept in ``sensitivity.csv`` of ``folder``.

    Args:
        model: as the next four, see :func:`~po2quant.search.sensitivity.sensitivity_sweep`.
        choices: widths of each slot.
        calibration_inputs: network inputs.
        measured: a few samples.
        loss: Keras loss, or its name.
        folder: run folder.
        is_shown: whether there is a progress line.
    """
    path = folder / SENSITIVITY_CSV
    if not path.exists():
        steps = sum(len(widths) - 1 for widths in choices.values())
        with progress_line("sensitivities", steps) if is_shown else contextlib.nullcontext(SILENT) as line:
            rows = sensitivity_sweep(model, choices, calibration_inputs, measured, loss, line=line)
        folder.mkdir(parents=True, exist_ok=True)
        save_sensitivities(path, rows)
    return load_sensitivities(path)


def known_values(spec: NetworkSpec, space: SearchSpace, layers: Sequence[LayerShape]) -> list[dict[str, int]]:
    """Return the network's own mixed-precision configuration as hyperparameter values, if the space contains it."""
    known = spec.mpq_config and space.values_of_config(BitConfig.load(spec.mpq_config), layers)
    return [known] if known else []


def informed_oracle(
    space: SearchSpace,
    layers: Sequence[LayerShape],
    sensitivities: Sequence[Sensitivity],
    size_factor: Callable[[int], float],
    max_trials: int,
    seed: int,
    known: Sequence[Mapping[str, int]] = (),
    max_bits: int | None = None,
) -> SeededOracle:
    """Return an oracle that needs few trials.

    It tries the flat configurations, known ones, these without the bits that hardly lower the error, two allocations of
    sizes between the smallest and the reference's or the limit, the one at the limit, what sensitivities and trials
    together promise, and at last what the Gaussian process chooses. None exceeds the limit.

    Args:
        space: widths to choose from.
        layers: the network as the bit accounting sees it.
        sensitivities: what each width of each slot costs.
        size_factor: given a size in bits, returns the factor of the metric.
        max_trials: trials in all.
        seed: of the random choices.
        known: hyperparameter values of configurations that are known to be good.
        max_bits: largest size of a network; None: any.
    """
    _, *between, largest = spread_budgets(sensitivities, layers, 4, space.groups, max_bits)
    budgets = between if max_bits is None else [*between, largest]
    allocations = pareto_seeds(sensitivities, layers, budgets, space.groups)
    advisor = Advisor(space, layers, sensitivities, size_factor, max_bits)
    allocated = [space.values_of(allocation.widths, layers) for allocation in allocations]
    first = [*known, *map(advisor.trimmed, known), *allocated]
    return bayesian_oracle(space, layers, max_trials, seed, first, advisor, random_trials=0, max_bits=max_bits)
