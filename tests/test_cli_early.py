"""What can be known to be wrong is said before TensorFlow is imported, and before anything is written or run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import po2quant
from po2quant.cli import main
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS
from po2quant.runs.request import NetworkRequest, SearchRequest

HERE = """
import contextlib, importlib.util, io, json, os, sys
from po2quant.cli import main
sys.modules |= {"tensorflow": None, "keras": None}  # to import them is an error
find_spec, answers = importlib.util.find_spec, []
importlib.util.find_spec = lambda name, *rest: None if name == "onnx" else find_spec(name, *rest)
for words in json.load(sys.stdin):
    sys.argv = ["po2quant", *map(os.fsdecode, map(bytes.fromhex, words))]
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    answers.append([code, error.getvalue()])
print(json.dumps(answers))
"""
"""Runs command lines, given as hexadecimal bytes, in a process without TensorFlow, Keras and onnx."""


def run_here(folder, *commands):
    """Return exit code and standard error of each command."""
    words = [
        [os.fsencode(word if isinstance(word, bytes) else str(word)).hex() for word in command] for command in commands
    ]
    command = [sys.executable, "-c", HERE]
    result = subprocess.run(command, input=json.dumps(words), capture_output=True, text=True, cwd=folder, check=True)
    return json.loads(result.stdout.splitlines()[-1])


KWS = ("--benchmark", "keyword_spotting")
WEIGHTS = ("--weights", "float.weights.h5")
CASES = {
    "absent network": (("evaluate", "--network", "nope.keras", "--data", "file"), "There is no file nope.keras"),
    "damaged network": (("finetune", "--network", "file"), "network file cannot be read"),
    "network and benchmark": (("evaluate", "--network", "file", "--benchmark", "digits"), "benchmark needs no network"),
    "loss of a benchmark": (("finetune", "--loss", "huber"), "loss needs a network in a file. Received: loss=huber"),
    "calibration": (("search", "--calibration", "median"), "calibration must be one of mse, max, percentile, entropy"),
    "calibration data": (
        ("evaluate", *WEIGHTS, "--config", "flat8", "--calibration-data", "nowhere.npz"),
        "There is none: nowhere.npz",
    ),
    "share of a pruned network": (
        ("prune", "--network", "file", "--keep", "1.5", "--output", "a.keras"),
        "keep must be in (0, 1]. Received: keep=1.5",
    ),
    "file of a pruned network": (
        ("prune", "--network", "file", "--keep", "0.5", "--output", "a.h5"),
        "output must be a .keras file in a folder that is there. Received: a.h5",
    ),
    "pruning of no weights": (
        ("prune", "--keep", "0.5", "--output", "a.keras"),
        "prune needs --weights, a weight file or a run folder, or --network",
    ),
    "data that are no word": (("finetune", "--data", "oficial"), "There is none: oficial"),
    "benchmark": (("finetune", "--benchmark", "nope"), "benchmark must be one of anomaly_detection, digits"),
    "benchmark of a summary": (("summary", "--benchmark", "nope"), "benchmark must be one of"),
    "model": (("search", "--model", "vgg"), "must be one of ds_cnn. Received: 'vgg'"),
    "config": (("finetune", "--config", "flat99"), "Received: 'flat99'"),
    "configs": (("matrix", "--configs", "mpq,flat99"), "Received: 'flat99'"),
    "file of a config": (("summary", "--config", "nowhere.json"), "'nowhere.json', which is no file"),
    "damaged config": (("evaluate", *WEIGHTS, "--config", "file"), "file is not a bit configuration"),
    "alpha": (("summary", "--alpha", "foo"), "alpha must be one of auto, auto_po2, learned_po2"),
    "alphas": (("matrix", "--alphas", "auto,foo"), "alpha must be one of auto, auto_po2, learned_po2"),
    "activation alpha": (("finetune", "--activation-alpha", "foo"), "alpha must be one of"),
    "preset": (("finetune", "--preset", "tiny"), "must be one of published, small. Received: 'tiny'"),
    "seed": (("search", "--seed", "-1"), "a seed must lie in [0, 2147483647]. Received: -1"),
    "seeds": (("matrix", "--seeds", "0,x"), "--seeds must be whole numbers"),
    "trials": (("search", "--max-trials", str(2**31)), "max_trials must be a whole number in [1, 2147483647]"),
    "size limit": (("search", "--max-kib", "nan"), "max_kib must be a finite number"),
    "widths": (("search", "--kernel-bits", "8,4"), "widths of kernel must be ascending"),
    "workers": (("search", "--workers", "0"), "--workers must be at least 1"),
    "address": (("search", "--role", "worker", "--oracle", "here"), "--oracle must be host:port"),
    "strategy": (("search", "--strategy", "greedy"), "one of informed, bayesian, random, gradient, hessian, hyperband"),
    "scale rule": (("evaluate", *WEIGHTS, "--scale-rule", "l1"), "scale_rule must be one of mse, max, nearest, stock"),
    "weights": (("finetune", "--weights", "nowhere.h5"), "There is no file nowhere.h5"),
    "weights of a search": (("search", "--weights", "folder"), "There is no file folder/best.weights.h5"),
    "no weights": (("evaluate",), "evaluate needs --weights"),
    "no data": (("finetune", *KWS), "keyword_spotting needs --data-dir with its data, or --data official"),
    "data folder": (("matrix", *KWS, "--data-dir", "nowhere"), "There is none: nowhere"),
    "source": (("finetune", "--data", "official"), "--data of digits must be one of none. Received: 'official'"),
    "output is a file": (("finetune", "--output-dir", "file"), "--output-dir must be a folder. Received a file: file"),
    "output below a file": (("search", "--output-dir", "file/run"), "file is none"),
    "output has a run": (
        ("finetune", "--output-dir", "finetune"),
        "must be new, or the run that it holds be resumed",
    ),
    "output has another run": (
        ("finetune", "--output-dir", "finetune", "--resume", "--config", "flat4"),
        "finetune holds another run: config was 'mpq' and is 'flat4'",
    ),
    "output is somebody's": (("finetune", "--output-dir", "folder"), "is not empty and holds no run"),
    "output is no text": (("finetune", "--output-dir", b"run-\xff"), "UTF-8 can encode. Received: 'run-\\udcff'"),
    "matrix is no text": (("matrix", "--output-dir", b"run-\xff"), "UTF-8 can encode. Received: 'run-\\udcff'"),
    "results": (("matrix", "--results", "results.md"), "must be a .csv file"),
    "damaged results": (("matrix", "--results", "file.csv"), "must be a CSV file"),
    "resume": (("search", "--resume"), "--resume needs --output-dir"),
    "format": (("export", "--format", "pdf", *WEIGHTS), "--format must be one of text, program, c, c-packed"),
    "extra": (("export", "finetune", "--format", "qonnx"), "needs onnx: pip install 'po2quant[exchange]'"),
    "export to a file": (("export", "finetune", "--output-dir", "file"), "must be a folder. Received a file: file"),
    "samples": (("verify", "finetune", "--samples", "0"), "--samples must be 1 or more. Received: 0"),
    "float": (("verify", "finetune", "--config", "float"), "a float network has no integers"),
    "no network": (("check", "nowhere.h5"), "FILE must be a file of a Keras model. There is none: nowhere.h5"),
    "no run": (("verify", "folder"), "RUN must be a run folder, which holds config.json"),
    "real scales": (("export", "real"), "made with alpha='auto'"),
    "nothing to diagnose": (("diagnose", "nowhere"), "There is none: nowhere"),
    "nothing to sweep": (("diagnose", "folder", "--mode-sweep"), "folder of a fine-tuned quantized run"),
    "code of a run": (("export", "evil"), "names code, which would run: benchmark 'evil:TASK'"),
    "code of a proof": (("verify", "evil", "--config", "flat8"), "--benchmark evil:TASK"),
    "code of a sweep": (("diagnose", "evil", "--mode-sweep"), "--benchmark evil:TASK"),
    "code of a search": (
        ("search", "--role", "worker", "--oracle", "127.0.0.1:9", "--output-dir", "evil-search"),
        "--benchmark evil:TASK",
    ),
    "no search": (
        ("search", "--role", "worker", "--oracle", "127.0.0.1:9", "--output-dir", "finetune"),
        "must be the run folder of a search. Received: finetune",
    ),
    "another run": (
        ("verify", "wrong"),
        "wrong/config.json, seed: a seed must lie in [0, 2147483647]. Received: 'zero'",
    ),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return what each case ends in, and the folder that they were run in, with what it held before."""
    folder = tmp_path_factory.mktemp("early")
    (folder / "file").write_text("text")
    (folder / "file.csv").write_bytes(b"\xff\xfe")
    (folder / "float.weights.h5").touch()
    (folder / "evil.py").write_text("open('executed', 'w')\nTASK = None\n")
    (folder / "folder").mkdir()
    (folder / "folder" / "photo.jpg").touch()
    requests = {
        "finetune": NetworkRequest(model="ds_cnn", epochs=30),
        "real": NetworkRequest(alpha="auto"),
        "evil": NetworkRequest(benchmark="evil:TASK"),
        "evil-search": SearchRequest(benchmark="evil:TASK"),
        "wrong": NetworkRequest(),
    }
    for name, request in requests.items():
        request.save(folder / name)
        for file in (BEST_CONFIG, BEST_WEIGHTS):
            (folder / name / file).touch()
    (folder / "wrong" / "config.json").write_text(json.dumps(NetworkRequest().to_dict() | {"seed": "zero"}))
    before = sorted(folder.rglob("*"))
    found = run_here(folder, *(words for words, _ in CASES.values()))
    return dict(zip(CASES, found, strict=True)), before, sorted(folder.rglob("*"))


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_says_what_is_wrong_before_tensorflow_is_imported(name, answers):
    code, error = answers[0][name]
    assert code == 2 and CASES[name][1] in error
    assert len(error.strip().splitlines()) == 1


