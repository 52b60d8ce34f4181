"""Where real data and reference networks are, and a small trained network for everything downstream."""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SHARED = Path(__file__).resolve().parents[2] / "shared"
FLOAT_EPOCHS = 6


def pytest_collection_finish() -> None:
    """Spare the collector what was imported: half a million objects, which each file's end would look through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Return a function from a name below the shared folder to its path; absent ones skip the test."""

    def path(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"{name} is not beside this checkout")
        return SHARED / name

    return path


@pytest.fixture(scope="module", autouse=True)
def graphs_are_freed() -> Iterator[None]:
    """Free what a file of tests has traced, so that a process stays small."""
    from po2quant.graphs import graphs_released

    with graphs_released():
        yield


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command here and returns its exit code, standard output and standard error."""
    from po2quant.cli import main

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["po2quant", *map(str, words)])
        # a worker of a search keeps its role in the environment
        with mock.patch.dict(os.environ), pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    return command


@pytest.fixture(scope="session")
def digits():
    """Return the digits benchmark with a recipe of a few epochs."""
    from po2quant.benchmark import load_benchmark

    benchmark = load_benchmark("digits")
    return dataclasses.replace(benchmark, recipe=dataclasses.replace(benchmark.recipe, float_epochs=FLOAT_EPOCHS))


@pytest.fixture(scope="session")
def digits_data(digits):
    """Return the digits themselves."""
    return digits.load_data(None, 0)


@pytest.fixture(scope="session")
def digits_weights(digits, digits_data, tmp_path_factory) -> Path:
    """Return a run folder with float weights of a briefly trained digits network."""
    from po2quant.training.finetune import Experiment, train_float

    folder = tmp_path_factory.mktemp("digits_float")
    train_float(Experiment(digits, "ds_cnn", digits_data), folder)
    return folder
