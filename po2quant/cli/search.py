"""``po2quant search``."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from po2quant.bit_config import FLOAT, MPQ, POWERS_OF_TWO
from po2quant.cli.callbacks import CallbackOption, check_callback, made_callbacks
from po2quant.cli.deploy import write_found
from po2quant.cli.options import (
    DATA,
    TRAINING,
    WHICH,
    OutputOption,
    ResumeOption,
    Task,
    run_options,
    with_task,
)
from po2quant.cli.output import Facts, print_table, say
from po2quant.cli.session import (
    begin,
    conclude,
    experiment_of,
    open_run_folder,
    print_results,
    resumable,
    say_paths,
    say_standard_error,
    stopped,
    whole_numbers,
    write_results,
)
from po2quant.runs.costs import COST_KINDS
from po2quant.runs.names import BEST_CONFIG, COMPARISON_FOLDER, FLOAT_FOLDER, PLOTS_FOLDER, REQUEST_FILE
from po2quant.runs.request import BAYESIAN, STRATEGY_NAMES, SearchRequest, check_trusted, read_request
from po2quant.runs.roles import CHIEF, ROLES, THIS_MACHINE, WORKER, parse_address
from po2quant.targets import target_of

if TYPE_CHECKING:
    from po2quant.network import FoldedNetwork
    from po2quant.search import SearchResult, SearchSettings
    from po2quant.training.finetune import Experiment, Result

COMPARED_FLATS = ("flat16", "flat8", "flat4")


SEARCHED = {
    "max_trials": Annotated[int, typer.Option("--max-trials", min=1, help="Trials in all.")],
    "epochs": Annotated[int, typer.Option("--epochs", min=1, help="Epochs of a trial.")],
    "retrain_epochs": Annotated[
        int,
        typer.Option("--retrain-epochs", min=0, help="Epochs that the closing table retrains each configuration for."),
    ],
    "strategy": Annotated[str, typer.Option("--strategy", help=f"How trials are chosen: {', '.join(STRATEGY_NAMES)}.")],
    "max_kib": Annotated[
        float | None,
        typer.Option(
            "--max-kib",
            help="Largest size of weights and activations together. The metric alone then decides, not the metric "
            "times the forgiving factor.",
        ),
    ],
    "goal": Annotated[
        str | None,
        typer.Option("--goal", help=f"What the metric is traded for: {', '.join(COST_KINDS)}, see docs/costs.md."),
    ],
    "max_flash_kib": Annotated[
        str | None,
        typer.Option(
            "--max-flash-kib",
            help="Most constants of the C; with its code on a core: 64@m4. Several limits hold at once.",
        ),
    ],
    "max_ram_kib": Annotated[float | None, typer.Option("--max-ram-kib", help="Largest arena of the C.")],
    "max_ms": Annotated[
        str | None, typer.Option("--max-ms", help="Longest inference, one instruction a cycle, e.g. 50@m4:120MHz.")
    ],
    "packed": Annotated[bool, typer.Option("--packed", help="Costs are of C with packed weights.")],
    "repeats": Annotated[
        int,
        typer.Option("--repeats", min=0, help="Trainings that then choose among the five best trials, 0 for none."),
    ],
    "input_bits": Annotated[
        int, typer.Option("--input-bits", help="Width of the network's inputs, which the sensor gives.")
    ],
}
"""Options of a search, by name of a field of its request, whose default they have."""


@with_task(
    SEARCHED,
    run_options("weights", "alpha", "preset", "calibration", "target", "reconstruct", "seed"),
    WHICH,
    DATA,
    TRAINING,
    request=SearchRequest,
)
def search(
    context: typer.Context,
    task: Task,
    output_dir: OutputOption = None,
    uninformed: Annotated[bool, typer.Option("--uninformed", help=f"The same as --strategy {BAYESIAN}.")] = False,
    kernel_bits: Annotated[
        str, typer.Option("--kernel-bits", help="Widths to choose from, separated by commas, ascending.")
    ] = "4,8,16",
    bias_bits: Annotated[str, typer.Option("--bias-bits", help="The same for biases.")] = "16,31",
    activation_bits: Annotated[str, typer.Option("--activation-bits", help="The same for activations.")] = "4,8,16",
    callback: CallbackOption = None,
    resume: ResumeOption = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Run the trials in so many processes on this machine.")
    ] = None,
    role: Annotated[
        str | None,
        typer.Option("--role", help="chief: hand out trials at --oracle. worker: run those of the chief there."),
    ] = None,
    oracle: Annotated[
        str | None,
        typer.Option("--oracle", help="host:port where the chief listens to who can read the token in its run folder."),
    ] = None,
) -> Facts | None:
    """Search a bit width for every kernel, bias and activation, and compare the best with flat widths."""
    check_roles(workers, role, oracle, output_dir)
    check_callback(callback)
    words = {"kernel_bits": kernel_bits, "bias_bits": bias_bits, "activation_bits": activation_bits}
    widths = {name: whole_numbers(text, f"--{name.replace('_', '-')}") for name, text in words.items()}
    request = SearchRequest(**task | widths | ({"strategy": BAYESIAN} if uninformed else {}))
    if role == WORKER:
        _work(_request_of_chief(request, output_dir, context), output_dir, oracle, callback)
        return None
    benchmark, request = begin(request, output_dir, resume)
    network = benchmark.network(request.model)[1].fold()
    settings = _settings(request, network, callback)
    settings.check_size(network.layers, network)
    experiment = experiment_of(benchmark, request, network, resume)
    made_callbacks(callback)  # raises now rather than after hours
    with open_run_folder(request, experiment, output_dir) as run:
        with resumable(run.path):
            experiment = experiment.with_float_weights(run.path / FLOAT_FOLDER)
            found = _find(request, experiment, run.path, settings, (workers, oracle, callback))
        rows = _conclude(request, experiment, run.path, found)
    best = found.log.best()
    return {
        "run_folder": str(run.path),
        "best_config": str(run.path / BEST_CONFIG),
        "best_trial": None if best is None else dataclasses.asdict(best),
        "results": [row.to_dict() for row in rows],
    }


def check_roles(workers: int | None, role: str | None, oracle: str | None, output_dir: Path | None) -> None:
    """Raise ValueError for options of ``po2quant search`` that do not go together."""
    if workers is not None and workers < 1:
        raise ValueError(f"--workers must be at least 1. Received: {workers}")
    if workers is not None and (role or oracle):
        raise ValueError("--workers runs a chief and its workers here: it must stand without --role and --oracle")
    if role is not None and role not in ROLES:
        raise ValueError(f"--role must be one of {', '.join(ROLES)}. Received: {role!r}")
    if (role is None) != (oracle is None):
        raise ValueError("--role chief or worker and --oracle host:port, where the chief listens, must stand together")
    if oracle is not None:
        parse_address(oracle)
        if role == CHIEF:
            _check_can_listen(oracle)
    if role == WORKER and output_dir is None:
        raise ValueError("--role worker needs --output-dir: the chief's run folder, on a file system that both share")


def _check_can_listen(address: str) -> None:
    """Raise ValueError where nothing can listen at an address, before hours are spent on a float network."""
    host, port = parse_address(address)
    try:
        family, *_, place = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        socket.create_server(place, family=family).close()
    except OSError as error:
        raise ValueError(
            f"--oracle of a chief must be a free port of this machine. Received: {address} ({error})"
        ) from None


def _request_of_chief(request: SearchRequest, folder: Path, context: typer.Context) -> SearchRequest:
    """Return what the chief in a folder was asked for, with the options that the worker's command line gives."""
    if not (folder / REQUEST_FILE).is_file():
        return request
    asked = read_request(folder)
    if not isinstance(asked, SearchRequest):
        raise ValueError(f"--output-dir must be the run folder of a search. Received: {folder}, of {asked.kind}")
    sources = {field.name: context.get_parameter_source(field.name) for field in dataclasses.fields(request)}
    given = {name: getattr(request, name) for name, source in sources.items() if source and source.name != "DEFAULT"}
    asked = asked.changed(**given)
    check_trusted(asked, given.get("benchmark"), folder)
    return asked


