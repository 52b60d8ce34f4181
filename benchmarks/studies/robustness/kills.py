"""Runs that are killed at random moments and go on: what they lose, and how they differ from undisturbed ones."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.studies.robustness.comparison import Round, Row, compared, tables
from po2quant.files import read_csv, write_csv

WEIGHTS, MODULE = "float.weights.h5", "tiny.py"
TASK = '''"""A task of seconds, so that a run is killed in its own work."""

import keras
import numpy as np

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Recipe, Split, accuracy_score, validation_accuracy
from po2quant.network import Placement
from po2quant.training.schedules import constant


def build():
    layers = [keras.layers.Dense(6), keras.layers.ReLU(), keras.layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((4,)), *layers])


def load(data_dir, seed):
    x = np.random.default_rng(seed).normal(size=(90, 4)).astype("float32")
    parts = [Split(x[start : start + 30], np.argmax(x[start : start + 30, :3], axis=1)) for start in (0, 30, 60)]
    return Dataset("tiny", "official", *parts)


RECIPE = Recipe("sparse_categorical_crossentropy", 2, 2, 10, constant(0.01), metrics=("accuracy",))
TASK = Benchmark("tiny", {"net": NetworkSpec(build, Placement())}, load, RECIPE, accuracy_score, validation_accuracy)
'''
_COMMON = ("--benchmark", "tiny:TASK", "--weights", WEIGHTS, "--output-dir", "run", "--epochs")
_SEARCH = ("search", *_COMMON, "3", "--max-trials", "4", "--retrain-epochs", "1", "--resume")
_SEARCH += ("--kernel-bits", "4,8", "--bias-bits", "16", "--activation-bits", "4,8")
_MATRIX = ("matrix", *_COMMON, "3", "--configs", "flat8,flat4", "--alphas", "auto_po2", "--results", "run/RESULTS.csv")
_KEYWORDS = ("search", "--benchmark", "keyword_spotting", "--data", "synthetic", "--float-epochs", "1")
_KEYWORDS += ("--preset", "small", "--output-dir", "run", "--epochs", "1", "--max-trials", "12", "--resume")
COMMANDS: dict[str, tuple[str, ...]] = {
    "finetune": ("finetune", *_COMMON, "20", "--config", "flat4", "--resume"),
    "search": _SEARCH,
    "matrix": _MATRIX,
    "workers": (*_SEARCH, "--workers", "2"),
    "keyword_workers": (*_KEYWORDS, "--strategy", "random", "--workers", "4"),
    "disk_full": ("finetune", *_COMMON, "6", "--config", "flat4", "--resume"),
}
"""What is killed. Of ``keyword_workers`` the workers alone are, all through one search, whose choices do not depend on
results, so that all trials must be those of an undisturbed search; the last one is not killed but meets a full disk."""

SIGNALS = (signal.SIGKILL,) * 3 + (signal.SIGTERM, signal.SIGINT)
KILLS_A_ROUND = 5
WORKER_LIFE = 0.25
"""Longest time between two deaths of workers, of what the undisturbed search takes."""
END_SECONDS, PATIENCE_SECONDS = 60.0, 1800.0
"""How long a process may take to end after Ctrl-C, and to be done."""

PRELOADED = ("tensorflow", "keras", "po2quant.cli", "po2quant.search.distributed", "po2quant.report.plots")
PRELOADED += ("po2quant.training.finetune", "po2quant.matrix", "po2quant.report.results", "po2quant.report.tables")


class Runs:
    """Runs of a command in a folder, from processes that have TensorFlow imported already."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seconds: dict[str, float] = {}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))

    def start(self, words: tuple[str, ...], folder: Path) -> BaseProcess:
        """Start a command in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in (self._made(), self._folder / MODULE):
            shutil.copy(file, folder)
        process = self._context.Process(target=_run, args=(words, str(folder), str(output_of(folder))))
        process.start()
        return process

    def finish(self, words: tuple[str, ...], folder: Path) -> int | None:
        """Run a command to its end, and return its exit code; None where it has none."""
        process = self.start(words, folder)
        process.join(PATIENCE_SECONDS)
        if process.exitcode is None:
            kill_all(process.pid)
        return process.exitcode

    def reference(self, name: str) -> tuple[Path, float]:
        """Return the folder of an undisturbed run of a command, and the seconds that it took."""
        folder = self._folder / name / "undisturbed"
        done = folder / "seconds.json"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            self._made()  # and with it the process that all others come from
            start = time.monotonic()
            if code := self.finish(COMMANDS[name], folder):
                raise RuntimeError(f"{name} ends with exit code {code} undisturbed, see {output_of(folder)}")
            done.write_text(json.dumps(time.monotonic() - start))
        return folder / "run", self.seconds.setdefault(name, float(json.loads(done.read_text())))

    def _made(self) -> Path:
        """Return the file of float weights, which is made of the task beside it."""
        file = self._folder / WEIGHTS
        if not file.exists():
            (self._folder / MODULE).write_text(TASK)
            process = self._context.Process(target=_save_weights, args=(str(self._folder), str(file)))
            process.start()
            process.join()
        return file


def _save_weights(folder: str, file: str) -> None:
    import keras

    from po2quant.benchmark import load_benchmark

    sys.path.insert(0, folder)
    keras.utils.set_random_seed(0)
    load_benchmark("tiny:TASK").network()[1].new_network().save_weights(file)


def output_of(folder: Path) -> Path:
    """Return the file beside a folder that gets what commands in it write, as a terminal would."""
    return folder.with_name(f"{folder.name}.txt")


def _run(words: tuple[str, ...], folder: str, written: str) -> None:
    """Be a process that a user started in a folder."""
    os.setsid()
    os.chdir(folder)
    output = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["po2quant", *words]
    from po2quant.cli import main

    main()


def kill_all(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process and to all that it has started."""
    for child in children(pid):
        kill_all(child, number)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def disturb(runs: Runs, name: str, seed: int, number: int, folder: Path, commit: str) -> Round:
    """Kill a command at random moments, let it go on until it is done, and compare."""
    reference, usual = runs.reference(name)
    rng, result, start = random.Random(f"{seed}/{name}/{number}"), Round(name, number, seed, commit), time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    seen: list[Mapping[str, list[Row]]] = []
    while result.kills < KILLS_A_ROUND:
        process = runs.start(COMMANDS[name], folder)
        process.join(rng.uniform(0.0, usual))
        if process.exitcode is not None and not result.kills:
            runs.seconds[name] = min(usual, time.monotonic() - start)
        if process.exitcode is not None:
            result.found += _complaint(process.exitcode)
            break
        _end(process, rng.choice(SIGNALS), rng)
        result.kills += 1
        seen.append(tables(folder / "run"))
    else:
        result.found += _complaint(runs.finish(COMMANDS[name], folder))
    return compared(result, folder, reference, seen, start)


