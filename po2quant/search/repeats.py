"""The choice among the best trials of a search, where the metric of one training is partly luck."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

from po2quant.benchmark import Dataset, Split
from po2quant.bit_config import BitConfig
from po2quant.files import read_csv, write_csv
from po2quant.runs.names import REPEATS_CSV, TRIAL_CONFIG
from po2quant.search.trial import TrialTraining
from po2quant.search.trial_log import TrialRow
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.finetune import require_training_data

CANDIDATES, FIRST_REPEATS = 5, 2
DOUBT, FEWEST_PAIRS = 0.05, 3
"""Chance to call equal trials different, and how many paired repeats it takes to call them so at all."""

FEW_SAMPLES, FOLDS = 1000, 5
"""Below so many validation samples, repeats validate on folds of all that is not the test split."""


@dataclasses.dataclass(frozen=True)
class Repeat:
    """One more training of a trial's configuration.

    Args:
        trial_id: the trial.
        repeat: which one, counted from 0; all trials share its seed and fold.
        metric: best validation value.
    """

    trial_id: str
    repeat: int
    metric: float


class Repeats:
    """Trains the configurations of a few trials again, with seeds and folds that all of them share.

    Repeat r of every trial draws its batches in the same order. Where there are few validation samples, it also holds
    out the same fold: training and validation samples together are dealt into :data:`FOLDS` folds, of which repeat r
    validates on number r modulo :data:`FOLDS` and trains on the others.

    Args:
        tuner: a finished search.
        epochs: of a training.
        seed: of the folds; training r has seed + 1 + r.
        folder: run folder, which gets ``repeats.csv``; rows that it has are not trained again.
    """

    def __init__(self, tuner: BitWidthTuner, epochs: int, seed: int, folder: Path) -> None:
        self._tuner, self._epochs, self._seed, self._path = tuner, epochs, seed, folder / REPEATS_CSV
        self._trainings: dict[int, TrialTraining] = {}
        self.rows = [
            Repeat(row["trial_id"], int(row["repeat"]), float(row["metric"]))
            for row in read_csv(self._path, missing_ok=True)
        ]

    def metrics(self, trial_id: str) -> list[float]:
        """Return the metrics of a trial's repeats."""
        return [row.metric for row in self.rows if row.trial_id == trial_id]

    def run(self, trial_id: str) -> None:
        """Train a trial's configuration once more."""
        number = len(self.metrics(trial_id))
        config = BitConfig.load(self._tuner.trial_folder(trial_id) / TRIAL_CONFIG)
        training = self._training(number)
        metric = max(value for _, value in training.run(config, self._epochs, self._seed + 1 + number))
        self.rows.append(Repeat(trial_id, number, float(metric)))
        write_csv(self._path, [dataclasses.asdict(row) for row in self.rows])

    def _training(self, number: int) -> TrialTraining:
        training = self._tuner.training
        _, validation = require_training_data(training.dataset)
        if len(validation) >= FEW_SAMPLES:
            return training
        fold = number % FOLDS
        if fold not in self._trainings:
            dataset = fold_of(training.dataset, fold, self._seed)
            self._trainings[fold] = dataclasses.replace(training, dataset=dataset)
        return self._trainings[fold]


def fold_of(dataset: Dataset, fold: int, seed: int) -> Dataset:
    """Return a data set whose validation split is one fold of all that is not the test split."""
    parts = require_training_data(dataset)
    whole = _joined(*parts)
    order = np.random.default_rng(seed).permutation(len(whole))
    held_out = np.sort(order[fold::FOLDS])
    others = np.setdiff1d(order, held_out)
    return dataclasses.replace(dataset, train=whole.taken(others), validation=whole.taken(held_out))


def _joined(first: Split, second: Split) -> Split:
    y, groups = (
        None if one is None or other is None else np.concatenate([one, other])
        for one, other in ((first.y, second.y), (first.groups, second.groups))
    )
    return dataclasses.replace(first, x=np.concatenate([first.x, second.x]), y=y, groups=groups, augmented=None)


