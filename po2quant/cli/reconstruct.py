"""``po2quant reconstruct``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from po2quant.bit_config import FLOAT
from po2quant.cli.options import (
    DATA,
    WHICH,
    OutputOption,
    ResumeOption,
    Task,
    run_options,
    with_task,
)
from po2quant.cli.output import Facts, say
from po2quant.cli.session import (
    begin_with_widths,
    conclude,
    experiment_of,
    open_run_folder,
    print_results,
    resumable,
    say_paths,
    warn_reconstructed,
    write_results,
)
from po2quant.runs.names import FLOAT_FOLDER
from po2quant.runs.request import ReconstructRequest


@with_task(
    run_options("weights", "config", "alpha", "calibration", "target", "seed"), WHICH, DATA, request=ReconstructRequest
)
def reconstruct(
    task: Task,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Inputs that it learns from, without labels.")
    ] = 1024,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Of the optimizer for each layer.")] = 500,
    joint_steps: Annotated[
        int, typer.Option("--joint-steps", min=0, help="For all layers at once after that, such as 500; 0: none.")
    ] = 0,
    output_dir: OutputOption = None,
    resume: ResumeOption = False,
) -> Facts:
    """Quantize a float network without labels: learn how to round its weights from a few hundred inputs."""
    request = ReconstructRequest(**task, samples=samples, steps=steps, joint_steps=joint_steps)
    benchmark, request, network, widths = begin_with_widths(request, output_dir, resume)
    from po2quant.report.record import record_saved_network
    from po2quant.training.finetune import Workbench
    from po2quant.training.prepare import calibration_inputs
    from po2quant.training.reconstruct import Reconstruction

    needs_labels = request.weights is None and request.network is None
    experiment = experiment_of(benchmark, request, network, resume, needs_labels)
    experiment = dataclasses.replace(experiment, reconstruction=Reconstruction(samples, steps, joint_steps=joint_steps))
    with open_run_folder(request, experiment, output_dir) as run:
        with resumable(run.path):
            bench = Workbench(experiment.with_float_weights(run.path / FLOAT_FOLDER))
            cells = ((FLOAT, None, run.path / FLOAT_FOLDER), (request.name, widths, run.path))
            rows = [bench.finetune_and_score(name, bits, path, 0) for name, bits, path in cells]
        write_results(run.path, rows, experiment, request)
        record_saved_network(run.path, calibration_inputs(experiment.dataset, network.model, experiment.seed)[0])
        report = conclude(run.path, experiment)
    print_results(rows, experiment)
    if rows[-1].calibration != "train":
        say(f"it learned from the {rows[-1].calibration}, without labels: the data have no training split")
    warn_reconstructed(widths)
    say_paths(run.path, [], report)
    say(f"next: {request.cell(weights=run.path, config=request.config).command()}")
    return rows[-1].to_dict() | {"run_folder": str(run.path)}