def _end(process: BaseProcess, number: int, rng: random.Random) -> None:
    """Send a signal to a process, or to one of its workers and then to it."""
    workers = children(process.pid)
    if workers and rng.random() < 0.5:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
        process.join(rng.uniform(0.0, 10.0))
        workers += children(process.pid)  # those that it has started again
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
    process.join(END_SECONDS)
    kill_all(process.pid)
    process.join()
    for worker in workers:
        kill_all(worker)


def disturb_workers(runs: Runs, name: str, seed: int, number: int, folder: Path, commit: str) -> Round:
    """Kill workers of a search at random moments until it is done, and compare."""
    reference, usual = runs.reference(name)
    rng, result, start = random.Random(f"{seed}/{name}/{number}"), Round(name, number, seed, commit), time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    seen: list[Mapping[str, list[Row]]] = []
    process = runs.start(COMMANDS[name], folder)
    while process.exitcode is None:
        process.join(rng.uniform(0.0, usual * WORKER_LIFE))
        workers = children(process.pid) if process.exitcode is None else []
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
            result.kills += 1
            seen.append(tables(folder / "run"))
    result.found += _complaint(process.exitcode)
    return compared(result, folder, reference, seen, start)


def fill_disk(runs: Runs, name: str, seed: int, number: int, folder: Path, commit: str) -> Round:
    """Run a command where the disk is full soon, then where it is not, and compare.

    Raises:
        OSError: where no small disk can be made, which needs root.
    """
    reference, _ = runs.reference(name)
    rng, result, start = random.Random(f"{seed}/{name}/{number}"), Round(name, number, seed, commit), time.monotonic()
    need = sum(path.stat().st_size for path in reference.rglob("*") if path.is_file())
    before = sum(path.stat().st_size for path in reference.parent.iterdir() if path.is_file())
    with small_disk(folder, before + int(need * rng.uniform(0.05, 0.9))):
        code = runs.finish(COMMANDS[name], folder)
        said = output_of(folder).read_text(errors="replace").splitlines() if code else []
        result.kills += 1
        is_named = bool(said) and said[-1].startswith("error: ") and "No space left" in said[-1] and "run" in said[-1]
        if code != 0 and not is_named:
            result.found += f"exit code {code}, {said[-1:]}; "
        seen = [tables(folder / "run")]
        subprocess.run(["mount", "-o", "remount,size=256m", str(folder)], check=True)
        result.found += _complaint(runs.finish(COMMANDS[name], folder))
        return compared(result, folder, reference, seen, start)


