"""What a search tries: Keras Tuner's Bayesian oracle, with first trials of our own and none twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import TrialStatus

from po2quant.cost import LayerShape
from po2quant.search.space import SearchSpace

OBJECTIVE = keras_tuner.Objective("score", "max")
RANDOM_TRIALS = 5
_CHANGES = 100
"""Random changes after which the space counts as exhausted."""


class SeededOracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """A Bayesian oracle that first tries given configurations, and no configuration twice.

    Args:
        first: hyperparameter values of the first trials.
        random_trials: trials at random after them, before the Gaussian process chooses.
        arguments: those of Keras Tuner's ``BayesianOptimizationOracle``.
    """

    def __init__(self, first: Sequence[Mapping[str, int]], random_trials: int, **arguments: Any) -> None:
        super().__init__(num_initial_points=len(first) + random_trials, **arguments)
        self._first = first

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of a trial; ids count from 0."""
        if int(trial_id) < len(self._first):
            return {"status": TrialStatus.RUNNING, "values": dict(self._first[int(trial_id)])}
        proposal = super().populate_space(trial_id)
        if proposal["status"] != TrialStatus.RUNNING:
            return proposal
        values = self._untried(proposal["values"], trial_id)
        return {"status": TrialStatus.RUNNING if values else TrialStatus.STOPPED, "values": values}

    def _untried(self, values: Mapping[str, int], trial_id: str) -> dict[str, int] | None:
        """Return values that no trial has had: the given ones, with as few random changes as that takes."""
        rng = np.random.default_rng((self.seed, int(trial_id)))
        choices = [choice for choice in self.hyperparameters.space if len(getattr(choice, "values", ())) > 1]
        changed = dict(values)
        for _ in range(_CHANGES):
            if not self._duplicate(changed):
                return changed
            if not choices:
                return None
            choice = choices[rng.integers(len(choices))]
            others = [bits for bits in choice.values if bits != changed[choice.name]]
            changed[choice.name] = others[rng.integers(len(others))]
        return None


def bayesian_oracle(
    space: SearchSpace,
    layers: Sequence[LayerShape],
    max_trials: int,
    seed: int,
    promising: Sequence[Mapping[str, int]] = (),
    random_trials: int = RANDOM_TRIALS,
) -> SeededOracle:
    """Return an oracle over the widths of a network.

    It tries the flat configurations of the space first, so that a search never ends below them.

    Args:
        space: widths to choose from.
        layers: the network as the bit accounting sees it.
        max_trials: trials in all.
        seed: of its choices.
        promising: hyperparameter values of the next trials.
        random_trials: trials at random before the Gaussian process chooses.
    """
    flats = space.flat_values(layers)
    return SeededOracle(
        [*flats, *(values for values in promising if values not in flats)],
        random_trials,
        objective=OBJECTIVE,
        max_trials=max_trials,
        hyperparameters=space.hyperparameters(layers),
        allow_new_entries=False,
        seed=seed + 1,  # Keras Tuner takes 0 for no seed
        max_retries_per_trial=0,
        max_consecutive_failed_trials=max_trials + 1,
    )
