"""What the commands do alike: check what they are asked for, load data, keep a run folder, talk to the user."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, load_benchmark
from po2quant.bit_config import FLOAT, BitConfig
from po2quant.cli.output import print_table, say
from po2quant.data.own import FORMS, holds_arrays, read_dataset
from po2quant.files import write_csv
from po2quant.own_task import settled, task_of_files
from po2quant.quiet import import_tensorflow_quietly
from po2quant.runs.folder import RunFolder, check_usable
from po2quant.runs.names import REPORT_FILE, RESULTS_CSV
from po2quant.runs.request import MatrixRequest, NetworkRequest, ReconstructRequest, RunRequest
from po2quant.runs.task import DEFAULT_BENCHMARK, OFFICIAL, SYNTHETIC
from po2quant.targets import target_of
from po2quant.uniform import uniform_widths
from po2quant.weight_files import is_quantized_checkpoint

if TYPE_CHECKING:
    from po2quant.network import FoldedNetwork
    from po2quant.training.finetune import Experiment, Result

INTERRUPTED = 130
TEST_INPUTS = "test inputs"
RUNS = Path("runs")
"""Where run folders are made by default."""

Request = TypeVar("Request", bound=RunRequest)
Network = TypeVar("Network", NetworkRequest, ReconstructRequest)


def begin(
    request: Request, output_dir: Path | None = None, resume: bool = False, needs_data: bool = True
) -> tuple[Benchmark, Request]:
    """Refuse what can be known to be wrong, which takes a moment, and then import TensorFlow, which takes many.

    Arguments and results are those of :func:`check`. What a network in a file and its data decide is said.
    """
    task, request = check(request, output_dir, resume, needs_data)
    import_tensorflow_quietly()
    return settle(task, request)


def begin_with_widths(
    request: Network, output_dir: Path | None = None, resume: bool = False, needs_data: bool = True
) -> tuple[Benchmark, Network, FoldedNetwork, BitConfig | None]:
    """Return what :func:`begin` returns, the network, and the widths that the request names, None for float."""
    task, request = begin(request, output_dir, resume, needs_data)
    from po2quant.training.prepare import resolve_config

    spec = task.network(request.model)[1]
    network = spec.fold()
    return task, request, network, resolve_config(request.config, spec, network)


def settle(task: Benchmark, request: Request) -> tuple[Benchmark, Request]:
    """Decide, for a network in a file, what a request leaves open, and say it; return the task and the request."""
    if request.network is None:
        return task, request
    found = settled(task, request)
    if found.reason:
        say(found.reason)
    return found.task.for_target(target_of(request.target)), found.request


def check(
    request: Request, output_dir: Path | None = None, resume: bool = False, needs_data: bool = True
) -> tuple[Benchmark, Request]:
    """Refuse what can be known without TensorFlow to be wrong with a request.

    Args:
        request: what the command is asked for.
        output_dir: run folder; None: a new one, or none at all.
        resume: whether a run in it goes on.
        needs_data: whether the command reads the data.

    Returns:
        the benchmark, and the request with the names of its model and the number of epochs.

    Raises:
        ValueError: for what does not exist or fit, in one sentence.
    """
    if resume and output_dir is None:
        raise ValueError("--resume needs --output-dir: the folder of the run to go on with")
    task = task_of(request)
    model, spec = task.network(request.model)
    known: dict[str, Any] = {"model": model}
    recipe = task.recipe_of(model, request.preset)
    if getattr(request, "epochs", recipe.epochs) is None:
        known["epochs"] = recipe.epochs
    _check_configs(request, spec)
    _check_weights(request)
    if needs_data:
        _check_data(task, request)
    request = dataclasses.replace(request, **known)
    if output_dir is not None:
        check_usable(output_dir, request, resume)
    return task, request


def task_of(request: RunRequest) -> Benchmark:
    """Return the task of a network in a file, or a benchmark, perhaps one of a module in the current folder."""
    target = target_of(request.target)
    if request.network is not None:
        return task_of_files(request.network, request, request.weights).for_target(target)
    benchmark = request.benchmark or DEFAULT_BENCHMARK
    if ":" in benchmark:
        sys.path.append(os.getcwd())  # after what is installed, which nothing there shall replace
    return load_benchmark(benchmark).with_float_epochs(request.float_epochs).for_target(target)


def _check_configs(request: RunRequest, spec: NetworkSpec) -> None:
    """Raise ValueError for bit widths that are neither a name nor a file of them."""
    configs = request.configs if isinstance(request, MatrixRequest) else [getattr(request, "config", FLOAT)]
    target = target_of(request.target)
    for config in configs:
        widths = uniform_widths(config)
        if widths is not None:
            for part, bits in (("kernel", widths.kernel), ("activation", widths.activation), ("activation", widths.io)):
                target.widths(part, (bits,))
        elif config != FLOAT:
            target.check_widths(BitConfig.load(spec.config_file(config)).layers)
    if isinstance(request, NetworkRequest) and request.activation_alpha is not None and request.config == FLOAT:
        raise ValueError(
            f"--activation-alpha needs a --config other than float. Received: {request.activation_alpha!r}"
        )


def _check_weights(request: RunRequest) -> None:
    """Raise ValueError for weights that cannot be read, or quantized ones where every configuration starts anew."""
    weights, goes_on = request.weights, isinstance(request, NetworkRequest) and not request.reconstruct
    if weights is not None and is_quantized_checkpoint(weights) and not goes_on:
        raise ValueError(f"--weights must be of a float network here. Received: {weights}, of a quantized one")


def _check_data(task: Benchmark, request: RunRequest) -> None:
    """Raise ValueError for a source that the benchmark has not, or data that are not where they should be."""
    sources = {OFFICIAL: task.download, SYNTHETIC: task.synthesize}
    offered = [name for name, source in sources.items() if source]
    if request.data is not None and request.data not in offered:
        valid = ", ".join(offered) or "none"
        raise ValueError(f"--data of {task.name} must be one of {valid}. Received: {request.data!r}")
    if request.data is None and request.data_dir is not None and not request.data_dir.exists():
        valid = f"{', '.join(offered)}, or " if offered else ""
        raise ValueError(f"--data must be {valid}a file or folder with the data. There is none: {request.data_dir}")
    if request.data is None and request.data_dir is None and task.needs_data_dir:
        if request.network is not None:
            raise ValueError(f"--network needs --data: {FORMS}. Received: None")
        others = "".join(f", or --data {name}" for name in offered)
        raise ValueError(f"{task.name} needs --data-dir with its data{others}. Received: None")


def load_dataset(task: Benchmark, request: RunRequest) -> Dataset:
    """Load, download or generate the data of a benchmark."""
    _check_data(task, request)
    if request.data == SYNTHETIC:
        return task.synthesize(request.seed)
    data_dir = request.data_dir
    if request.data == OFFICIAL:
        data_dir = data_dir or Path("data") / task.name
        task.download(data_dir)
    return _load(task, request, data_dir)


def calibrating(task: Benchmark, request: NetworkRequest, dataset: Dataset | None, path: Path | None) -> Dataset | None:
    """Return what calibrates a network: its data, or the training inputs at a path, or else the test inputs there.

    Args:
        task: loads data of its own kind.
        request: names the network and the seed.
        dataset: the data that are scored; None: none are loaded.
        path: data of the task, or a ``.npz`` file of inputs.
    """
    if path is None:
        return dataset
    found = _load(task, request, path)
    return dataclasses.replace(found, train=found.train or found.test)


def _load(task: Benchmark, request: RunRequest, path: Path | None) -> Dataset:
    """Load data of a benchmark's own kind, or arrays of what its network sees."""
    is_own = path is None or request.network is not None or path.name in task.npz_files
    if is_own or not holds_arrays(path):
        return task.load_data(path, request.seed)
    network = task.network(request.model)[1].new_network()
    return read_dataset(path, tuple(network.input_shape[1:]), request.seed)


