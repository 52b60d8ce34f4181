"""One network: ``summary``, ``evaluate``, ``finetune``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from po2quant.bit_config import FLOAT, check_scale_rule
from po2quant.cli.callbacks import CallbackOption, check_callback, made_callbacks
from po2quant.cli.options import (
    DATA,
    RUN,
    TRAINING,
    WHICH,
    CalibrationDataOption,
    OutputOption,
    ResumeOption,
    Task,
    run_options,
    with_task,
)
from po2quant.cli.output import Facts, print_table, say
from po2quant.cli.session import (
    begin_with_widths,
    calibrating,
    check_calibration_data,
    conclude,
    experiment_of,
    load_dataset,
    open_run_folder,
    print_results,
    resumable,
    say_calibration,
    say_paths,
    warn_reconstructed,
    write_results,
)
from po2quant.files import read_csv
from po2quant.runs.names import EPOCHS_CSV, FLOAT_FOLDER, PLOTS_FOLDER
from po2quant.runs.request import NetworkRequest

if TYPE_CHECKING:
    from po2quant.bit_config import BitConfig
    from po2quant.diagnostics.probe import Probe
    from po2quant.training.finetune import Experiment, Result


@with_task(run_options("config", "alpha"), WHICH, request=NetworkRequest)
def summary(task: Task) -> Facts:
    """Show the layers, their widths and sizes, and the statistics that AutoQKeras prints."""
    benchmark, request, network, widths = begin_with_widths(NetworkRequest(**task), needs_data=False)
    from po2quant.cost import SUMMARY_COLUMNS, network_size, stats_block, summary_rows
    from po2quant.report.tables import summary_table

    if widths is None:
        say("float has no widths; this is the reference that scores compare with (kernel 16, bias 31, activation 16)")
    widths = (widths or network.reference()).with_alpha(request.alpha)
    print_table(summary_table(network.layers, widths))
    say(stats_block(network.layers, widths))
    warn_reconstructed(widths)
    rows = summary_rows(network.layers, widths)
    return {
        "benchmark": benchmark.name,
        "model": request.model,
        "config": request.config,
        "size_bits": network_size(network.layers, widths).total_bits,
        "reference_size_bits": network.size(network.reference()).total_bits,
        "rows": [dict(zip(SUMMARY_COLUMNS, row, strict=True)) for row in rows],
    }


@with_task(run_options("config", "alpha", "calibration", "target", "seed"), WHICH, DATA, request=NetworkRequest)
def evaluate(
    task: Task,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Float weights (.weights.h5, .keras, Keras 2 .h5), or a run folder; needed."),
    ] = None,
    scale_rule: Annotated[
        str,
        typer.Option(
            "--scale-rule",
            help="Exponents of weights under auto_po2: mse (least error), max (no clipping), nearest, stock (QKeras').",
        ),
    ] = "mse",
    calibration_data: CalibrationDataOption = None,
) -> Facts:
    """Score a network on the test split, without training: float, or quantized and calibrated."""
    if weights is None and "network" not in task:
        raise ValueError("evaluate needs --weights, a weight file or a run folder, or --network")
    check_scale_rule(scale_rule)
    request = NetworkRequest(**task, weights=weights)
    check_calibration_data(calibration_data, request)
    benchmark, request, network, widths = begin_with_widths(request)
    from po2quant.cost import BITS_PER_KIB, average_bits
    from po2quant.training import prepare

    name, config, seed = request.model, request.config, request.seed
    widths = None if widths is None else widths.with_alpha(request.alpha).with_calibration(request.calibration)
    dataset = load_dataset(benchmark, request)
    inputs = calibrating(benchmark, request, dataset, calibration_data)
    prepared = prepare.prepare_network(network, widths, weights or network.source, inputs, seed, scale_rule)
    score = prepare.evaluate(benchmark, prepared.model, dataset.test)
    size_bits = network.size(widths).total_bits
    scales = FLOAT if widths is None else widths.scales
    say(f"{benchmark.name} {name}, {config}{'' if widths is None else ' ' + scales}, on {dataset.describe()}")
    say(f"{score.metric} {score.value:.4f} on {score.samples} samples, {size_bits / BITS_PER_KIB:.1f} KiB")
    for detail, value in score.details.items():
        say(f"{detail} {value:.4f}")
    say_calibration(prepared.calibration, calibration_data)
    warn_reconstructed(widths)
    facts: Facts = {
        "benchmark": benchmark.name,
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
        "calibration": prepared.calibration if calibration_data is None else str(calibration_data),
        "calibration_rule": request.calibration,
        "scale_rule": scale_rule,
        "seed": seed,
    }
    if widths is not None:
        average = average_bits(network.layers, widths)
        facts |= {f"bits_{part}": getattr(average, part) for part in ("per_layer", "per_parameter", "per_activation")}
    return facts


@with_task(RUN, WHICH, DATA, TRAINING, request=NetworkRequest)
def finetune(
    task: Task,
    activation_alpha: Annotated[
        str | None, typer.Option("--activation-alpha", help="Scales of activations, where they are not --alpha.")
    ] = None,
    output_dir: OutputOption = None,
    resume: ResumeOption = False,
    callback: CallbackOption = None,
) -> Facts:
    """Retrain a network under a bit configuration, and freeze its scales."""
    check_callback(callback)
    request = NetworkRequest(**task, activation_alpha=activation_alpha)
    benchmark, request, network, widths = begin_with_widths(request, output_dir, resume)
    if widths is not None and activation_alpha is not None:
        widths = widths.with_activation_alpha(activation_alpha)
    experiment = experiment_of(benchmark, request, network, resume)
    made_callbacks(callback)  # raises now rather than after the float network
    experiment = dataclasses.replace(experiment, callbacks=functools.partial(made_callbacks, callback))
    with open_run_folder(request, experiment, output_dir) as run:
        rows = _finetune(request, experiment, widths, run.path)
        write_results(run.path, rows, experiment, request)
        pictures = _draw(rows[-1], experiment, run.path)
        report = conclude(run.path, experiment)
    print_results(rows, experiment)
    warn_reconstructed(widths)
    say_paths(run.path, pictures, report)
    return rows[-1].to_dict() | {"run_folder": str(run.path), "report": str(report)}


def _finetune(request: NetworkRequest, experiment: Experiment, widths: BitConfig | None, folder: Path) -> list[Result]:
    """Train a network in its run folder, and score it; before it the float network, where that is known."""
    from po2quant.report.record import record_network
    from po2quant.training.finetune import Workbench

    is_float_new, float_folder, rows = request.weights is None, folder / FLOAT_FOLDER, []
    is_float_scored = widths is not None and (is_float_new or not experiment.is_quantized)
    with resumable(folder):
        if is_float_new or is_float_scored:
            request.cell(config=FLOAT, epochs=0).save(float_folder)
        experiment = experiment.with_float_weights(float_folder)
        if is_float_scored:
            rows.append(Workbench(experiment).finetune_and_score(FLOAT, None, float_folder, 0))
        seen: list[tuple[Any, Probe]] = []
        bench = Workbench(experiment, _recorder(experiment, seen))
        rows.append(bench.finetune_and_score(request.config, widths, folder, request.epochs))
    for network, probe in seen:
        record_network(folder, network, probe())
    return rows


def _draw(row: Result, experiment: Experiment, folder: Path) -> list[Path]:
    """Draw the curves of a training, and the confusion matrix where there are classes."""
    from po2quant.report.plots import plot_confusion, plot_epochs

    pictures, data = [], experiment.dataset.describe()
    subject = f"{experiment.benchmark.name} {experiment.model}, {row.config} ({row.alpha})"
    if row.finetuned is not None:
        curves = [{name: float(value) for name, value in line.items()} for line in read_csv(folder / EPOCHS_CSV)]
        pictures += plot_epochs(curves, folder / PLOTS_FOLDER, data, subject)
    score = row.finetuned or row.calibrated
    if score.confusion:
        pictures.append(plot_confusion(score, folder / PLOTS_FOLDER / "confusion.png", data, subject))
    return pictures


def _recorder(experiment: Experiment, seen: list[tuple[Any, Probe]]) -> Callable[[Any, Path], Callable[[int], None]]:
    """Return what writes ``diagnostics.csv`` into the run folder of a quantized network between epochs.

    Args:
        experiment: says which inputs the network is measured on.
        seen: gets each such network, and what looks into it.
    """
    from po2quant.diagnostics.probe import Probe
    from po2quant.diagnostics.recorder import Recorder
    from po2quant.training.prepare import calibration_inputs

    def recorder(network: Any, folder: Path) -> Callable[[int], None]:
        inputs, _ = calibration_inputs(experiment.dataset, network, experiment.seed)
        probe = Probe(network, inputs)
        seen.append((network, probe))
        return Recorder(probe, folder).observe

    return recorder
