"""``po2quant search``."""

from __future__ import annotations

import math
import shlex
import sys
from typing import Annotated, Any

import typer

from po2quant.cli.options import (
    AlphaOption,
    BenchmarkOption,
    DataDirOption,
    DataOption,
    ModelOption,
    OutputOption,
    PresetOption,
    ResumeOption,
    SeedOption,
    WeightsOption,
)
from po2quant.cli.session import (
    data_words,
    find_benchmark,
    import_tensorflow_quietly,
    load_dataset,
    open_run_folder,
    print_table,
    resumable,
    say,
    say_paths,
    stopped,
    whole_numbers,
    write_results,
)
from po2quant.runs.names import BEST_CONFIG

COMPARED_FLATS = ("flat16", "flat8", "flat4")


def search(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    max_trials: Annotated[int, typer.Option("--max-trials", min=1, help="Trials in all.")] = 20,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of a trial.")] = 3,
    weights: WeightsOption = None,
    alpha: AlphaOption = "auto_po2",
    preset: PresetOption = "published",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    output_dir: OutputOption = None,
    retrain_epochs: Annotated[
        int,
        typer.Option("--retrain-epochs", min=0, help="Epochs that the closing table retrains each configuration for."),
    ] = 0,
    informed: Annotated[
        bool,
        typer.Option(
            "--informed/--uninformed", help="Measure what each width costs, and try the best allocations early."
        ),
    ] = True,
    kernel_bits: Annotated[
        str, typer.Option("--kernel-bits", help="Widths to choose from, separated by commas, ascending.")
    ] = "4,8,16",
    bias_bits: Annotated[str, typer.Option("--bias-bits", help="The same for biases.")] = "16,31",
    activation_bits: Annotated[str, typer.Option("--activation-bits", help="The same for activations.")] = "4,8,16",
    max_kib: Annotated[
        float | None,
        typer.Option(
            "--max-kib",
            help="Largest size of weights and activations together. The metric alone then decides, not the metric "
            "times the forgiving factor.",
        ),
    ] = None,
    seed: SeedOption = 0,
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
) -> None:
    """Search a bit width for every kernel, bias and activation, and compare the best with flat widths."""
    import_tensorflow_quietly()
    from po2quant.cost import BITS_PER_KIB
    from po2quant.report.plots import plot_comparison, plot_search
    from po2quant.report.tables import result_table
    from po2quant.search import SearchSettings, SearchSpace, run_search
    from po2quant.search.distributed import THIS_MACHINE, WORKER, check_options, run_distributed_search
    from po2quant.search.strategies import BAYESIAN, INFORMED
    from po2quant.search.worker import run_worker
    from po2quant.training import finetune as workflow
    from po2quant.training.prepare import resolve_config

    check_options(workers, role, oracle, output_dir)
    widths = {"--kernel-bits": kernel_bits, "--bias-bits": bias_bits, "--activation-bits": activation_bits}
    space = SearchSpace(*(tuple(whole_numbers(text, option)) for option, text in widths.items()))
    if max_kib is not None and not math.isfinite(max_kib * BITS_PER_KIB):
        raise ValueError(f"--max-kib must be a finite number. Received: {max_kib}")
    max_bits = None if max_kib is None else int(max_kib * BITS_PER_KIB)
    settings = SearchSettings(max_trials, epochs, INFORMED if informed else BAYESIAN, space, max_bits)
    task = find_benchmark(benchmark)
    name, spec = task.network(model)
    network = spec.fold()
    if role != WORKER:  # which runs what the chief has chosen
        settings.check_size(network.layers)
        workflow.require_float_weights(weights)
    dataset = load_dataset(task, data, data_dir, seed)
    workflow.require_training_data(dataset)
    experiment = workflow.Experiment(task, name, dataset, alpha, weights, seed, preset, resume, network)
    if role == WORKER:
        run_worker(experiment, output_dir, settings, oracle)
        return
    run = open_run_folder(
        "search",
        experiment,
        output_dir,
        max_trials=max_trials,
        epochs=epochs,
        retrain_epochs=retrain_epochs,
        informed=informed,
        kernel_bits=space.kernel,
        bias_bits=space.bias,
        activation_bits=space.activation,
        max_kib=max_kib,
        data=data,
        data_dir=data_dir,
    )
    with resumable(run.path):
        experiment = experiment.with_float_weights(run.path / "float")
        if workers or role:
            words = ["search", "--role", WORKER, "--benchmark", benchmark, *_options(experiment), "--epochs", epochs]
            words += ["--max-kib", max_kib] if max_kib is not None else []
            words += ["--seed", seed, "--output-dir", run.path, *data_words(data, data_dir, preset)]
            if role:
                say(f"a worker joins with: {shlex.join(map(str, [sys.argv[0], *words, '--oracle', oracle]))}")
            command = [sys.executable, "-c", "from po2quant.cli import main; main()", *words]
            address = oracle or THIS_MACHINE
            found = run_distributed_search(experiment, run.path, settings, address, workers or 0, command)
        else:
            found = run_search(experiment, run.path, settings)
    if found.interrupted and found.log.best() is None:
        raise stopped(run.path)
    best = found.best_config(f"{task.name}-{name}")
    best.save(run.path / BEST_CONFIG)
    pictures = plot_search(found.log.rows, best, run.path / "plots", dataset.describe())
    if found.interrupted:
        say(f"the best of {len(found.log.rows)} trials is in {run.path / BEST_CONFIG}")
        raise stopped(run.path)
    flats = [(flat, resolve_config(flat, spec, network)) for flat in COMPARED_FLATS]
    known = [] if spec.mpq_config is None else [(spec.mpq_config.stem, resolve_config("mpq", spec, network))]
    configs = [("float", None), ("mpq", best), *known, *flats]
    with resumable(run.path):
        rows = workflow.compare(experiment, configs, run.path / "comparison", retrain_epochs)
    write_results(run.path, rows, experiment)
    pictures.append(plot_comparison(rows, run.path / "plots" / "comparison.png", dataset.describe()))
    print_table(result_table(rows, f"{task.name} {name}: {rows[0].calibrated.metric} on {dataset.describe()}"))
    say_paths(run.path, pictures)
    words = [sys.argv[0], "finetune", "--benchmark", benchmark, *_options(experiment)]
    words += ["--config", run.path / BEST_CONFIG, *data_words(data, data_dir, preset), "--seed", seed]
    say(f"next: {shlex.join(map(str, words))}")


def _options(experiment: Any) -> list[Any]:
    return ["--model", experiment.model, "--weights", experiment.weights, "--alpha", experiment.alpha]
