"""What the commands do alike: find a benchmark, load its data, keep a run folder, talk to the user."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

MAX_SEED = 2**31 - 1
INTERRUPTED = 130


def data_words(data: str | None, data_dir: Path | None, preset: str) -> list[Any]:
    """Return the options that choose data and recipe as they stand on a command line."""
    words = ["--preset", preset] if preset != "published" else []
    words += ["--data", data] if data else []
    return words + (["--data-dir", data_dir] if data_dir else [])


def load_dataset(task: Any, data: str | None, data_dir: Path | None, seed: int) -> Any:
    """Load, download or generate the data of a benchmark."""
    check_seed(seed)
    if data is None:
        return task.load_data(data_dir, seed)
    sources = {"official": task.download, "synthetic": task.synthesize}
    offered = [name for name, source in sources.items() if source]
    if data not in offered:
        raise ValueError(f"--data of {task.name} must be one of {', '.join(offered) or 'none'}. Received: {data!r}")
    if data == "synthetic":
        return task.synthesize(seed)
    data_dir = data_dir or Path("data") / task.name
    task.download(data_dir)
    return task.load_data(data_dir, seed)


def find_benchmark(benchmark: str) -> Any:
    """Return a benchmark by name, or by ``package.module:attribute`` from the current folder."""
    from po2quant.benchmark import load_benchmark

    if ":" in benchmark:
        sys.path.insert(0, os.getcwd())
    return load_benchmark(benchmark)


def open_run_folder(command: str, experiment: Any, path: Path | None, **options: Any) -> Any:
    """Make or reopen the run folder of an experiment; ``options`` are what else the command was asked for."""
    from po2quant.runs.folder import RunFolder
    from po2quant.runs.request import REQUESTS

    task, model, dataset = experiment.benchmark, experiment.model, experiment.dataset
    if experiment.resume and path is None:
        raise ValueError("--resume needs --output-dir: the folder of the run to go on with")
    path = path or Path("runs") / f"{command}-{task.name}-{model}-{datetime.now():%Y%m%d-%H%M%S}"
    arguments = {
        "benchmark": task.loaded_as or task.name,
        "model": model,
        "alpha": experiment.alpha,
    }
    arguments |= {"weights": experiment.weights, "seed": experiment.seed, "preset": experiment.preset, **options}
    run = RunFolder(path, REQUESTS[command](**arguments), experiment.resume)
    run.write_environment(
        command_line=sys.argv,
        seed=experiment.seed,
        data=dataset.describe(),
        data_kind=dataset.kind,
        data_fingerprint=dataset.fingerprint(),
    )
    return run


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Turn Ctrl-C into a sentence that says how to go on."""
    from po2quant.training.interrupt import insistent_interrupt

    try:
        with insistent_interrupt():
            yield
    except KeyboardInterrupt:
        raise stopped(folder) from None


def stopped(folder: Path) -> typer.Exit:
    """Say how an interrupted run goes on, and return what to raise."""
    say(f"stopped; the same command with --resume --output-dir {folder} goes on")
    return typer.Exit(INTERRUPTED)


def write_results(folder: Path, rows: list[Any], experiment: Any) -> None:
    """Write ``results.csv`` with the command that was called."""
    from po2quant.files import write_csv
    from po2quant.report.results import result_records

    command = shlex.join(["po2quant", *sys.argv[1:]])
    write_csv(folder / "results.csv", result_records(rows, experiment, command))


def whole_numbers(text: str, option: str) -> list[int]:
    """Return the numbers of an option that takes several, separated by commas."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be whole numbers separated by commas. Received: {text!r}") from None


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that numpy or TensorFlow does not take."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"a seed must lie in [0, {MAX_SEED}]. Received: {seed}")


def warn_reconstructed(widths: Any) -> None:
    """Say so where some widths of a configuration are not the published ones."""
    if widths is not None and widths.provenance.get("partly_reconstructed"):
        say(f"note: {widths.provenance.get('note', 'some widths are not the published ones')}")


def say(text: str) -> None:
    """Show a line."""
    typer.echo(text)


def print_table(table: Any) -> None:
    """Show a table, at least as wide as it needs where no terminal limits it."""
    from rich.console import Console

    console = Console()
    Console(width=console.width if console.is_terminal else 160).print(table)


def say_paths(folder: Path, pictures: list[Path]) -> None:
    """Say where the pictures and the run are."""
    for picture in pictures:
        say(f"picture: {picture}")
    say(f"run folder: {folder}")


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without the notices that it writes before its log level counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        import tensorflow
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    tensorflow.get_logger().setLevel("ERROR")