def test_nothing_is_written_or_run_meanwhile(answers):
    _, before, after = answers
    assert after == before


def test_help_needs_no_tensorflow(tmp_path):
    commands = ("summary", "evaluate", "search", "finetune", "matrix", "diagnose", "export", "verify")
    assert run_here(tmp_path, ["--help"], *([name, "--help"] for name in commands)) == [[0, ""]] * 9


@pytest.mark.parametrize("words", [("-h",), ("--help",), ("search", "-h")])
def test_help_has_a_short_option(words, call):
    code, out, _ = call(*words)
    assert code == 0 and out.startswith(f"Usage: po2quant {words[0] if len(words) > 1 else '['}")


def test_the_version_is_one_line(call):
    code, out, _ = call("--version")
    assert code == 0 and out == f"po2quant {po2quant.__version__}\n"


def test_a_shell_completes_commands_and_options(capsys, monkeypatch):
    words = {"po2quant sea": "search", "po2quant search --max-t": "--max-trials"}
    monkeypatch.setattr(sys, "argv", ["po2quant"])
    monkeypatch.setenv("_PO2QUANT_COMPLETE", "complete_bash")
    for line, completed in words.items():
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        with pytest.raises(SystemExit, match="0"):
            main()
        assert capsys.readouterr().out.split() == [completed]
