"""What a run was asked for: every field is checked, and its file is data that is checked as well."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import complaint, refusal
from selections import slow_but
from typer.testing import CliRunner

from po2quant import cli
from po2quant.bit_config import POWERS_OF_TWO
from po2quant.runs.folder import check_same
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS
from po2quant.runs.request import (
    MatrixRequest,
    NetworkRequest,
    RunRequest,
    SearchRequest,
    check_trusted,
    network_of_run,
    read_request,
)
from po2quant.runs.task import OF_NETWORKS

SHARED = {"benchmark": "keyword_spotting", "model": "ds_cnn", "weights": Path("w e.h5"), "alpha": "learned_po2"}
SHARED |= {
    "seed": 7,
    "preset": "small",
    "calibration": "entropy",
    "target": "tinpu",
    "data": "official",
    "data_dir": Path("there"),
}
WIDTHS = {"kernel_bits": (3, 4), "bias_bits": (8,), "activation_bits": (6, 9)}
FULL = {
    "finetune": NetworkRequest(
        **SHARED, config="a/mine.json", config_name="b", activation_alpha="auto", epochs=3, reconstruct=9
    ),
    "search": SearchRequest(
        **SHARED,
        **WIDTHS,
        max_trials=5,
        epochs=2,
        retrain_epochs=4,
        strategy="random",
        max_kib=61.5,
        goal="instructions:m4",
        max_flash_kib=64,
        max_ram_kib=20.5,
        max_ms="50@m4:120MHz",
        packed=True,
        repeats=3,
        input_bits=10,
        reconstruct=9,
    ),
    "matrix": MatrixRequest(
        **SHARED | {"alpha": "auto_po2"}, configs=("mpq", "flat5"), alphas=("auto",), epochs=1, reconstruct=9
    ),
}
"""Every field that a benchmark has is another than its default."""
OWN = {"network": Path("a net.keras"), "data": None, "loss": "huber", "metric": "r2", "input_scale": 0.5}
OWN |= {"benchmark": None, "float_epochs": 2, "batch_size": 8, "learning_rate": 0.01}
ALL = FULL | {f"{command} of a network": dataclasses.replace(request, **OWN) for command, request in FULL.items()}


@pytest.mark.parametrize("command", ALL)
def test_a_request_is_read_as_it_was_written(command, tmp_path):
    full, plain = ALL[command], type(ALL[command])()
    for name, request in (("full", full), ("plain", plain)):
        request.save(tmp_path / name)
        assert read_request(tmp_path / name) == request
    same = {field.name for field in dataclasses.fields(full) if getattr(full, field.name) == getattr(plain, field.name)}
    of_others = {"data", "signed_input"} if full.network else {"network", "float_epochs", *OF_NETWORKS}
    assert same == of_others | ({"alpha"} if full.kind == "matrix" else set())  # a matrix has alphas


@pytest.mark.parametrize("command", ALL)
def test_its_command_asks_for_the_same(command, monkeypatch):
    """What only a record says, the name of a cell's configuration, is no part of a command."""
    is_network = ALL[command].kind == "finetune"
    asked = dataclasses.replace(ALL[command], **({"config_name": None} if is_network else {}))
    seen = []

    def check(request, *arguments):
        seen.append(request)
        raise ValueError("seen")

    monkeypatch.setattr(cli.networks, "begin_with_widths", check)
    monkeypatch.setattr(cli.search, "begin", check)
    monkeypatch.setattr(cli.matrix, "check", check)
    for request in (asked, type(asked)()):
        program, *words = shlex.split(request.command())
        assert program == "po2quant"
        CliRunner().invoke(cli.app, words)
        assert seen.pop() == request


def test_the_command_of_a_worker_names_code_and_leaves_the_rest_to_the_record(tmp_path):
    words = ["po2quant", "search", "--role", "worker", "--output-dir", str(tmp_path)]
    assert FULL["search"].worker_words(tmp_path) == words
    mine = dataclasses.replace(FULL["search"], benchmark="mine:TASK")
    assert mine.worker_words(tmp_path) == [*words, "--benchmark", "mine:TASK"]