def _work(request: SearchRequest, folder: Path, oracle: str, callback: str | None) -> None:
    """Run the trials that a chief hands out."""
    benchmark, request = begin(request)
    from po2quant.search.worker import run_worker

    experiment = experiment_of(benchmark, request)
    run_worker(experiment, folder, _settings(request, experiment.network, callback), oracle)


def _settings(request: SearchRequest, network: FoldedNetwork, callback: str | None) -> SearchSettings:
    from po2quant.deploy.template import width_template
    from po2quant.search import SearchSettings

    return SearchSettings.of_request(request, network, width_template, functools.partial(made_callbacks, callback))


def _find(
    request: SearchRequest,
    experiment: Experiment,
    folder: Path,
    settings: SearchSettings,
    places: tuple[int | None, str | None, str | None],
) -> SearchResult:
    """Search in this process, or as a chief of workers.

    Args:
        request: what was asked for.
        experiment: network, data and float weights.
        folder: run folder.
        settings: of the search.
        places: number of workers here, where the chief listens, and the callback that workers here are told.
    """
    workers, oracle, callback = places
    if workers is None and oracle is None:
        from po2quant.search import run_search

        return run_search(experiment, folder, settings)
    from po2quant.search.distributed import run_distributed_search

    words = request.worker_words(folder) + (["--callback", callback] if callback else [])
    if oracle:
        say(f"a worker joins with: {shlex.join([*words, '--oracle', oracle])}")
    command = [sys.executable, "-c", "from po2quant.cli import main; main()", *words[1:]]
    return run_distributed_search(experiment, folder, settings, oracle or THIS_MACHINE, workers or 0, command)


