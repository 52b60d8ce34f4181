"""``po2quant matrix``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from po2quant.benchmark import Benchmark
from po2quant.cli.options import (
    DATA,
    TRAINING,
    WHICH,
    Task,
    run_options,
    with_task,
)
from po2quant.cli.output import Facts, say
from po2quant.cli.session import (
    INTERRUPTED,
    RUNS,
    check,
    conclude,
    experiment_of,
    open_run_folder,
    settle,
    whole_numbers,
)
from po2quant.files import read_csv
from po2quant.quiet import import_tensorflow_quietly
from po2quant.report.results import check_results
from po2quant.runs.folder import check_usable
from po2quant.runs.names import RESULTS_CSV
from po2quant.runs.request import MatrixRequest

if TYPE_CHECKING:
    from po2quant.network import FoldedNetwork


@with_task(
    run_options("weights", "epochs", "reconstruct", "preset", "calibration", "target"),
    WHICH,
    DATA,
    TRAINING,
    request=MatrixRequest,
)
def matrix(
    task: Task,
    configs: Annotated[
        str | None,
        typer.Option(
            "--configs",
            help="Configurations, separated by commas; by default mpq, of a benchmark, and flat16,flat8,flat4.",
        ),
    ] = None,
    alphas: Annotated[
        str, typer.Option("--alphas", help="Kinds of scales, separated by commas: auto, auto_po2, learned_po2.")
    ] = "auto,auto_po2",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")] = "0",
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder of the run folders; what is done in it is not done again.")
    ] = RUNS / "matrix",
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            help="CSV that the rows are merged into, with a Markdown table beside it; by default results.csv in "
            "--output-dir.",
        ),
    ] = None,
) -> Facts:
    """Score a network under all configurations and scales, before and after fine-tuning, in one table."""
    configs = configs or ("flat16,flat8,flat4" if "network" in task else "mpq,flat16,flat8,flat4")
    requests = [
        MatrixRequest(**task, configs=tuple(configs.split(",")), alphas=tuple(alphas.split(",")), seed=seed)
        for seed in whole_numbers(seeds, "--seeds")
    ]
    results = results or output_dir / RESULTS_CSV
    check_results(results)
    runs = []
    for request in requests:
        benchmark, request = check(request)
        folder = output_dir / f"{benchmark.name}-{request.model}-seed{request.seed}"
        check_usable(folder, request, resume=True)
        runs.append((benchmark, request, folder))
    import_tensorflow_quietly()
    settled_runs = [(*settle(benchmark, request), folder) for benchmark, request, folder in runs]
    benchmark, request, _ = settled_runs[0]
    network = benchmark.network(request.model)[1].fold()
    for run in settled_runs:
        _run(*run, network, results)
    say(f"table: {results}, {results.with_suffix('.md')}")
    return {"results": str(results), "rows": read_csv(results)}


def _run(benchmark: Benchmark, request: MatrixRequest, folder: Path, network: FoldedNetwork, results: Path) -> None:
    """Make the cells of one seed that its run folder does not have."""
    from po2quant.matrix import run_matrix
    from po2quant.training.interrupt import insistent_interrupt

    experiment = experiment_of(benchmark, request, network, resume=True)
    with open_run_folder(request, experiment, folder) as run:
        try:
            with insistent_interrupt():
                run_matrix(experiment, request, run.path, results, say)
            conclude(run.path, experiment)
        except KeyboardInterrupt:
            say("stopped; the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