def check_calibration_data(path: Path | None, request: RunRequest) -> None:
    """Raise ValueError where there are no such data, or they have nothing to calibrate."""
    if path is None:
        return
    if not path.exists():
        raise ValueError(f"--calibration-data must be a file or folder of data. There is none: {path}")
    if request.weights is not None and is_quantized_checkpoint(request.weights):
        raise ValueError(f"--calibration-data needs float weights. Received: {request.weights}, of a quantized network")


def experiment_of(
    task: Benchmark,
    request: RunRequest,
    network: FoldedNetwork | None = None,
    resume: bool = False,
    needs_labels: bool = True,
) -> Experiment:
    """Load the data, and return what all runs of a request share; without labels, a test split alone will do."""
    from po2quant.training.finetune import Experiment, require_training_data
    from po2quant.training.reconstruct import Reconstruction

    steps = getattr(request, "reconstruct", 0)
    dataset = load_dataset(task, request)
    if needs_labels:
        require_training_data(dataset)
    model, _ = task.network(request.model)
    return Experiment(
        task,
        model,
        dataset,
        request.alpha,
        request.weights,
        request.seed,
        request.preset,
        resume,
        network,
        calibration=request.calibration,
        reconstruction=Reconstruction(steps=steps) if steps else None,
    )


def open_run_folder(request: RunRequest, experiment: Experiment, path: Path | None) -> RunFolder:
    """Make or reopen the run folder of an experiment."""
    dataset, task = experiment.dataset, experiment.benchmark.name
    path = path or RUNS / f"{request.kind}-{task}-{request.model}-{datetime.now():%Y%m%d-%H%M%S}"
    run = RunFolder(path, request, experiment.resume)
    run.write_environment(
        command_line=sys.argv,
        seed=request.seed,
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


def write_results(folder: Path, rows: list[Result], experiment: Experiment, request: RunRequest) -> None:
    """Write ``results.csv`` with the command that makes such a run."""
    from po2quant.report.results import result_records

    write_csv(folder / RESULTS_CSV, result_records(rows, experiment, request.command()))


def print_results(rows: list[Result], experiment: Experiment) -> None:
    """Show the table of a run's results."""
    from po2quant.report.tables import result_table

    title = f"{experiment.benchmark.name} {experiment.model}: {rows[0].calibrated.metric}"
    print_table(result_table(rows, f"{title} on {experiment.dataset.describe()}"))


def say_standard_error(rows: list[Result]) -> None:
    """Say how far two shares of right answers must lie apart to mean something."""
    score = rows[0].calibrated
    if score.confusion:
        right = max((row.finetuned or row.calibrated).value for row in rows)
        error = math.sqrt(max(right * (1 - right), 0.0) / score.samples)
        say(f"{score.metric} on {score.samples} samples has a standard error of {error:.4f}")


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """Return the numbers of an option that takes several, separated by commas."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be whole numbers separated by commas. Received: {text!r}") from None


def warn_reconstructed(widths: Any) -> None:
    """Say so where some widths of a configuration are not the published ones."""
    if widths is not None and widths.provenance.get("partly_reconstructed"):
        say(f"note: {widths.provenance.get('note', 'some widths are not the published ones')}")


def say_calibration(source: str, path: Path | None) -> None:
    """Say where activation ranges come from, where they are not from the training inputs.

    Args:
        source: of :class:`~po2quant.training.prepare.Prepared`.
        path: data that were named for it.
    """
    if path is not None:
        say(f"activation ranges were calibrated on {path}")
    elif source == TEST_INPUTS:
        say("activation ranges were calibrated on the test inputs, without labels: the data have no training split")


def conclude(folder: Path, experiment: Experiment) -> Path:
    """Write the report of a finished run, and return its path."""
    from po2quant.report.document import write_report
    from po2quant.report.record import save_layers

    save_layers(folder, experiment.network.layers)
    return write_report([folder], folder / REPORT_FILE)


def say_paths(folder: Path, pictures: list[Path], report: Path) -> None:
    """Say where the pictures, the report and the run are."""
    for picture in pictures:
        say(f"picture: {picture}")
    say(f"report: {report}")
    say(f"run folder: {folder}")
