"""The tuner of AutoQKeras, whose trials may be networks of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from po2quant.autoqkeras.filters import factors_of
from po2quant.files import one_line
from po2quant.search.trial_log import FAILED, TrialRow
from po2quant.search.tuner import BitWidthTuner
from po2quant.weight_files import load_weights

if TYPE_CHECKING:
    from po2quant.autoqkeras.autoqkeras import AutoQKeras


class AutoQKerasTuner(BitWidthTuner):
    """A tuner whose trials may have other filters; arguments as of :class:`BitWidthTuner`."""

    search_of: AutoQKeras
    """The search that it belongs to."""

    _resized: tuple[Any, ...] | None = None

    def _try(self, trial_id: str, values: Mapping[str, Any]) -> TrialRow:
        """Return what comes out of a trial, in a network with its filters."""
        search = self.search_of
        if not search.tuned:
            return super()._try(trial_id, values)
        key = tuple(factors_of(values, search.tuned).items())
        if self._resized is None or self._resized[0] != key:
            try:
                model, layers = search.resized(values)
                training = search.training_of(model, layers, self.training.dataset, self.training.recipe)
            except ValueError as error:  # filters that do not fit each other, of an addition for example
                return TrialRow(trial_id, FAILED, None, None, 0, 0.0, 0.0, one_line(error))
            self._resized = (key, layers, search.goal_of(model, layers), training)
        _, layers, goal, training = self._resized
        problem, own = self._problem, self.training
        self._problem, self.training = dataclasses.replace(problem, layers=layers, goal=goal), training
        try:
            return super()._try(trial_id, values)
        finally:
            self._problem, self.training = problem, own

    def get_best_models(self, num_models: int = 1) -> list[keras.Model]:
        """Return the networks of the best trials, with the weights that they kept, as many as have kept theirs."""
        models = []
        for row in self.log.ranked()[:num_models]:
            file = self._weights(row.trial_id)
            if file.exists():
                model = self.search_of.model_of(row.trial_id)
                load_weights(model, file)
                models.append(model)
        return models