def can_mount(work: Path, tell: Callable[[str], None]) -> bool:
    """Return whether a small disk can be made, and say why not where that is so."""
    try:
        with small_disk(work / "disk", 2**16):
            return True
    except OSError as error:
        tell(f"disk_full is left out: {error}")
        return False


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """Make a folder a disk of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={max(size_bytes // 1024, 4)}k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        raise OSError(f"{folder} cannot be a small disk: mount needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _complaint(code: int | None) -> str:
    return "" if code == 0 else f"exit code {code} where it should be done; "


ACTS = {"disk_full": fill_disk, "keyword_workers": disturb_workers}
"""What is done to commands that are not killed and resumed."""


def run_kills(
    names: list[str], kills: int, seed: int, work: Path, commit: str, tell: Callable[[Round], None]
) -> list[dict[str, Any]]:
    """Disturb commands until each was killed often enough; rounds that an earlier call has done are not repeated.

    Returns:
        One row of the results a command.
    """
    file, runs = work / "rounds.csv", Runs(work.absolute())
    work.mkdir(parents=True, exist_ok=True)
    rounds = [Round(**_typed(row)) for row in read_csv(file, missing_ok=True)]
    rounds = [known for known in rounds if known.seed == seed]
    names = [name for name in names if name != "disk_full" or can_mount(work, tell)]
    while missing := [name for name in names if _count(rounds, name) < kills]:
        name = min(missing, key=lambda name: _count(rounds, name))
        number = sum(known.command == name for known in rounds)
        act = ACTS.get(name, disturb)
        folder = work.absolute() / name / f"round{number}"
        rounds.append(act(runs, name, seed, number, folder, commit))
        write_csv(file, [dataclasses.asdict(known) for known in rounds])
        tell(rounds[-1])
        if not rounds[-1].found:
            shutil.rmtree(folder, ignore_errors=True)
    return [_summary([known for known in rounds if known.command == name], name) for name in names]


def _count(rounds: list[Round], name: str) -> int:
    return sum(known.kills for known in rounds if known.command == name)


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    kinds = {field.name: field.type for field in dataclasses.fields(Round)}
    read = {"int": int, "float": float, "str": str}
    return {name: read[str(kinds[name])](value) for name, value in row.items()}


def _summary(rounds: list[Round], name: str) -> dict[str, Any]:
    totals = {
        key: sum(getattr(known, key) for known in rounds) for key in ("kills", "lost_rows", "differing", "seconds")
    }
    commits = " ".join(dict.fromkeys(known.commit for known in rounds))
    return {"class": f"kill {name}", **totals, "seconds": round(totals["seconds"], 1), "commit": commits}