def test_a_file_without_a_version_is_read_as_before_there_were_any(tmp_path):
    old = {name: value for name, value in FULL["search"].to_dict().items() if name not in ("schema", "version")}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert read_request(tmp_path) == FULL["search"]


@pytest.mark.parametrize(("informed", "strategy"), [(True, "informed"), (False, "bayesian")])
def test_a_search_of_before_there_were_strategies_has_the_one_it_meant(informed, strategy, tmp_path):
    values = FULL["search"].to_dict()
    del values["strategy"]
    (tmp_path / "config.json").write_text(json.dumps(values | {"informed": informed}))
    assert read_request(tmp_path).strategy == strategy


OTHER_TYPES = [3, 1.5, True, [], ["a"], {}, {"a": 1}, "", "\u0000", "\ud800", "x" * 5000]
RIGHT = {
    "seed": [3],
    "epochs": [3],
    "reconstruct": [3],
    "input_bits": [3],
    "max_trials": [3],
    "retrain_epochs": [3],
    "max_kib": [3, 1.5],
    "max_flash_kib": [3, 1.5],
    "max_ram_kib": [3, 1.5],
    "packed": [True],
    "repeats": [3],
    "signed_input": [True],
    "float_epochs": [3],
    "batch_size": [3],
    "input_scale": [3, 1.5],
    "learning_rate": [3, 1.5],
    "configs": [[], ["a"]],
    "alphas": [[]],
}


@pytest.mark.parametrize("command", slow_but(("search",), ALL))
def test_a_value_of_another_type_is_refused_by_file_and_field(command, tmp_path):
    for field in dataclasses.fields(ALL[command]):
        for value in OTHER_TYPES:
            if value in RIGHT.get(field.name, ()):
                continue
            (tmp_path / "config.json").write_text(json.dumps(ALL[command].to_dict() | {field.name: value}))
            message = complaint(read_request, tmp_path)
            assert message.startswith(f"{tmp_path / 'config.json'}, {field.name}: ")
            assert len(message) < len(str(tmp_path)) + 500


OUT_OF_RANGE = {
    "benchmark": "nope",
    "alpha": "po2",
    "seed": -1,
    "config": "flat99",
    "activation_alpha": "float",
    "epochs": -1,
    "reconstruct": -1,
    "input_bits": 17,
    "max_trials": 0,
    "strategy": "greedy",
    "retrain_epochs": 2**31,
    "kernel_bits": [8, 4],
    "bias_bits": [],
    "activation_bits": [4, 64],
    "max_kib": 0,
    "goal": "cycles",
    "max_ms": "50",
    "repeats": -1,
    "configs": ["flat3"],
    "alphas": ["auto", "po2"],
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused(name):
    kinds = [type(request) for request in FULL.values() if name in {f.name for f in dataclasses.fields(request)}]
    for kind in kinds:
        assert "Received" in refusal(kind, **{name: OUT_OF_RANGE[name]})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"epoch": 3}, "Received: 'epoch'"),
        ({"command": "evaluate"}, "command must be one of finetune, search, matrix, reconstruct. Received: 'evaluate'"),
        ({"command": ["search"]}, "command must be one of"),
        ({"version": 2}, "up to version 1"),
        ({"version": True}, "version True"),
        ({"schema": "po2quant.bit_config"}, "schema 'po2quant.run'"),
    ],
)
def test_another_form_is_refused(change, expected, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(FULL["finetune"].to_dict() | change))
    message = complaint(read_request, tmp_path)
    assert expected in message and str(tmp_path / "config.json") in message


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000, '{"seed": 1e999}', '{"seed": 0, "seed": 1}'])
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    assert str(tmp_path / "config.json") in complaint(read_request, tmp_path)