def _conclude(request: SearchRequest, experiment: Experiment, folder: Path, found: SearchResult) -> list[Result]:
    """Save the best configuration, compare it with others and say what comes next; return the comparison."""
    from po2quant.report.plots import plot_comparison, plot_search
    from po2quant.report.tables import choice_table

    if found.interrupted and found.log.best() is None:
        raise stopped(folder)
    if found.choice:
        print_table(choice_table(found.choice))
    data = experiment.dataset.describe()
    best = found.best_config(f"{experiment.benchmark.name}-{request.model}")
    best.save(folder / BEST_CONFIG)
    subject = f"{experiment.benchmark.name} {request.model}, {request.alpha}"
    metric = experiment.recipe.metrics[0] if experiment.recipe.metrics else "metric"
    pictures = plot_search(found.log.rows, best, folder / PLOTS_FOLDER, data, subject, metric)
    if found.interrupted:
        say(f"the best of {len(found.log.rows)} trials is in {folder / BEST_CONFIG}")
        raise stopped(folder)
    rows = _compare(request, experiment, folder)
    subject = f"{experiment.benchmark.name} {request.model}, {request.alpha}"
    pictures.append(plot_comparison(rows, folder / PLOTS_FOLDER / "comparison.png", data, subject))
    say_standard_error(rows)
    say_paths(folder, pictures, _report(experiment, folder))
    if request.alpha in POWERS_OF_TWO:
        write_found(experiment, folder)
    say(f"next: {request.cell(weights=experiment.weights, config=str(folder / BEST_CONFIG)).command()}")
    return rows


def _report(experiment: Experiment, folder: Path) -> Path:
    """Write the report of a search, with what its best configuration was like after it was trained again."""
    from po2quant.report.record import record_saved_network
    from po2quant.training.prepare import calibration_inputs

    inputs, _ = calibration_inputs(experiment.dataset, experiment.network.model, experiment.seed)
    record_saved_network(folder / COMPARISON_FOLDER / MPQ, inputs)
    return conclude(folder, experiment)


def _compare(request: SearchRequest, experiment: Experiment, folder: Path) -> list[Result]:
    """Score what was found beside float, known and flat configurations."""
    from po2quant.training.finetune import compare
    from po2quant.training.prepare import resolve_config

    known = experiment.spec.mpq_config
    cells = {FLOAT: FLOAT, MPQ: str(folder / BEST_CONFIG)}
    cells |= ({} if known is None else {known.stem: MPQ}) | {flat: flat for flat in COMPARED_FLATS}
    target = target_of(request.target)
    for name, config in cells.items():
        cell = request.cell(weights=experiment.weights, config=config, config_name=name, epochs=request.retrain_epochs)
        cell.save(folder / COMPARISON_FOLDER / name)
    configs = [(name, resolve_config(config, experiment.spec, experiment.network)) for name, config in cells.items()]
    configs = [(name, config) for name, config in configs if config is None or target.has_widths(config.layers)]
    with resumable(folder):
        rows = compare(experiment, configs, folder / COMPARISON_FOLDER, request.retrain_epochs)
    write_results(folder, rows, experiment, request)
    print_results(rows, experiment)
    return rows