def paired_means(metrics: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of each trial's repeats as if all had been repeated equally often.

    Equation:
        metric of repeat r of trial t = m_t + f_r with sum_r f_r = 0, by least squares. A fold that is easy for all
        so lifts no trial above those that were not repeated on it.

    Example:
        >>> {trial: round(mean, 3) for trial, mean in paired_means({"a": [0.8, 0.6, 1.0], "b": [0.9, 0.7]}).items()}
        {'a': 0.8, 'b': 0.9}
    """
    names, count = list(metrics), max(map(len, metrics.values()))
    cells = [(place, repeat) for place, name in enumerate(names) for repeat in range(len(metrics[name]))]
    design = np.zeros((len(cells) + 1, len(names) + count))
    for row, (place, repeat) in enumerate(cells):
        design[row, [place, len(names) + repeat]] = 1.0
    design[-1, len(names) :] = 1.0
    means = np.linalg.lstsq(design, [*(value for name in names for value in metrics[name]), 0.0])[0]
    return dict(zip(names, means.tolist(), strict=False))


def standard_error(differences: Sequence[float]) -> float:
    """Return the standard error of the mean of a few numbers, infinite for fewer than two."""
    if len(differences) < 2:
        return math.inf
    return float(np.std(differences, ddof=1) / math.sqrt(len(differences)))


def is_distinguishable(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether the means of paired repeats differ, by Student's t test at :data:`DOUBT`.

    Two pairs say nothing: metrics are whole numbers of samples, so that their differences are easily the same.
    """
    pairs = [a - b for a, b in zip(first, second, strict=False)]
    if len(pairs) < FEWEST_PAIRS:
        return False
    return abs(float(np.mean(pairs))) > student_t.ppf(1.0 - DOUBT / 2, len(pairs) - 1) * standard_error(pairs)


class Candidate(NamedTuple):
    """A trial that was repeated.

    Args:
        row: what came out, with means over repeats.
        is_worse: whether the best one can be told from it.
    """

    row: TrialRow
    is_worse: bool


def choose(tuner: BitWidthTuner, repeats: Repeats, budget: int) -> list[Candidate]:
    """Repeat the few best trials until the best of them can be told from the others, or the budget is spent.

    Every candidate is repeated twice; then, in turn, the leader and those that cannot be told from it.

    Args:
        tuner: a finished search, whose rows get the means.
        repeats: trains.
        budget: trainings at most.

    Returns:
        The candidates that were repeated, best first; metrics are :func:`paired_means` of repeats.
    """
    candidates = {row.trial_id: row for row in tuner.log.ranked()[:CANDIDATES]}
    factors = {name: (row.score or 0.0) / row.metric if row.metric else 1.0 for name, row in candidates.items()}

    def scores(name: str) -> list[float]:
        return [metric * factors[name] for metric in repeats.metrics(name)]

    waiting = [name for _ in range(FIRST_REPEATS) for name in candidates]
    waiting = waiting[min(len(repeats.rows), len(waiting)) :]
    while len(repeats.rows) < budget:
        if not waiting:
            waiting = _open_ones({name: scores(name) for name in candidates})
        if not waiting:
            break
        repeats.run(waiting.pop(0))
    repeated = {name: scores(name) for name in candidates if len(scores(name)) >= FIRST_REPEATS}
    means = paired_means({name: repeats.metrics(name) for name in repeated}) if repeated else {}
    changed = [
        dataclasses.replace(
            candidates[name],
            metric=mean,
            score=mean * factors[name],
            standard_error=standard_error(repeats.metrics(name)),
            repeats=len(repeated[name]),
        )
        for name, mean in means.items()
    ]
    tuner.log.replace(changed)
    tuner.keep_best_weights()
    changed.sort(key=lambda row: row.rank, reverse=True)
    best = scores(changed[0].trial_id) if changed else []
    return [Candidate(row, is_distinguishable(best, scores(row.trial_id))) for row in changed]


def _open_ones(scores: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the leader and those that cannot be told from it, without those that were repeated more often."""
    means = paired_means(scores)
    leader = max(scores, key=lambda name: means[name])
    rivals = [name for name in scores if name != leader and not is_distinguishable(scores[leader], scores[name])]
    fewest = min((len(scores[name]) for name in (leader, *rivals)), default=0)
    return [name for name in (leader, *rivals) if len(scores[name]) == fewest] if rivals else []
