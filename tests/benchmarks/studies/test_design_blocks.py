"""The study of blocks: what stands out of measurements, and one network from float to C, stopped and gone on with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.image_classification.design_blocks import DESIGNS, macs_of
from benchmarks.studies import design_blocks as study
from po2quant.benchmark import load_benchmark
from po2quant.diagnostics.measurement import Measurement
from po2quant.files import read_csv
from po2quant.training.reconstruct import Reconstruction


def measured(layer, part, after="", **values):
    return Measurement(0, layer, part, after, 4, 8, **values)


def test_the_tensor_with_the_least_ratio_is_the_worst_and_an_exact_one_counts_in_no_mean():
    found = study.diagnosed(
        [
            measured("a", "kernel", sqnr_db=20.0, exponent_min=-5, exponent_max=-3),
            measured("b", "kernel", sqnr_db=16.0, exponent_min=-9, exponent_max=-2),
            measured("b", "bias", sqnr_db=1.0),
            measured("act", "activation", "input", sqnr_db=np.inf, tail_bits=1.0, network_sqnr_db=np.inf),
            measured("act_1", "activation", "b", sqnr_db=12.0, tail_bits=2.0, network_sqnr_db=7.5),
        ]
    )
    assert found == {
        "output_sqnr_db": 7.5,
        "kernel_sqnr_db": 18.0,
        "worst_kernel": "b",
        "worst_kernel_sqnr_db": 16.0,
        "activation_sqnr_db": 12.0,
        "worst_activation": "b",
        "worst_activation_sqnr_db": 12.0,
        "exponent_spread": 7,
        "tail_bits": 1.5,
    }


@pytest.mark.slow
def test_a_network_goes_from_float_to_c_and_a_row_that_is_there_is_not_run_again(tmp_path, monkeypatch):
    synthetic = load_benchmark("image_classification").synthesize(0)
    parts = {name: getattr(synthetic, name).head(128) for name in ("train", "validation", "test")}
    data = dataclasses.replace(synthetic, **parts)
    monkeypatch.setattr(study, "BENCHMARK", dataclasses.replace(study.BENCHMARK, load_data=lambda folder, seed: data))
    monkeypatch.setattr(study, "RECONSTRUCTION", Reconstruction(samples=32, steps=2))
    results = tmp_path / "rows.csv"
    options = ["--networks", "residual_zeros", "--configs", "w4a4", "--train-samples", "64"]
    options += ["--output-dir", str(tmp_path / "runs"), "--results", str(results)]
    study.main(options)
    (row,) = read_csv(results)
    assert (row["network"], row["config"], row["epochs"], row["mismatches"]) == ("residual_zeros", "w4a4", "0", "0")
    assert int(row["verified_samples"]) == study.VERIFIED_SAMPLES
    assert row["reconstructed"] and row["real_scales"] and not row["finetuned"]
    assert int(row["macs"]) == macs_of(DESIGNS["residual_zeros"].build())
    monkeypatch.setattr(study, "float_experiment", None)
    study.main(options)
    assert read_csv(results) == [row]
