"""Command lines, run as a user runs them: with wrong files, and with wrong options."""

from __future__ import annotations

import base64
import contextlib
import gc
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

import keras

import po2quant.cli as command_line
from benchmarks.studies.robustness.cases import COMMAND_SECONDS, Case, InputClass
from benchmarks.studies.robustness.networks import FLOAT, saved_files
from benchmarks.studies.robustness.values import CANARY, MODULE
from po2quant.benchmark import load_benchmark
from po2quant.training.prepare import resolve_config

RUN, SEARCH, MATRIX, CONFIG = "run", "search", "matrix", "config.json"
COSTLY_SECONDS = 1.0
"""Processor time after which a command has left networks behind."""

_LEFT_OUT = ("tensorboard", "plots", "model.keras", "report.html")
FINETUNE = ("finetune", "--weights", FLOAT, "--config", "flat8", "--epochs", "1", "--output-dir", RUN)
SEARCHED = ("search", "--weights", FLOAT, "--max-trials", "2", "--epochs", "1", "--output-dir", SEARCH)
COMPARED = ("matrix", "--weights", FLOAT, "--configs", "flat8", "--alphas", "auto_po2", "--epochs", "1")
COMPARED += ("--output-dir", MATRIX, "--results", f"{MATRIX}/RESULTS.csv")
EVIL = {f"{MODULE}.py": f"open('{CANARY}', 'w').close()\nX = None\n".encode()}


class UnsaidError(Exception):
    """A command that ended otherwise than with one sentence."""


def run_command(folder: Path, words: tuple[str, ...]) -> None:
    """Run a command line in this process.

    Raises:
        Exception: what the command ended with.
        UnsaidError: where it did not say so in one sentence.
    """
    raised: list[BaseException] = []
    sentence = command_line.sentence

    def recorded(error: BaseException, words: Sequence[str]) -> str:
        raised.append(error)
        return sentence(error, words)

    command_line.sentence, arguments, sys.argv = recorded, sys.argv, ["po2quant", *words]
    said, code, start = io.StringIO(), 0, time.process_time()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            command_line.main()
    except SystemExit as stop:
        code = stop.code
    finally:
        command_line.sentence, sys.argv = sentence, arguments
        if time.process_time() - start > COSTLY_SECONDS:
            keras.backend.clear_session()
            gc.collect()
    lines = said.getvalue().splitlines()
    if raised:
        if code != 2 or not lines or not lines[-1].startswith("error: ") or "Traceback" in said.getvalue():
            raise UnsaidError(f"exit code {code}, {lines[-3:]}")
        raise raised[0]
    if code not in (0, 1, None):
        raise UnsaidError(f"exit code {code}, {lines[-3:]}")


def run_until_training(folder: Path, words: tuple[str, ...]) -> None:
    """Run a command line up to where it would begin to train, or to wait for another process."""
    from po2quant.search import worker
    from po2quant.training.pipeline import Pipeline

    with (
        mock.patch.object(Pipeline, "__init__", side_effect=SystemExit(0)),
        mock.patch.object(worker, "CHIEF_WAIT_SECONDS", 0.1),
    ):
        run_command(folder, words)


def _made(words: Sequence[str]) -> None:
    """Run a command that must succeed."""
    run_command(Path(), tuple(words))


def _contents(folder: str) -> dict[str, bytes]:
    """Return the files of a run folder by name, the folder's included; those that are only shown are left out."""
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in files if not set(path.parts) & set(_LEFT_OUT)}


def _kept(make: Callable[[], list[Case]], name: str) -> list[Case]:
    """Return cases of :func:`run_command` that the first process of several makes, which takes a minute."""
    file = Path(tempfile.gettempdir(), f"{name}.json")
    if file.exists():
        return [_case_of(*fields) for fields in json.loads(file.read_text())]
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            cases = make()
        finally:
            os.chdir(here)
    file.write_text(json.dumps([_fields_of(case) for case in cases]))
    return cases


def _fields_of(case: Case) -> tuple[dict[str, str], Sequence[str], Sequence[str]]:
    return {name: base64.b64encode(content).decode() for name, content in case.files.items()}, case.words, case.changing


def _case_of(files: Mapping[str, str], words: Sequence[str], changing: Sequence[str]) -> Case:
    contents = {name: base64.b64decode(content) for name, content in files.items()}
    return Case(run_command, contents, tuple(words), tuple(changing))


def _float_files() -> dict[str, bytes]:
    keras.utils.set_random_seed(0)
    return saved_files(load_benchmark("digits").network()[1].new_network())


def _run_cases() -> list[Case]:
    weights = {FLOAT: _float_files()[FLOAT]}
    Path(FLOAT).write_bytes(weights[FLOAT])
    _made(FINETUNE)
    run = _contents(RUN)
    read = [("export", RUN), ("export", RUN, "--format", "c", "--output-dir", "out"), ("verify", RUN, "--samples", "2")]
    read += [("diagnose", RUN), ("diagnose", RUN, "--mode-sweep", "--samples", "8"), (*FINETUNE, "--resume")]
    read += [("evaluate", "--weights", RUN, "--config", f"{RUN}/best_config.json")]
    cases = [Case(run_command, run | weights | EVIL, words, tuple(run)) for words in read]
    for words, folder in ((SEARCHED, SEARCH), (COMPARED, MATRIX)):
        _made(words)
        files, again = _contents(folder), (*words, "--resume") if folder == SEARCH else words
        cases.append(Case(run_command, files | weights | EVIL, again, tuple(files)))
    return cases


def _file_cases() -> list[Case]:
    cases = []
    for name, content in _float_files().items():
        options = ("--weights", name, "--config", "flat8")
        for words in (("evaluate", *options), ("export", *options), ("diagnose", name)):
            cases.append(Case(run_command, {name: content}, words))
    config = resolve_config("flat8", load_benchmark("digits").network()[1])
    return [*cases, Case(run_command, {CONFIG: config.to_json().encode()}, ("summary", "--config", CONFIG))]


def _option_cases() -> list[Case]:
    words = [FINETUNE, SEARCHED, COMPARED, ("diagnose", RUN), ("export", RUN, "--format", "c"), ("verify", RUN)]
    words += [("summary", "--benchmark", "digits", "--model", "ds_cnn", "--config", "flat8", "--alpha", "auto")]
    words += [("evaluate", "--weights", FLOAT, "--config", "flat8", "--scale-rule", "max", "--seed", "1", "--json")]
    words += [("search", "--role", "worker", "--oracle", "127.0.0.1:1", "--output-dir", SEARCH, "--max-kib", "9")]
    words += [("evaluate", "--benchmark", "image_classification", "--data-dir", "nowhere", "--weights", FLOAT)]
    return [Case(run_until_training, dict(EVIL), line) for line in words]


CLASSES = (
    InputClass("run_folder", lambda: _kept(_run_cases, RUN), COMMAND_SECONDS, batch=60, warm_ups=1),
    InputClass("command_files", lambda: _kept(_file_cases, "files"), COMMAND_SECONDS, batch=100, warm_ups=1),
    InputClass("options", _option_cases, COMMAND_SECONDS, words_change=True, batch=400, warm_ups=1),
)
