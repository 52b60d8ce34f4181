"""What a run folder says about its network, and inputs spread over a split."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from refusals import complaint

from po2quant.benchmark import Split
from po2quant.deploy.network import Origin, frozen_network, origin_of_run, spread_inputs

FILES = ("best_config.json", "best.weights.h5")
SETTINGS = {"benchmark": "keyword_spotting", "model": "ds_cnn", "alpha": "auto_po2", "seed": 3, "data_dir": "there"}


def folder_with(path: Path, *names: str, **settings) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).touch()
    if settings:
        (path / "config.json").write_text(json.dumps(settings))
    return path


def test_a_fine_tuned_run_says_everything(tmp_path):
    run = folder_with(tmp_path / "run", *FILES, **SETTINGS, config="somewhere/mine.json", data="official")
    assert origin_of_run(run) == Origin(
        "keyword_spotting",
        "ds_cnn",
        run,
        str(run / "best_config.json"),
        "mine",
        "auto_po2",
        "official",
        Path("there"),
        3,
    )


@pytest.mark.parametrize(
    ("around", "cell", "config_name"), [("", "flat8-auto_po2", "flat8"), ("comparison", "flat8", "flat8")]
)
def test_a_cell_takes_what_the_run_around_it_says(tmp_path, around, cell, config_name):
    """Those of a matrix are named after their scales too, whatever the run's own are."""
    folder_with(tmp_path, **SETTINGS)
    path = folder_with(tmp_path / around / cell, *FILES)
    origin = origin_of_run(path)
    assert (origin.weights, origin.config_name, origin.alpha, origin.seed) == (path, config_name, "auto_po2", 3)


@pytest.mark.parametrize(("name", "alpha"), [("flat8-auto", "auto_po2"), ("run", "auto")])
def test_real_scales_are_refused(tmp_path, name, alpha):
    folder_with(tmp_path, **SETTINGS | {"alpha": alpha})
    assert "made with alpha='auto'" in complaint(origin_of_run, folder_with(tmp_path / name, *FILES))


def test_other_folders_are_refused(tmp_path):
    """No run, a run without a trained network, and a damaged one."""
    assert "must be a run folder" in complaint(origin_of_run, folder_with(tmp_path / "a" / "b" / "c" / "d"))
    run = folder_with(tmp_path / "run", FILES[0], **SETTINGS)
    assert "without best.weights.h5" in complaint(origin_of_run, run)
    for text in ("{", "[]", "{}"):
        (run / "config.json").write_text(text)
        assert str(run / "config.json") in complaint(origin_of_run, run)


def test_a_float_network_has_no_integers(digits, digits_data, digits_weights):
    complaint(frozen_network, digits.network()[1], None, digits_weights, digits_data)


@pytest.mark.parametrize(("samples", "expected"), [(1, [0]), (3, [0, 4, 8]), (12, range(12)), (50, range(12))])
def test_inputs_are_spread_over_clips(samples, expected):
    """Three clips of four windows of two numbers."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    x = np.arange(24).reshape(3, 8)
    inputs = spread_inputs(Split(x, None, scale=0.5), model, samples)
    np.testing.assert_array_equal(inputs, x.reshape(12, 2)[list(expected)] * np.float32(0.5))
