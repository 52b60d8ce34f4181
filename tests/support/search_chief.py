"""A chief of a search without a network, and what its workers leave."""

from __future__ import annotations

from types import SimpleNamespace

from search_process import experiment, search_settings

from po2quant.search.space import config_from_values
from po2quant.search.strategies import BAYESIAN, STRATEGIES
from po2quant.search.trial import TrialTraining
from po2quant.search.trial_log import TrialLog, TrialRow
from po2quant.search.tuner import BitWidthTuner

LAYERS = experiment(None).network.layers


def tuner_at(folder, trials=3, kind=BitWidthTuner, strategy=BAYESIAN):
    """Return a tuner as a process has it that starts or starts again; it has no network."""
    of_tiny, network = experiment(None), SimpleNamespace(model=None)
    training = TrialTraining(network, of_tiny.dataset, None, of_tiny.recipe, of_tiny.benchmark.selection)
    problem = search_settings(trials).problem(LAYERS, seed=0)
    tuner = kind(problem, training, STRATEGIES[strategy](problem), folder)
    tuner.on_search_begin()
    return tuner


def leave(folder, trial, worker_id="worker0", score=0.5):
    """Leave a trial that has completed in the folder of a worker."""
    attempt = folder / "workers" / worker_id / "trials" / trial.trial_id
    attempt.mkdir(parents=True)
    config_from_values(trial.hyperparameters.values, LAYERS, "found").save(attempt / "config.json")
    (attempt / "best.weights.h5").write_text(worker_id)
    row = TrialRow(trial.trial_id, "completed", score, score, 1000, 0.5, 1.5)
    TrialLog(attempt / "trial.csv", ()).append(row)
    return row
