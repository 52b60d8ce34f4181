"""The rows of the memory benchmark; how much memory is not tested."""

import dataclasses

import pytest

from benchmarks.studies.memory import measure
from po2quant.search.strategies import BAYESIAN
from po2quant.training.finetune import Experiment


@pytest.mark.slow
def test_rows_are_taken_after_trials_and_peaks_never_fall(digits, digits_data, digits_weights):
    splits = {name: getattr(digits_data, name).head(32) for name in ("train", "validation")}
    dataset = dataclasses.replace(digits_data, **splits)
    rows = []
    measure(Experiment(digits, "ds_cnn", dataset, weights=digits_weights), 3, BAYESIAN, rows.append)
    assert [row["trial"] for row in rows] == [1, 2, 3]
    assert 0 < rows[0]["peak_mib"] <= rows[1]["peak_mib"] <= rows[2]["peak_mib"]
