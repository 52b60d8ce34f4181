"""The command line: the contract of its commands, one sentence for a wrong input, kill -9 and go on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from po2quant.benchmark import load_benchmark
from po2quant.bit_config import BitConfig
from po2quant.files import read_csv
from po2quant.training.prepare import resolve_config

PO2QUANT = [sys.executable, "-c", "from po2quant.cli import main; main()"]
TIMEOUT_S = 300


def run(*arguments, **options):
    return subprocess.run(
        [*PO2QUANT, *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT_S, **options
    )


@pytest.fixture(scope="module")
def trained(digits_weights, tmp_path_factory):
    """Run a fine-tuning of two epochs; return its folder and process."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    arguments = ("--weights", digits_weights, "--config", "flat8", "--epochs", 2, "--output-dir", folder, "--json")
    return folder, run("finetune", *arguments)


def test_help_names_the_commands(call):
    code, out, _ = call("--help")
    assert code == 0
    for command in ("check", "summary", "evaluate", "search", "finetune", "matrix", "diagnose"):
        assert command in out


def test_summary_prints_the_layers_and_the_stats_block(call):
    code, out, error = call("summary", "--benchmark", "keyword_spotting", "--config", "mpq")
    assert code == 0, error
    assert "depthwise_conv2d_3" in out
    assert "trial_size=574820 reference_size=1535460" in out
    assert "total=574820/1535460 (-62.56%)" in out


@pytest.mark.slow
def test_a_reconstructed_configuration_says_so(call):
    _, out, _ = call("summary", "--benchmark", "visual_wake_words", "--model", "efficientnet_b0")
    assert "note: 25 of the 190 activation widths were lost" in out
    assert "trial_size=61175468 reference_size=110699218" in out


def test_finetune_leaves_a_run_folder_that_explains_itself(trained):
    folder, result = trained
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout.splitlines()[-1])
    assert row["config"] == "flat8" and row["finetuned"]["samples"] == 360
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "env.json",
        "epochs.csv",
        "diagnostics.csv",
        "tensorboard",
        "best.weights.h5",
        "best_config.json",
        "model.keras",
        "plots",
        "results.csv",
        "run.log",
        "scores.json",
    } <= names
    scores = json.loads((folder / "scores.json").read_text())
    confusion = np.array(scores["finetuned"]["confusion"])
    assert confusion.shape == (10, 10) and confusion.sum() == 360
    assert np.trace(confusion) / 360 == row["finetuned"]["value"]
    environment = json.loads((folder / "env.json").read_text())
    assert environment["data_kind"] == "embedded"
    assert len(environment["data_fingerprint"]) == 16
    assert len(read_csv(folder / "epochs.csv")) == 2


@pytest.mark.slow
def test_diagnose_explains_a_run_and_its_weight_file(trained, call):
    folder, _ = trained
    code, out, error = call("diagnose", folder, "--json")
    assert code == 0, error
    rows = json.loads(out.splitlines()[-1])["rows"]
    assert {row["part"] for row in rows} >= {"kernel", "bias"}
    assert call("diagnose", folder / "best.weights.h5")[0] == 0


@pytest.mark.slow
def test_evaluate_of_a_run_folder_repeats_its_score(trained, call):
    folder, result = trained
    expected = json.loads(result.stdout.splitlines()[-1])["finetuned"]["value"]
    arguments = ("--weights", folder, "--config", folder / "best_config.json", "--json")
    facts = json.loads(call("evaluate", *arguments)[1].splitlines()[-1])
    assert facts["score"] == expected
    assert (facts["metric"], facts["samples"], facts["calibration"]) == ("accuracy", 360, "weights file")
    assert facts["size_bits"] < facts["reference_size_bits"]


def test_quiet_where_nobody_looks(trained):
    """Beside JSON on standard output, standard error has the table and the files, and nothing of TensorFlow."""
    folder, result = trained
    assert result.stdout.count("\n") == 1
    lines = result.stderr.splitlines()
    title = next(number for number, line in enumerate(lines) if line.startswith("digits ds_cnn: accuracy"))
    assert all(line.startswith("flat8 auto_po2: ") for line in lines[:title])  # progress of a slow machine
    assert lines[-1] == f"run folder: {folder}"
    table = lines[title : next(number for number, line in enumerate(lines) if line.startswith("picture: "))]
    assert max(map(len, table)) <= 80


