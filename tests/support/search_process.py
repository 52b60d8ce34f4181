"""A search of about a second per trial, and the process of a chief or worker of it: ``search_process.py ROLE ...``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Recipe, Split, accuracy_score, validation_accuracy
from po2quant.network import Placement
from po2quant.runs.roles import CHIEF, WORKER
from po2quant.search import SearchSettings, distributed, worker
from po2quant.search.strategies import BAYESIAN
from po2quant.training.finetune import Experiment
from po2quant.training.schedules import constant

EPOCHS = 2
KILL_FILE = "kill-one-worker"


def build():
    layers = [keras.layers.Dense(8, name="hidden"), keras.layers.ReLU(name="relu"), keras.layers.Dense(3, name="out")]
    return keras.Sequential([keras.Input((4,), name="x"), *layers, keras.layers.Softmax(name="softmax")], name="tiny")


def load(data_dir=None, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(192, 4)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1).astype(np.int32)
    parts = [Split(x[start : start + 64], y[start : start + 64]) for start in (0, 64, 128)]
    return Dataset("largest of three numbers", "synthetic", *parts)


def selection(logs):
    """Return the accuracy, late enough to be killed before, or never."""
    try:
        os.remove(KILL_FILE)
        os.kill(os.getpid(), signal.SIGKILL)
    except FileNotFoundError:
        time.sleep(0.3)
    return validation_accuracy(logs)


RECIPE = Recipe("sparse_categorical_crossentropy", EPOCHS, 1, 16, constant(0.01), metrics=("accuracy",))
TASK = Benchmark("tiny", {"net": NetworkSpec(build, Placement())}, load, RECIPE, accuracy_score, selection)


def experiment(weights: Path, seed: int = 0) -> Experiment:
    return Experiment(TASK, "net", load(), weights=weights, seed=seed)


def search_settings(trials: int = 1) -> SearchSettings:
    return SearchSettings(trials, EPOCHS, BAYESIAN)


def command(role: str, weights: Path, folder: Path, *arguments: object) -> list[str]:
    """Return the command of a chief's or worker's process."""
    return [sys.executable, __file__, role, str(weights), str(folder), *map(str, arguments)]


def main(role, weights, folder, *arguments):
    Path(folder).with_name(f"pid-{os.getpid()}").touch()
    weights, folder = Path(weights), Path(folder)
    if role == CHIEF:
        trials, workers = map(int, arguments)
        of_worker = command(WORKER, weights, folder)
        distributed.run_distributed_search(
            experiment(weights), folder, search_settings(trials), workers=workers, worker_command=of_worker
        )
    else:
        worker.run_worker(experiment(weights), folder, search_settings(), arguments[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
