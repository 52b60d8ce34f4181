"""What ``AutoQKeras`` tells of the trials of a search that has run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from po2quant.autoqkeras.energy_goal import EnergyGoal
from po2quant.autoqkeras.objective import BitsGoal, MetricObjective, qkeras_reference_bits
from po2quant.autoqkeras.tuner import AutoQKerasTuner
from po2quant.cost import LayerShape
from po2quant.files import read_csv
from po2quant.runs.names import EPOCHS_CSV, TRIALS_FOLDER
from po2quant.search.problem import Goal
from po2quant.search.trial_log import TrialRow
from po2quant.search.tuner import LEARNING_RATE


class SearchResults:
    """The history, learning rates and sizes of a search."""

    model: keras.Model
    layers: Sequence[LayerShape]
    output_dir: Path
    tuner: AutoQKerasTuner | None
    _objective: MetricObjective
    _goal: BitsGoal | EnergyGoal
    _network_goal: Goal
    _learning_rate: Callable[[int], float]

    def _finished(self) -> AutoQKerasTuner:
        if self.tuner is None:
            raise ValueError("fit must be called first: there is no trial yet")
        return self.tuner

    def history(self, number_of_trials: int = -1) -> dict[str, list]:
        """Return the completed trials, best first, as lists of equal length.

        Args:
            number_of_trials: how many; -1 means all.

        Returns:
            ``trial_id``, ``score``, ``trial_size`` in bits, and of the best epoch its number ``epoch``, ``loss``,
            ``val_loss``, every metric and its ``val_`` value.
        """
        ranked = self._finished().log.ranked()
        history: dict[str, list] = {}
        for row in ranked if number_of_trials < 0 else ranked[:number_of_trials]:
            size = row.size_bits + self._goal.extra_bits(self.layers)
            best_epoch = max(self._epochs(row), key=self._validation_value)
            values = {"trial_id": row.trial_id, "score": row.score, "trial_size": size} | best_epoch
            for name, value in values.items():
                history.setdefault(name, []).append(value)
        return history

    def _epochs(self, row: TrialRow) -> list[dict[str, float]]:
        rows = read_csv(self.output_dir / TRIALS_FOLDER / row.trial_id / EPOCHS_CSV)
        return [{name: float(value) for name, value in epoch.items()} for epoch in rows]

    def _validation_value(self, epoch: Mapping[str, float]) -> float:
        return self._objective.read(
            {name.removeprefix("val_"): value for name, value in epoch.items() if name.startswith("val_")}
        )

    def history_frame(self, number_of_trials: int = -1) -> Any:
        """Return :meth:`history` as a ``pandas.DataFrame``, which needs pandas."""
        import pandas

        return pandas.DataFrame(self.history(number_of_trials))

    @staticmethod
    def get_best_lr(qmodel: keras.Model) -> float:
        """Return the learning rate that a network is compiled with."""
        return float(qmodel.optimizer.learning_rate)

    def get_learning_rate(self) -> float:
        """Return the learning rate of the trial of highest score."""
        values = self._finished().oracle.get_trial(self._finished().log.ranked()[0].trial_id).hyperparameters.values
        return float(values.get(LEARNING_RATE, self._learning_rate(0)))

    @property
    def learning_rate(self) -> float:
        """The learning rate of the trial of highest score."""
        return self.get_learning_rate()

    def sizes(self) -> dict[str, int]:
        """Return the reference's size in bits twice: as this search counts it, and as QKeras does.

        QKeras counts no quantizers on the input, after pooling and on linear outputs, but BatchNormalization.
        """
        return {
            "reference": round(self._network_goal.reference),
            "qkeras": qkeras_reference_bits(self.model, self._goal),
        }
