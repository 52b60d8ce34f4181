"""A network and data in files go through every command; its run folder says all that goes on needs."""

from __future__ import annotations

import json
import shlex

import keras
import numpy as np
import pytest
from keras import layers
from networks import randomize
from typer.testing import CliRunner

from po2quant import cli
from po2quant.runs.request import read_request

EPOCHS = 1
CALIBRATED = ("--calibration", "percentile:99")


def run(*words):
    """Run a command, which must succeed, and return what it says."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a network and data that it does not know yet."""
    folder, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    randomize(network).save(folder / "my net.keras")
    x = rng.integers(0, 256, (90, 6, 6), np.uint8)
    y = x.reshape(90, 3, 12).sum(axis=2).argmax(axis=1)
    np.savez(folder / "data.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    np.savez(folder / "test.npz", x_test=x[60:], y_test=y[60:])
    return {"--network": folder / "my net.keras", "--data": folder / "data.npz", "--input-scale": 1 / 255}


def words_of(options):
    return [word for pair in options.items() for word in pair]


def test_a_pruned_network_is_a_file_that_other_commands_take(files, tmp_path):
    narrow = tmp_path / "narrow.keras"

    said, evaluated = (
        json.loads(run(*command, "--json").splitlines()[-1])
        for command in (
            ("prune", *words_of(files), "--keep", 0.6, "--output", narrow),
            ("evaluate", *words_of(files | {"--network": narrow}), "--config", "flat8"),
        )
    )

    assert said["weights"] == 4 * 9 + 3 * 64
    assert said["weights_left"] <= 0.6 * said["weights"]
    assert keras.models.load_model(narrow).layers[1].filters == said["weights_left"] // (9 + 3 * 16)
    assert evaluated["samples"] == 30


@pytest.fixture(scope="module")
def tuned(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "run"
    options = ("--config", "flat8", "--epochs", EPOCHS, "--output-dir", folder, "--json")
    return folder, run("finetune", *words_of(files), *options)


def test_the_choices_are_said_and_recorded(tuned):
    folder, said = tuned
    assert said.splitlines()[0] == (
        "targets are classes, the network ends in no function: loss sparse_categorical_crossentropy_from_logits, "
        "metric accuracy; inputs from 0 to 1"
    )
    request = read_request(folder)
    assert request.loss == "sparse_categorical_crossentropy_from_logits" and request.metric == "accuracy"
    assert request.signed_input is False and request.benchmark is None and request.weights is None
    assert (folder / "float" / "best.weights.h5").exists()
    assert json.loads(said.splitlines()[-1])["finetuned"]["samples"] == 30


def test_float_weights_are_those_of_the_file(files, tuned):
    folder, _ = tuned
    said = run("evaluate", *words_of(files), "--config", "float", "--json")
    recorded = json.loads((folder / "float" / "scores.json").read_text())
    assert json.loads(said.splitlines()[-1])["score"] == recorded["calibrated"]["value"]


def test_verify_and_export_read_the_record(tuned, tmp_path):
    folder, _ = tuned
    assert "all equal" in run("verify", folder, "--samples", 8)
    assert "own_my_net_flat8.c" in run("export", folder, "--format", "c", "--output-dir", tmp_path)


def test_a_run_goes_on_as_it_was_asked_for(files, tuned):
    folder, said = tuned
    again = run(
        "finetune",
        *words_of(files),
        "--config",
        "flat8",
        "--epochs",
        EPOCHS,
        "--resume",
        "--output-dir",
        folder,
        "--json",
    )
    assert json.loads(again.splitlines()[-1])["finetuned"] == json.loads(said.splitlines()[-1])["finetuned"]


def test_a_network_is_summed_up_and_written_without_training(files, tmp_path):
    network = ("--network", files["--network"], "--config", "flat8")
    assert "conv2d" in run("summary", *network)
    said = run("verify", *words_of(files), "--config", "flat8", "--samples", 4)
    assert "all equal" in said
    test_only = files["--data"].with_name("test.npz")
    assert "calibrated on the test inputs" in run("evaluate", *network, "--data", test_only)


def test_the_command_in_the_results_makes_the_same_run(tuned):
    folder, _ = tuned
    program, *words = shlex.split(read_request(folder).command())
    assert program == "po2quant" and "--network" in words and "--loss" in words and "--benchmark" not in words


def test_activation_ranges_come_from_the_data_that_are_named(files, tmp_path):
    test_only = files["--data"].with_name("test.npz")
    options = (*words_of(files | {"--data": test_only}), "--config", "flat4", "--json")
    own, named = (json.loads(run("evaluate", *options, *more).splitlines()[-1]) for more in ((), CALIBRATED))
    assert own["calibration"] == "test inputs"
    said = run("evaluate", *options, "--calibration-data", files["--data"])
    assert f"activation ranges were calibrated on {files['--data']}" in said
    assert json.loads(said.splitlines()[-1])["calibration"] == str(files["--data"])
    assert named["calibration_rule"] == CALIBRATED[1]


def test_a_benchmark_takes_arrays_of_what_its_network_sees(digits_data, digits_weights, tmp_path):
    np.savez(tmp_path / "digits.npz", x_test=digits_data.test.x[:50], y_test=digits_data.test.y[:50])
    said = run("evaluate", "--weights", digits_weights, "--config", "flat8", "--data", tmp_path / "digits.npz")
    assert "on digits.npz (own: 50 test)" in said and "calibrated on the test inputs" in said


@pytest.mark.slow
def test_search_and_matrix_take_a_network(files, tmp_path):
    options = ("--max-trials", 2, "--epochs", 1, "--output-dir", tmp_path / "search")
    said = run("search", *words_of(files), *options)
    assert f"--network '{files['--network']}'" in said
    assert "all equal" in run("verify", tmp_path / "search", "--samples", 4)
    run("matrix", *words_of(files), "--configs", "flat8", "--epochs", 1, "--output-dir", tmp_path / "matrix")
    assert (tmp_path / "matrix" / "results.csv").exists()


@pytest.mark.slow
def test_a_network_is_trained_first_where_that_is_asked_for(files, tmp_path):
    run(
        "finetune",
        *words_of(files),
        "--config",
        "float",
        "--float-epochs",
        2,
        "--epochs",
        0,
        "--output-dir",
        tmp_path / "r",
    )
    assert (tmp_path / "r" / "float" / "epochs.csv").exists()