def test_a_folder_without_a_request_is_told_since_when_there_is_one(tmp_path):
    message = complaint(read_request, tmp_path)
    assert "must be a run folder" in message and "since version 0.2" in message


@pytest.mark.parametrize("command", ["finetune", "search"])
def test_a_run_says_all_of_the_network_in_it(command, tmp_path):
    FULL[command].save(tmp_path)
    for name in (BEST_CONFIG, BEST_WEIGHTS):
        assert f"without {name}" in complaint(network_of_run, tmp_path)
        (tmp_path / name).touch()
    found = network_of_run(tmp_path)
    shared = {field.name: getattr(FULL[command], field.name) for field in dataclasses.fields(RunRequest)}
    config_name = {"finetune": "b", "search": "mpq"}[command]
    changes = {"weights": tmp_path, "config": str(tmp_path / BEST_CONFIG), "config_name": config_name}
    assert found == NetworkRequest(**shared | changes)
    assert network_of_run(tmp_path, POWERS_OF_TWO) == found


def test_real_scales_are_refused_where_there_must_be_shifts(tmp_path):
    NetworkRequest(alpha="auto").save(tmp_path)
    for name in (BEST_CONFIG, BEST_WEIGHTS):
        (tmp_path / name).touch()
    assert network_of_run(tmp_path).alpha == "auto"
    assert "made with alpha='auto'" in complaint(network_of_run, tmp_path, POWERS_OF_TWO)


def test_code_that_a_file_alone_names_is_not_trusted(tmp_path):
    request = NetworkRequest(benchmark="evil:TASK")
    check_trusted(NetworkRequest(), None, tmp_path)
    check_trusted(request, "evil:TASK", tmp_path)
    for named in (None, "digits", "other:TASK"):
        message = refusal(check_trusted, request, named, tmp_path)
        assert str(tmp_path / "config.json") in message and "--benchmark evil:TASK" in message


def test_a_request_is_made_and_read_without_tensorflow(tmp_path):
    FULL["search"].save(tmp_path)
    code = "import sys; from pathlib import Path; from po2quant.runs.folder import check_usable, read_request; "
    code += f"folder = Path({str(tmp_path)!r}); check_usable(folder, read_request(folder), resume=True); "
    code += "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_that_are_no_word_are_a_path_and_exclude_another_one():
    assert NetworkRequest(data="clips.zip") == NetworkRequest(data_dir=Path("clips.zip"))
    assert NetworkRequest(data="official", data_dir=Path("d")).data == "official"
    assert "beside data_dir. Received: 'clips.zip'" in complaint(NetworkRequest, data="clips.zip", data_dir=Path("d"))
    changed = NetworkRequest(data_dir=Path("clips.zip")).changed(data="synthetic")
    assert (changed.data, changed.data_dir) == ("synthetic", None)


def test_a_benchmark_and_a_network_exclude_each_other():
    network = Path("net.keras")
    assert NetworkRequest().benchmark == "digits" and NetworkRequest(network=network).benchmark is None
    assert "benchmark needs no network" in complaint(NetworkRequest, network=network, benchmark="digits")
    assert "loss needs a network in a file" in complaint(NetworkRequest, loss="huber")
    assert "must be a file or folder. Received: data='official'" in complaint(
        NetworkRequest, network=network, data="official"
    )


def test_a_run_goes_on_whose_loss_was_left_to_the_data(tmp_path):
    asked = NetworkRequest(network=Path("net.keras"), config="flat8")
    found = dataclasses.replace(asked, loss="huber", metric="r2", signed_input=False)
    found.save(tmp_path)
    check_same(tmp_path, asked)
    check_same(tmp_path, found)
    message = refusal(check_same, tmp_path, dataclasses.replace(asked, loss="mean_squared_error"))
    assert "loss was 'huber' and is 'mean_squared_error'" in message