def test_the_log_of_a_run_has_every_epoch(trained):
    folder, _ = trained
    log = (folder / "run.log").read_text()
    assert " DEBUG epoch 1: " in log and " DEBUG epoch 2: " in log and "val_accuracy" in log


def test_a_second_run_does_not_overwrite_the_first(trained, digits_weights, error_of):
    folder, _ = trained
    before = (folder / "epochs.csv").read_bytes()
    arguments = ("--weights", digits_weights, "--config", "flat8", "--epochs", 2, "--output-dir", folder)
    assert "the run that it holds be resumed" in error_of("finetune", *arguments)
    assert (folder / "epochs.csv").read_bytes() == before


WRONG_INPUTS = {
    "benchmark": (("summary", "--benchmark", "imagenet"), "benchmark must be one of anomaly_detection, digits"),
    "model": (("summary", "--model", "vgg"), "model of benchmark 'digits' must be one of ds_cnn. Received: 'vgg'"),
    "width": (("summary", "--config", "flat0"), "Received: 'flat0'"),
    "config": (("summary", "--config", "nowhere.json"), "'nowhere.json', which is no file"),
    "no weights": (("evaluate", "--config", "flat8"), "evaluate needs --weights"),
    "weights": (("evaluate", "--config", "flat8", "--weights", "nowhere.h5"), "There is no file nowhere.h5"),
    "data": (("finetune", "--benchmark", "keyword_spotting"), "--data-dir"),
    "no data": (("finetune", "--benchmark", "visual_wake_words", "--data-dir", "nowhere"), "nowhere"),
    "preset": (
        ("finetune", "--preset", "tiny"),
        "preset of digits ds_cnn must be one of published, small. Received: 'tiny'",
    ),
    "source": (("finetune", "--data", "real"), "--data must be a file or folder with the data. There is none: real"),
    "sources": (
        ("matrix", "--benchmark", "image_classification", "--data", "real"),
        "--data must be official, synthetic, or a file or folder with the data. There is none: real",
    ),
    "nothing to diagnose": (("diagnose", "no_such_run"), "no_such_run"),
    "workers": (("search", "--workers", "0"), "--workers must be at least 1. Received: 0"),
    "role": (("search", "--role", "chief"), "--role chief or worker and --oracle host:port"),
    "seeds": (("matrix", "--seeds", "0;1"), "--seeds must be whole numbers separated by commas. Received: '0;1'"),
    "configs": (("matrix", "--configs", "mpq,flat3"), "Received: 'flat3'"),
    "alphas": (("matrix", "--alphas", "po2"), "alpha must be one of auto, auto_po2"),
    "widths": (
        ("search", "--activation-bits", "4 8"),
        "--activation-bits must be whole numbers separated by commas. Received: '4 8'",
    ),
    "order of widths": (("search", "--kernel-bits", "8,4"), "widths of kernel must be ascending and not empty"),
    "bits of a search": (("search", "--bias-bits", "16,64"), "must be an integer in [2, 32]. Received: bits=64"),
    "seed": (("finetune", "--seed", "-1"), "a seed must lie in [0, 2147483647]. Received: -1"),
    "seed of many": (("matrix", "--seeds", "0,-1"), "a seed must lie in [0, 2147483647]. Received: -1"),
    "alpha of a summary": (("summary", "--alpha", "po2"), "alpha must be one of auto, auto_po2, learned_po2"),
    "activation alpha": (("finetune", "--activation-alpha", "po2"), "alpha must be one of auto, auto_po2, learned_po2"),
    "float activations": (
        ("finetune", "--config", "float", "--activation-alpha", "auto"),
        "--activation-alpha needs a --config other than float. Received: 'auto'",
    ),
    "resume": (("search", "--resume"), "--resume needs --output-dir"),
    "module": (("summary", "--benchmark", "no.such.module:thing"), "cannot load benchmark 'no.such.module:thing'"),
    "attribute": (("summary", "--benchmark", "json:dumps"), "must be a po2quant.benchmark.Benchmark"),
}


@pytest.fixture
def error_of(call):
    """Return a function that runs a command here, which must fail, and returns what it wrote to standard error."""

    def refused(*arguments):
        code, _, error = call(*arguments)
        assert code == 2
        return error

    return refused


