"""The command line: ``po2quant summary | evaluate | search | finetune | matrix``."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import typer

app = typer.Typer(
    help="Mixed-precision, power-of-two quantization of Keras networks for edge devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
COMPARED_FLATS = ("flat16", "flat8", "flat4")

BenchmarkOption = Annotated[
    str,
    typer.Option(
        "--benchmark",
        help="digits, anomaly_detection, keyword_spotting, image_classification, visual_wake_words, "
        "or your own as package.module:attribute.",
    ),
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Network of the benchmark; its first by default.")]
ConfigOption = Annotated[
    str, typer.Option("--config", help="Bit widths: float, mpq, flat4 to flat16, or a configuration file.")
]
AlphaOption = Annotated[str, typer.Option("--alpha", help="Scales: auto (real numbers) or auto_po2 (powers of two).")]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Float weights (.weights.h5, .keras, Keras 2 .h5), or a fine-tuned run folder or file. "
        "Without it, the float network is trained first.",
    ),
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder, zip or npz with the data; digits needs none.")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="official: downloaded to --data-dir (data/<benchmark> by default) unless it is there. "
        "synthetic: generated. Without it, what --data-dir holds.",
    ),
]
PresetOption = Annotated[str, typer.Option("--preset", help="Recipe: published, or small, which is sized for 2 cores.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=0, help="Epochs; the recipe's by default.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output-dir", help="Run folder; by default a new one under runs/.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run in --output-dir.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of data splits, training and search.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


@app.command()
def summary(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    config: ConfigOption = "mpq",
    alpha: AlphaOption = "auto_po2",
) -> None:
    """Show the layers, their widths and sizes, and the statistics that AutoQKeras prints."""
    _import_tensorflow_quietly()
    from po2quant.cost import check_covers, reference_config, stats_block
    from po2quant.report.tables import summary_table
    from po2quant.training.prepare import describe_network, resolve_config

    task = _load(benchmark)
    _, spec = task.network(model)
    layers = describe_network(spec)
    widths = resolve_config(config, spec)
    if widths is None:
        _say("float has no widths; this is the reference that scores compare with (kernel 16, bias 31, activation 16)")
    widths = widths or reference_config(layers)
    check_covers(widths, layers)
    _table(summary_table(layers, widths))
    _say(stats_block(layers, widths, alpha))
    _warn_reconstructed(widths)


@app.command()
def evaluate(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    weights: WeightsOption = None,
    config: ConfigOption = "mpq",
    alpha: AlphaOption = "auto_po2",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    scale_rule: Annotated[
        str,
        typer.Option(
            "--scale-rule",
            help="Exponents of weights under auto_po2: mse (least error), max (never clips) or stock (QKeras').",
        ),
    ] = "mse",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Score a network on the test split, without training: float, or quantized and calibrated."""
    _import_tensorflow_quietly()
    from po2quant.cost import BITS_PER_KIB, average_bits, network_size, reference_config
    from po2quant.training import finetune as workflow
    from po2quant.training import prepare

    task = _load(benchmark)
    name, spec = task.network(model)
    widths = prepare.resolve_config(config, spec)
    if weights is None:
        raise ValueError("evaluate needs --weights: a weight file or a run folder")
    dataset = _dataset(task, data, data_dir, seed)
    layers = prepare.describe_network(spec)
    prepared = prepare.prepare_network(spec, widths, alpha, weights, dataset, seed, scale_rule)
    score = prepare.evaluate(task, prepared.model, dataset.test)
    size_bits = workflow.size_in_bits(layers, widths)
    _say(f"{task.name} {name}, {config}{'' if widths is None else ' ' + alpha}, on {dataset.describe()}")
    _say(f"{score.metric} {score.value:.4f} on {score.samples} samples, {size_bits / BITS_PER_KIB:.1f} KiB")
    for detail, value in score.details.items():
        _say(f"{detail} {value:.4f}")
    if prepared.calibration == "test inputs":
        _say("activation ranges were calibrated on the test inputs, without labels: the data have no training split")
    _warn_reconstructed(widths)
    if as_json:
        facts: dict[str, Any] = {
            "benchmark": task.name,
            "model": name,
            "config": config,
            "alpha": "float" if widths is None else alpha,
            "metric": score.metric,
            "score": score.value,
            **score.details,
            "samples": score.samples,
            "size_bits": size_bits,
            "reference_size_bits": network_size(layers, reference_config(layers)).total_bits,
            "data": dataset.describe(),
            "data_kind": dataset.kind,
            "data_fingerprint": dataset.fingerprint(),
            "calibration": prepared.calibration,
            "scale_rule": scale_rule,
            "seed": seed,
        }
        if widths is not None:
            average = average_bits(layers, widths)
            facts |= {
                f"bits_{part}": getattr(average, part) for part in ("per_layer", "per_parameter", "per_activation")
            }
        typer.echo(json.dumps(facts))


