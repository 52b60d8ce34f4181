"""One network: ``summary``, ``evaluate``, ``finetune``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from po2quant.cli.options import (
    AlphaOption,
    BenchmarkOption,
    ConfigOption,
    DataDirOption,
    DataOption,
    EpochsOption,
    JsonOption,
    ModelOption,
    OutputOption,
    PresetOption,
    ResumeOption,
    SeedOption,
    WeightsOption,
)
from po2quant.cli.session import (
    find_benchmark,
    import_tensorflow_quietly,
    load_dataset,
    open_run_folder,
    print_table,
    resumable,
    say,
    say_paths,
    warn_reconstructed,
    write_results,
)


def summary(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    config: ConfigOption = "mpq",
    alpha: AlphaOption = "auto_po2",
) -> None:
    """Show the layers, their widths and sizes, and the statistics that AutoQKeras prints."""
    import_tensorflow_quietly()
    from po2quant.cost import stats_block
    from po2quant.quantizers import check_alpha
    from po2quant.report.tables import summary_table
    from po2quant.training.prepare import resolve_config

    check_alpha(alpha)
    task = find_benchmark(benchmark)
    _, spec = task.network(model)
    network = spec.fold()
    widths = resolve_config(config, spec, network)
    if widths is None:
        say("float has no widths; this is the reference that scores compare with (kernel 16, bias 31, activation 16)")
    widths = (widths or network.reference()).with_alpha(alpha)
    print_table(summary_table(network.layers, widths))
    say(stats_block(network.layers, widths))
    warn_reconstructed(widths)


def evaluate(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Float weights (.weights.h5, .keras, Keras 2 .h5), or a run folder; needed."),
    ] = None,
    config: ConfigOption = "mpq",
    alpha: AlphaOption = "auto_po2",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    scale_rule: Annotated[
        str,
        typer.Option(
            "--scale-rule",
            help="Exponents of weights under auto_po2: mse (least error), max (no clipping), nearest, stock (QKeras').",
        ),
    ] = "mse",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Score a network on the test split, without training: float, or quantized and calibrated."""
    import_tensorflow_quietly()
    from po2quant.cost import BITS_PER_KIB, average_bits
    from po2quant.quantizers import check_alpha
    from po2quant.training import prepare

    check_alpha(alpha)
    task = find_benchmark(benchmark)
    name, spec = task.network(model)
    network = spec.fold()
    widths = prepare.resolve_config(config, spec, network)
    widths = None if widths is None else widths.with_alpha(alpha)
    if weights is None:
        raise ValueError("evaluate needs --weights: a weight file or a run folder")
    dataset = load_dataset(task, data, data_dir, seed)
    prepared = prepare.prepare_network(network, widths, weights, dataset, seed, scale_rule)
    score = prepare.evaluate(task, prepared.model, dataset.test)
    size_bits = network.size(widths).total_bits
    scales = "float" if widths is None else widths.scales
    say(f"{task.name} {name}, {config}{'' if widths is None else ' ' + scales}, on {dataset.describe()}")
    say(f"{score.metric} {score.value:.4f} on {score.samples} samples, {size_bits / BITS_PER_KIB:.1f} KiB")
    for detail, value in score.details.items():
        say(f"{detail} {value:.4f}")
    if prepared.calibration == "test inputs":
        say("activation ranges were calibrated on the test inputs, without labels: the data have no training split")
    warn_reconstructed(widths)
    if as_json:
        facts: dict[str, Any] = {
            "benchmark": task.name,
            "model": name,
            "config": config,
            "alpha": scales,
            "metric": score.metric,
            "score": score.value,
            **score.details,
            "samples": score.samples,
            "size_bits": size_bits,
            "reference_size_bits": network.size(network.reference()).total_bits,
            "data": dataset.describe(),
            "data_kind": dataset.kind,
            "data_fingerprint": dataset.fingerprint(),
            "calibration": prepared.calibration,
            "scale_rule": scale_rule,
            "seed": seed,
        }
        if widths is not None:
            average = average_bits(network.layers, widths)
            facts |= {
                f"bits_{part}": getattr(average, part) for part in ("per_layer", "per_parameter", "per_activation")
            }
        typer.echo(json.dumps(facts))


def finetune(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    weights: WeightsOption = None,
    config: ConfigOption = "mpq",
    alpha: AlphaOption = "auto_po2",
    activation_alpha: Annotated[
        str | None, typer.Option("--activation-alpha", help="Scales of activations, where they are not --alpha.")
    ] = None,
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
    import_tensorflow_quietly()
    from po2quant.files import read_csv
    from po2quant.report.plots import plot_confusion, plot_epochs
    from po2quant.report.tables import result_table
    from po2quant.runs.weight_files import is_quantized_checkpoint
    from po2quant.training import finetune as workflow
    from po2quant.training.prepare import resolve_config

    task = find_benchmark(benchmark)
    name, spec = task.network(model)
    network = spec.fold()
    widths = resolve_config(config, spec, network)
    if activation_alpha is not None:
        if widths is None:
            raise ValueError(f"--activation-alpha needs a --config other than float. Received: {activation_alpha!r}")
        widths = widths.with_activation_alpha(activation_alpha)
    dataset = load_dataset(task, data, data_dir, seed)
    workflow.require_training_data(dataset)
    experiment = workflow.Experiment(task, name, dataset, alpha, weights, seed, preset, resume, network)
    epochs = experiment.recipe.epochs if epochs is None else epochs
    run = open_run_folder(
        "finetune",
        experiment,
        output_dir,
        config=config,
        activation_alpha=activation_alpha,
        epochs=epochs,
        data=data,
        data_dir=data_dir,
    )
    rows = []
    with resumable(run.path):
        experiment = experiment.with_float_weights(run.path / "float")
        if widths is not None and not is_quantized_checkpoint(experiment.weights):
            rows.append(workflow.Workbench(experiment).finetune_and_score("float", None, run.path / "float", 0))
        bench = workflow.Workbench(experiment, _recorder(experiment))
        rows.append(bench.finetune_and_score(config, widths, run.path, epochs))
    write_results(run.path, rows, experiment)
    pictures = []
    if epochs:
        curves = [{name: float(value) for name, value in row.items()} for row in read_csv(run.path / "epochs.csv")]
        pictures += plot_epochs(curves, run.path / "plots", dataset.describe())
    score = rows[-1].finetuned or rows[-1].calibrated
    if score.confusion:
        pictures.append(plot_confusion(score, run.path / "plots" / "confusion.png", dataset.describe()))
    print_table(result_table(rows, f"{task.name} {name}: {rows[0].calibrated.metric} on {dataset.describe()}"))
    warn_reconstructed(widths)
    say_paths(run.path, pictures)
    if as_json:
        typer.echo(json.dumps(rows[-1].to_dict()))


def _recorder(experiment: Any) -> Callable[[Any, Path], Callable[[int], None]]:
    """Return what writes ``diagnostics.csv`` into the run folder of a quantized network between epochs."""
    from po2quant.diagnostics.probe import Probe
    from po2quant.diagnostics.recorder import Recorder
    from po2quant.training.prepare import calibration_inputs

    def recorder(network: Any, folder: Path) -> Callable[[int], None]:
        inputs, _ = calibration_inputs(experiment.dataset, network, experiment.seed)
        return Recorder(Probe(network, inputs), folder).observe

    return recorder