@pytest.mark.parametrize("name", WRONG_INPUTS)
def test_a_wrong_input_ends_in_one_sentence(name, error_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, expected = WRONG_INPUTS[name]
    message = error_of(*arguments)
    assert expected in message
    assert len(message.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_alpha_and_a_malformed_configuration_are_named(digits_weights, error_of, tmp_path):
    layers = '{"conv2d": {"kernel": 0, "bias": 8}}'
    (tmp_path / "bad.json").write_text(f'{{"schema": "po2quant.bit_config", "version": 1, "layers": {layers}}}')
    message = error_of("evaluate", "--weights", digits_weights, "--config", tmp_path / "bad.json")
    assert "layer 'conv2d'" in message and "bits=0" in message
    message = error_of("evaluate", "--weights", digits_weights, "--config", "flat8", "--alpha", "po2")
    assert "alpha must be one of auto, auto_po2, learned_po2. Received: alpha='po2'" in message


def test_a_users_own_benchmark_comes_in_as_module_and_attribute(tmp_path):
    (tmp_path / "mine.py").write_text("from benchmarks.digits import BENCHMARK as TASK\n")
    result = run("summary", "--benchmark", "mine:TASK", "--config", "flat8", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "depthwise_conv2d" in result.stdout


def start_and_kill_after(arguments, rows_file: Path, rows: int):
    """Start a command, kill -9 it once ``rows_file`` has that many rows."""
    process = subprocess.Popen([*PO2QUANT, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if rows_file.exists() and len(rows_file.read_text().splitlines()) > rows:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    assert process.wait() == -signal.SIGKILL


def epoch_rows(folder):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_csv(folder / "epochs.csv")]


@pytest.mark.slow
def test_finetune_goes_on_after_kill_9_as_if_nothing_had_happened(digits_weights, tmp_path, call):
    common = ("finetune", "--weights", digits_weights, "--config", "flat4", "--epochs", 8)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(*common, "--output-dir", whole)[0] == 0
    start_and_kill_after((*common, "--output-dir", parts), parts / "epochs.csv", rows=3)
    code, _, error = call(*common, "--output-dir", parts, "--resume")
    assert code == 0, error
    assert epoch_rows(parts) == epoch_rows(whole)
    assert (parts / "diagnostics.csv").read_text() == (whole / "diagnostics.csv").read_text()


@pytest.mark.slow
def test_activations_may_have_scales_of_another_kind(digits_weights, tmp_path, call):
    folder = tmp_path / "run"
    arguments = ("--weights", digits_weights, "--config", "flat4", "--epochs", 1, "--output-dir", folder, "--json")
    code, out, error = call("finetune", *arguments, "--activation-alpha", "learned_po2")
    assert code == 0, error
    assert json.loads(out.splitlines()[-1])["alpha"] == "mixed"
    config = BitConfig.load(folder / "best_config.json")
    assert {bits.alpha for bits in config.layers.values() if bits.activation} == {"learned_po2"}
    assert {bits.alpha for bits in config.layers.values() if bits.kernel} == {"auto_po2"}
    code, _, error = call("verify", folder, "--samples", 20)
    assert code == 0, error


MY_TASK = """
import keras
import numpy as np
from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Recipe, Split, accuracy_score, validation_accuracy
from po2quant.training.schedules import constant
from po2quant.network import Placement

def build():
    layers = [keras.layers.Dense(6), keras.layers.ReLU(), keras.layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((4,)), *layers])

def load(data_dir, seed):
    x = np.random.default_rng(seed).normal(size=(60, 4)).astype("float32")
    y = np.argmax(x[:, :3], axis=1)
    parts = [Split(x[start : start + 20], y[start : start + 20]) for start in (0, 20, 40)]
    return Dataset("my data", "official", *parts)

RECIPE = Recipe("sparse_categorical_crossentropy", 2, 2, 10, constant(0.01), metrics=("accuracy",))
TASK = Benchmark("mytask", {"net": NetworkSpec(build, Placement())}, load, RECIPE, accuracy_score, validation_accuracy)
"""


def test_a_search_or_matrix_needs_float_weights(trained, error_of):
    folder, _ = trained
    for command in ("search", "matrix"):
        message = error_of(command, "--weights", folder, "--output-dir", folder.with_name(command))
        assert f"--weights must be of a float network here. Received: {folder}, of a quantized one" in message
        assert not folder.with_name(command).exists()


def test_a_configuration_of_another_network_is_refused_before_anything_is_trained(error_of, tmp_path):
    config = resolve_config("mpq", load_benchmark("keyword_spotting").network()[1])
    config.save(tmp_path / "other.json")
    message = error_of("finetune", "--config", tmp_path / "other.json", "--output-dir", tmp_path / "run")
    assert "does not fit the network" in message and not (tmp_path / "run").exists()


def test_workers_leave_the_size_limit_to_their_chief(error_of, tmp_path):
    arguments = ("search", "--benchmark", "keyword_spotting", "--max-kib", 1)
    worker = ("--output-dir", tmp_path, "--role", "worker", "--oracle", "127.0.0.1:9")
    assert "the size limit must be at least" in error_of(*arguments, "--data", "synthetic")
    assert "needs --data-dir" in error_of(*arguments, *worker)


@pytest.mark.slow
def test_a_task_of_ones_own_needs_no_names_of_layers_and_its_run_knows_where_it_is(
    tmp_path, call, error_of, monkeypatch
):
    (tmp_path / "mytask.py").write_text(MY_TASK)
    result = run("finetune", "--benchmark", "mytask:TASK", "--config", "flat8", "--output-dir", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert "--benchmark mytask:TASK" in error_of("verify", "run")
    code, out, error = call("verify", "run", "--benchmark", "mytask:TASK", "--samples", 20, "--json")
    assert code == 0, error
    assert json.loads(out.splitlines()[-1])["mismatches"] == 0


@pytest.mark.slow
def test_search_goes_on_after_kill_9_with_every_finished_trial(digits, digits_weights, tmp_path, call):
    folder = tmp_path / "search"
    common = ("search", "--weights", digits_weights, "--max-trials", 5, "--epochs", 1, "--output-dir", folder)
    common += ("--kernel-bits", "3,4,6", "--bias-bits", "8,16")
    start_and_kill_after(common, folder / "trials.csv", rows=2)
    before = (folder / "trials.csv").read_text().splitlines()
    code, out, error = call(*common, "--resume")
    assert code == 0, error
    after = (folder / "trials.csv").read_text().splitlines()
    assert len(after) == 6
    assert after[: len(before) - 1] == before[:-1]
    assert "next: " in out and str(folder / "best_config.json") in out
    assert "accuracy on 360 samples has a standard error of 0.0" in out
    (source,) = (folder / "c").glob("*_mpq.c")
    assert f"C: {source}, {source.stat().st_size} bytes of text" in out
    assert len(list((folder / "plots").glob("*.png"))) == 5
    config = BitConfig.load(folder / "best_config.json")
    assert set(config.layers) == set(resolve_config("flat8", digits.network()[1]).layers)
    assert {bits.kernel for bits in config.layers.values()} <= {None, 3, 4, 6}
    assert {bits.bias for bits in config.layers.values()} <= {None, 8, 16}


@pytest.mark.slow
def test_the_command_that_a_chief_shows_runs_its_trials(digits_weights, tmp_path, call):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    arguments = ("search", "--role", "chief", "--oracle", address, "--weights", digits_weights, "--max-trials", 1)
    arguments += ("--epochs", 1, "--output-dir", tmp_path / "search")
    with subprocess.Popen([*PO2QUANT, *map(str, arguments)], stdout=subprocess.PIPE, text=True) as chief:
        shown = next(line for line in chief.stdout if line.startswith("a worker joins with: "))
        _, _, command = shown.partition(": ")
        code, _, error = call(*shlex.split(command)[1:])
        output, _ = chief.communicate(timeout=TIMEOUT_S)
    assert code == chief.returncode == 0, error
    assert len(read_csv(tmp_path / "search" / "trials.csv")) == 1 and "next: " in output


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(digits_weights, tmp_path, error_of):
    folder = tmp_path / "run"
    arguments = ("finetune", "--weights", digits_weights, "--config", "flat8", "--epochs", 500, "--output-dir", folder)
    process = subprocess.Popen([*PO2QUANT, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + TIMEOUT_S
    while not (folder / "epochs.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    refused = error_of("finetune", "--output-dir", folder, "--resume")
    assert f"is being worked on by process {process.pid} on" in refused
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert f"--resume --output-dir {folder} goes on" in output
    assert np.isfinite(float(epoch_rows(folder)[0]["loss"]))
