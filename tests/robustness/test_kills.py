"""What the study of kills counts: rows that are gone, and files that are not those of an undisturbed run."""

from __future__ import annotations

import json
import time

import h5py
import numpy as np
import pytest

from benchmarks.studies.robustness.comparison import Round, compared, tables

TRIALS = "trial_id,score,seconds\n0,0.5,1.0\n1,0.25,2.0\n"


def make_run(folder, trials=TRIALS, bits=4, weight=1.0):
    """Write the files of a run that are compared."""
    (folder / "trials" / "0").mkdir(parents=True)
    (folder / "trials.csv").write_text(trials)
    (folder / "trials" / "0" / "epochs.csv").write_text("epoch,loss,seconds\n1,0.5,3\n")
    (folder / "best_config.json").write_text(json.dumps({"bits": bits, "seconds": time.time()}))
    with h5py.File(folder / "best.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.full((2, 3), weight, np.float32)
    return folder


@pytest.fixture
def count(tmp_path):
    """Return a function that counts what a run lost and how it differs, given its end and what was there before."""
    reference = make_run(tmp_path / "undisturbed" / "run")

    def call(before=(), **end):
        make_run(tmp_path / "round" / "run", **end)
        result = Round("search", 0, 0, "abc")
        compared(result, tmp_path / "round", reference, [{"trials.csv": list(before)}], time.monotonic())
        return result.lost_rows, result.differing

    return call


def rows(tmp_path):
    return tables(tmp_path / "undisturbed" / "run")["trials.csv"]


def test_a_run_in_a_folder_of_any_name_has_its_tables(tmp_path):
    folder = make_run(tmp_path / "workers" / "trials")
    (folder / "workers" / "0").mkdir(parents=True)
    (folder / "workers" / "0" / "trials.csv").write_text(TRIALS)
    assert set(tables(folder)) == {"trials.csv", "trials/0/epochs.csv"}


def test_times_may_differ_and_nothing_else(count, tmp_path):
    assert count(rows(tmp_path), trials=TRIALS.replace("2.0", "9.0")) == (0, 0)


@pytest.mark.parametrize(
    "end",
    [{"trials": TRIALS.replace("0.25", "0.26")}, {"bits": 5}, {"weight": 1.0 + 2**-20}],
    ids=lambda end: next(iter(end)),
)
def test_another_number_is_a_difference(end, count):
    assert count(**end) == (0, 1)


def test_a_row_that_was_there_before_and_is_not_in_the_end_is_lost(count, tmp_path):
    assert count(rows(tmp_path), trials="trial_id,score,seconds\n0,0.5,1.0\n") == (1, 1)
