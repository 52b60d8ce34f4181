"""What a search tries: Keras Tuner's Bayesian oracle, with first trials of our own and none twice."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras_tuner
import numpy as np
import sklearn
from keras_tuner.engine.trial import Trial, TrialStatus
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor

from po2quant.compat import TunerOracle, waiting_trials
from po2quant.files import one_line, write_json
from po2quant.search.problem import SearchProblem, Values
from po2quant.search.trial_log import COMPLETED, TrialRow

OBJECTIVE = keras_tuner.Objective("score", "max")
RANDOM_TRIALS = 5
Advice = Callable[[Sequence[tuple[Values, float]], Sequence[Values]], dict[str, int] | None]
_CANDIDATES, _CHANGED_TRIALS, _CHANGED_CHOICES = 1000, 5, 3
_KERNEL_TRIALS = 200
"""Most trials that the Gaussian process' length scale is fitted to, which takes time as their number's cube."""

_CHANGES = 100
"""Random changes after which the space counts as exhausted."""


class SeededOracle(TunerOracle, keras_tuner.oracles.BayesianOptimizationOracle):
    """A Bayesian oracle that first tries given configurations, and none twice or above the limit.

    The flat configurations of the space come first, so that a search never ends below them. The state on disk is whole
    at any moment: ``kill -9`` loses no trial.

    Args:
        problem: what is searched.
        promising: values of the next trials.
        advise: given values and score of each completed trial, and the values of all others, returns the values of the
            next one, or None where the Gaussian process shall choose.
        random_trials: trials at random before the Gaussian process chooses.
    """

    def __init__(
        self,
        problem: SearchProblem,
        promising: Sequence[Values] = (),
        advise: Advice | None = None,
        random_trials: int = RANDOM_TRIALS,
    ) -> None:
        first = list(filter(problem.fits, (*problem.space.flat_values(problem.layers), *promising)))
        self._first = [values for index, values in enumerate(first) if values not in first[:index]]
        self._advise, self._fits = advise, problem.fits
        super().__init__(
            num_initial_points=len(self._first) + random_trials,
            objective=OBJECTIVE,
            max_trials=problem.max_trials,
            hyperparameters=problem.space.hyperparameters(problem.layers),
            allow_new_entries=False,
            seed=first_seed(problem),
            max_retries_per_trial=0,
            max_consecutive_failed_trials=problem.max_trials + 1,
        )

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of a trial; ids count from 0."""
        if int(trial_id) < len(self._first):
            return {"status": TrialStatus.RUNNING, "values": dict(self._first[int(trial_id)])}
        advised = self._advised()
        if advised:
            return {"status": TrialStatus.RUNNING, "values": advised}
        if len(self._completed()) < max(self.num_initial_points, 1):
            values = self.random_values()
        elif not self.choices():
            values = None
        else:
            values = self._most_promising(trial_id)
        values = values and self._untried(values, trial_id)
        return {"status": TrialStatus.RUNNING if values else TrialStatus.STOPPED, "values": values}

    def _completed(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.status == TrialStatus.COMPLETED]

    def _advised(self) -> dict[str, int] | None:
        if not self._advise:
            return None
        completed = self._completed()
        others = [trial.hyperparameters.values for trial in self.trials.values() if trial not in completed]
        return self._advise([(trial.hyperparameters.values, trial.score) for trial in completed], others)

    def _most_promising(self, trial_id: str) -> dict[str, int]:
        """Return the values of largest upper confidence bound among those that differ from one of the best trials in a
        few choices.

        Keras Tuner climbs this bound with numerical gradients over the whole space, as if widths were real numbers, for
        seconds a trial.
        """
        process = self._fitted_process()
        rng = np.random.default_rng((self.seed, int(trial_id)))
        choices = [choice for choice in self.hyperparameters.space if len(choice.values) > 1]
        best = sorted(self._completed(), key=lambda trial: trial.score, reverse=True)[:_CHANGED_TRIALS]
        candidates = []
        for number in range(_CANDIDATES):
            changed = rng.choice(choices, size=rng.integers(1, _CHANGED_CHOICES + 1))
            values = best[number % len(best)].hyperparameters.values
            candidates.append({**values, **{choice.name: rng.choice(choice.values).item() for choice in changed}})
        candidates = [values for values in candidates if self._fits(values)] or [best[0].hyperparameters.values]
        free = self.choices()
        vectors = np.array([[choice.value_to_prob(values[choice.name]) for choice in free] for values in candidates])
        mean, deviation = process.predict(vectors, return_std=True)  # of the negative score
        for index in np.argsort(mean - self.beta * deviation):
            if not self.was_tried(candidates[index]):
                return candidates[index]
        return candidates[0]

    def _fitted_process(self) -> GaussianProcessRegressor:
        """Return a Gaussian process of all trials, its kernel fitted to at most :data:`_KERNEL_TRIALS` of them."""
        vectors, scores = self.vectors_and_scores()
        step = math.ceil(len(scores) / _KERNEL_TRIALS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said whenever a choice does not matter
            self.gpr.fit(vectors[::step], scores[::step])
        if step == 1:
            return self.gpr
        process = sklearn.clone(self.gpr).set_params(kernel=self.gpr.kernel_, optimizer=None)
        return process.fit(vectors, scores)

    def _untried(self, values: Values, trial_id: str) -> dict[str, int] | None:
        """Return values that no trial has had: the given ones, with as few random changes as that takes."""
        rng = np.random.default_rng((self.seed, int(trial_id)))
        choices = [choice for choice in self.hyperparameters.space if len(getattr(choice, "values", ())) > 1]
        changed = self._narrowed(values, choices, rng)
        for _ in range(_CHANGES):
            if not self.was_tried(changed):
                return changed
            if not choices:
                return None
            choice = choices[rng.integers(len(choices))]
            others = [bits for bits in choice.values if bits != changed[choice.name]]
            changed[choice.name] = others[rng.integers(len(others))]
            changed = self._narrowed(changed, choices, rng)
        return None

    def _narrowed(self, values: Values, choices: Sequence[Any], rng: np.random.Generator) -> dict[str, int]:
        """Return values with as many random ones narrower as it takes to fit."""
        narrowed = dict(values)
        while not self._fits(narrowed):
            wide = [choice for choice in choices if narrowed[choice.name] > choice.values[0]]
            if not wide:
                raise ValueError("limits must leave some widths together. Received: none that narrower widths lead to")
            choice = wide[rng.integers(len(wide))]
            narrowed[choice.name] = max(bits for bits in choice.values if bits < narrowed[choice.name])
        return narrowed

    def save(self) -> None:
        """Write the state, all or nothing."""
        write_json(self.state_file, self.get_state())

    def save_trial(self, trial: Trial) -> None:
        """Write the state of a trial, all or nothing."""
        write_json(self.trial_file(trial.trial_id), trial.get_state())

    def reload(self) -> None:
        """Read the state, and queue every trial that has not ended: each has a file before the state names it.

        Raises:
            ValueError: where the files are not what this class wrote.
        """
        try:
            super().reload()
            for trial in self.trials.values():
                self.remember(trial)
            waiting_trials(self)[:] = sorted(unfinished(self), reverse=True)
        except Exception as error:  # Keras Tuner checks nothing of what it reads
            reason = one_line(f"{type(error).__name__}: {error}")
            raise ValueError(f"{self.state_file} must be the state of a search. Received: {reason}") from error


def first_seed(problem: SearchProblem) -> int:
    """Return the seed of an oracle: Keras Tuner takes 0 for no seed."""
    return problem.seed + 1


def unfinished(oracle: keras_tuner.Oracle) -> list[str]:
    """Return the ids of the trials that run or wait to run again."""
    return [trial_id for trial_id, trial in oracle.trials.items() if trial.status == TrialStatus.RUNNING]


def release(oracle: keras_tuner.Oracle, tuner_id: str) -> None:
    """Take the trial of a worker that is gone, for the next worker that asks."""
    waiting_trials(oracle).append(oracle.ongoing_trials.pop(tuner_id).trial_id)
    oracle.tuner_ids.discard(tuner_id)
    oracle.save()


def end_trial(oracle: keras_tuner.Oracle, row: TrialRow) -> None:
    """Tell an oracle what ``trials.csv`` says of a trial, which may be waiting to run again."""
    trial = oracle.trials[row.trial_id]
    if row.status == COMPLETED and not trial.metrics.exists(OBJECTIVE.name):
        oracle.update_trial(row.trial_id, {OBJECTIVE.name: row.score})
    if row.trial_id in waiting_trials(oracle):
        waiting_trials(oracle).remove(row.trial_id)
    trial.status = TrialStatus.COMPLETED if row.status == COMPLETED else TrialStatus.FAILED
    oracle.end_trial(trial)