@app.command()
def finetune(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    weights: WeightsOption = None,
    config: ConfigOption = "mpq",
    alpha: AlphaOption = "auto_po2",
    epochs: EpochsOption = None,
    preset: PresetOption = "published",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    output_dir: OutputOption = None,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Retrain a network under a bit configuration, and freeze its scales."""
    _import_tensorflow_quietly()
    from po2quant.report.plots import plot_confusion, plot_epochs
    from po2quant.report.tables import result_table
    from po2quant.training import finetune as workflow
    from po2quant.training.prepare import resolve_config
    from po2quant.training.weights import is_quantized_checkpoint

    task = _load(benchmark)
    name, spec = task.network(model)
    widths = resolve_config(config, spec)
    dataset = _dataset(task, data, data_dir, seed)
    workflow.require_training_data(dataset)
    experiment = workflow.Experiment(task, name, dataset, alpha, weights, seed, preset, resume)
    epochs = experiment.recipe.epochs if epochs is None else epochs
    run = _run_folder("finetune", experiment, output_dir, config=config, epochs=epochs, data=data, data_dir=data_dir)
    rows = []
    with _resumable(run.path):
        experiment = experiment.with_float_weights(run.path / "float")
        if widths is not None and not is_quantized_checkpoint(experiment.weights):
            rows.append(workflow.Workbench(experiment).finetune_and_score("float", None, run.path / "float", 0))
        rows.append(workflow.Workbench(experiment).finetune_and_score(config, widths, run.path, epochs))
    _write_results(run.path, rows, experiment)
    pictures = plot_epochs(_read_csv(run.path / "epochs.csv"), run.path / "plots", dataset.describe()) if epochs else []
    score = rows[-1].finetuned or rows[-1].calibrated
    if score.confusion:
        pictures.append(plot_confusion(score, run.path / "plots" / "confusion.png", dataset.describe()))
    _table(result_table(rows, f"{task.name} {name}: {rows[0].calibrated.metric} on {dataset.describe()}"))
    _warn_reconstructed(widths)
    _say_paths(run.path, pictures)
    if as_json:
        typer.echo(json.dumps(rows[-1].to_dict()))


@app.command()
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
    seed: SeedOption = 0,
    resume: ResumeOption = False,
) -> None:
    """Search a bit width for every kernel, bias and activation, and compare the best with flat widths."""
    _import_tensorflow_quietly()
    from po2quant.report.plots import plot_comparison, plot_search
    from po2quant.report.tables import result_table
    from po2quant.search import run_search
    from po2quant.training import finetune as workflow
    from po2quant.training.prepare import resolve_config

    task = _load(benchmark)
    name, spec = task.network(model)
    dataset = _dataset(task, data, data_dir, seed)
    workflow.require_training_data(dataset)
    experiment = workflow.Experiment(task, name, dataset, alpha, weights, seed, preset, resume)
    run = _run_folder(
        "search",
        experiment,
        output_dir,
        max_trials=max_trials,
        epochs=epochs,
        retrain_epochs=retrain_epochs,
        informed=informed,
        data=data,
        data_dir=data_dir,
    )
    with _resumable(run.path):
        experiment = experiment.with_float_weights(run.path / "float")
        found = run_search(experiment, run.path, max_trials, epochs, informed)
    best = found.best_config(f"{task.name}-{name}")
    best.save(run.path / workflow.CONFIG_FILE)
    pictures = plot_search(found.log.rows, best, run.path / "plots", dataset.describe())
    if found.interrupted:
        _say(f"the best of {len(found.log.rows)} trials is in {run.path / workflow.CONFIG_FILE}")
        raise _stopped(run.path)
    flats = [(flat, resolve_config(flat, spec)) for flat in COMPARED_FLATS]
    configs = [("float", None), ("mpq", best), *flats]
    with _resumable(run.path):
        rows = workflow.compare(experiment, configs, run.path / "comparison", retrain_epochs)
    _write_results(run.path, rows, experiment)
    pictures.append(plot_comparison(rows, run.path / "plots" / "comparison.png", dataset.describe()))
    _table(result_table(rows, f"{task.name} {name}: {rows[0].calibrated.metric} on {dataset.describe()}"))
    _say_paths(run.path, pictures)
    words = [sys.argv[0], "finetune", "--benchmark", benchmark, "--model", name, "--weights", experiment.weights]
    words += ["--config", run.path / workflow.CONFIG_FILE, "--alpha", alpha]
    words += _data_words(data, data_dir, preset)
    _say(f"next: {shlex.join(map(str, words))}")


@app.command()
def matrix(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    weights: WeightsOption = None,
    configs: Annotated[
        str, typer.Option("--configs", help="Configurations, separated by commas.")
    ] = "mpq,flat16,flat8,flat4",
    alphas: Annotated[str, typer.Option("--alphas", help="Kinds of scales, separated by commas.")] = "auto,auto_po2",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")] = "0",
    epochs: EpochsOption = None,
    preset: PresetOption = "published",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder of the run folders; what is done in it is not done again.")
    ] = Path("runs/matrix"),
    results: Annotated[
        Path, typer.Option("--results", help="CSV that gets the rows; a Markdown table is written beside it.")
    ] = Path("best_configs/RESULTS.csv"),
) -> None:
    """Score a network under all configurations and scales, before and after fine-tuning; rebuild the results table."""
    _import_tensorflow_quietly()
    from po2quant.matrix import run_matrix
    from po2quant.quantizers import check_alpha
    from po2quant.training import finetune as workflow
    from po2quant.training.prepare import resolve_config

    task = _load(benchmark)
    name, spec = task.network(model)
    for config in configs.split(","):
        resolve_config(config, spec)
    for alpha in alphas.split(","):
        check_alpha(alpha)
    for seed in _seeds(seeds):
        dataset = _dataset(task, data, data_dir, seed)
        workflow.require_training_data(dataset)
        folder = output_dir / f"{task.name}-{name}-seed{seed}"
        resume = (folder / "config.json").exists()
        experiment = workflow.Experiment(task, name, dataset, weights=weights, seed=seed, preset=preset, resume=resume)
        seed_epochs = experiment.recipe.epochs if epochs is None else epochs
        run = _run_folder("matrix", experiment, folder, epochs=seed_epochs, data=data, data_dir=data_dir)

        def command(config: str, alpha: str, seed: int = seed) -> list[Any]:
            words = ["po2quant", "finetune", "--benchmark", benchmark, "--model", name, "--config", config]
            words += ["--alpha", alpha] if alpha != "float" else []
            words += ["--weights", weights] if weights else []
            words += ["--epochs", epochs] if epochs is not None else []
            return [*words, *_data_words(data, data_dir, preset), "--seed", seed]

        try:
            run_matrix(experiment, configs.split(","), alphas.split(","), seed_epochs, run.path, results, command, _say)
        except KeyboardInterrupt:
            _say("stopped; the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    _say(f"table: {results}, {results.with_suffix('.md')}")


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds must be whole numbers separated by commas. Received: {text!r}") from None


def _data_words(data: str | None, data_dir: Path | None, preset: str) -> list[Any]:
    """Return the options that choose data and recipe as they stand on a command line."""
    words = ["--preset", preset] if preset != "published" else []
    words += ["--data", data] if data else []
    return words + (["--data-dir", data_dir] if data_dir else [])


def _dataset(task: Any, data: str | None, data_dir: Path | None, seed: int) -> Any:
    """Load, download or generate the data of a benchmark."""
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


def _load(benchmark: str) -> Any:
    from po2quant.benchmark import load_benchmark

    if ":" in benchmark:
        sys.path.insert(0, os.getcwd())
    return load_benchmark(benchmark)


def _run_folder(command: str, experiment: Any, path: Path | None, **options: Any) -> Any:
    """Make or reopen the run folder of an experiment; ``options`` are what else the command was asked for."""
    from po2quant.training.run_folder import RunFolder

    task, model, dataset = experiment.benchmark.name, experiment.model, experiment.dataset
    if experiment.resume and path is None:
        raise ValueError("--resume needs --output-dir: the folder of the run to go on with")
    path = path or Path("runs") / f"{command}-{task}-{model}-{datetime.now():%Y%m%d-%H%M%S}"
    arguments = {"command": command, "benchmark": task, "model": model, "alpha": experiment.alpha}
    arguments |= {"weights": experiment.weights, "seed": experiment.seed, "preset": experiment.preset, **options}
    run = RunFolder(path, arguments, experiment.resume)
    run.write_environment(
        command_line=sys.argv,
        seed=experiment.seed,
        data=dataset.describe(),
        data_kind=dataset.kind,
        data_fingerprint=dataset.fingerprint(),
    )
    return run


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Turn Ctrl-C into a sentence that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise _stopped(folder) from None


def _stopped(folder: Path) -> typer.Exit:
    _say(f"stopped; the same command with --resume --output-dir {folder} goes on")
    return typer.Exit(INTERRUPTED)


def _write_results(folder: Path, rows: list[Any], experiment: Any) -> None:
    from po2quant.report.results import result_records
    from po2quant.training.run_folder import write_csv

    command = shlex.join(["po2quant", *sys.argv[1:]])
    write_csv(folder / "results.csv", result_records(rows, experiment, command))


def _read_csv(path: Path) -> list[dict[str, float]]:
    from po2quant.training.run_folder import read_csv

    return [{key: float(value) for key, value in row.items()} for row in read_csv(path)]


def _warn_reconstructed(widths: Any) -> None:
    if widths is not None and widths.provenance.get("partly_reconstructed"):
        _say(f"note: {widths.provenance['note']}")


def _say(text: str) -> None:
    typer.echo(text)


def _table(table: Any) -> None:
    from rich.console import Console

    console = Console()
    Console(width=console.width if console.is_terminal else 160).print(table)


def _say_paths(folder: Path, pictures: list[Path]) -> None:
    for picture in pictures:
        _say(f"picture: {picture}")
    _say(f"run folder: {folder}")


def _import_tensorflow_quietly() -> None:
    """Import TensorFlow without the notices that it writes before its log level counts."""
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


def main() -> None:
    """Run the command line; a wrong input ends in one sentence and exit code 2."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
