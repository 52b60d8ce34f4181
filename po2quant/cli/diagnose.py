"""``po2quant diagnose``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from po2quant.bit_config import AUTO, AUTO_PO2, FLOAT
from po2quant.cli.options import DATA, WHICH, Task, with_task
from po2quant.cli.output import Facts, print_table, say
from po2quant.cli.session import RUNS, begin, load_dataset
from po2quant.files import write_csv
from po2quant.quiet import import_tensorflow_quietly
from po2quant.runs.folder import check_writable
from po2quant.runs.names import FLOAT_FOLDER, PLOTS_FOLDER
from po2quant.runs.request import NetworkRequest, check_trusted, network_of_run, read_request
from po2quant.weight_files import is_quantized_checkpoint

SWEEP_CSV, SWEEP_PICTURE, MIXED_CONFIG = "mode_sweep.csv", "mode_sweep.png", "mixed_config.json"
TRAINED_NOTE = (
    "note: trained weights suit the scales that they were trained with; to choose a mix for training, "
    "sweep float weights (--weights)"
)


OF_SWEEP = {
    "weights": Annotated[
        Path | None,
        typer.Option("--weights", help="Weights of the mode sweep: float, or a run's; the run's own by default."),
    ],
    "config": Annotated[
        str | None, typer.Option("--config", help="Bit widths of the mode sweep; the run's, or mpq, by default.")
    ],
    "seed": Annotated[
        int | None, typer.Option("--seed", help="Seed of the data split and samples; the run's, or 0, by default.")
    ],
}


@with_task(OF_SWEEP, WHICH, DATA)
def diagnose(
    task: Task,
    path: Annotated[Path | None, typer.Argument(help="Run folder, or a .weights.h5, .keras or .h5 file.")] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            help="Where pictures, and of a mode sweep all files go; by default the run folder and its plots/.",
        ),
    ] = None,
    mode_sweep: Annotated[
        bool,
        typer.Option(
            "--mode-sweep",
            help="Measure what powers of two cost at each layer, and propose a mix of real and power-of-two scales: of "
            "a fine-tuned run folder, or without one of --weights under --config.",
        ),
    ] = False,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Training samples that the mode sweep measures on.")
    ] = 512,
    share: Annotated[
        float,
        typer.Option(
            "--share", min=0.0, max=1.0, help="Share of what powers of two everywhere cost that the mix may keep."
        ),
    ] = 0.25,
    max_layers: Annotated[
        int | None, typer.Option("--max-layers", min=0, help="Most layers and activations with real scales in the mix.")
    ] = None,
) -> Facts:
    """Say in plain words what quantization did to each tensor of a run or a weight file."""
    if output_dir is not None:
        check_writable(output_dir)
    if mode_sweep:
        request, start = _request(path, task)
        return _sweep_modes(request, start, samples, share, max_layers, path, output_dir)
    if task:
        option = next(iter(task)).replace("_", "-")
        raise ValueError(f"--{option} needs --mode-sweep: a diagnosis takes the run or file alone")
    if path is None:
        raise ValueError("diagnose needs a run folder or a weight file, or --mode-sweep with --benchmark and --weights")
    if not path.exists():
        raise ValueError(f"diagnose needs a run folder or a weight file. There is none: {path}")
    import_tensorflow_quietly()
    from po2quant.diagnostics.diagnose import diagnose as diagnosis_of

    diagnosis = diagnosis_of(path, output_dir)
    print_table(diagnosis.table())
    for line in diagnosis.lines():
        say(line)
    for picture in diagnosis.pictures:
        say(f"picture: {picture}")
    return diagnosis.to_dict()


def _request(path: Path | None, given: dict[str, Any]) -> tuple[NetworkRequest, Path]:
    """Return what to measure, of a run or as given, and the weights that a training of it would start from."""
    if path is None and "weights" not in given and "network" not in given:
        raise ValueError(
            "--mode-sweep needs the folder of a fine-tuned run, or --benchmark and --weights, or --network"
        )
    if path is None:
        request = NetworkRequest(**given)
        start = given.get("weights") or given["network"]
    else:
        try:
            request = network_of_run(path).changed(**given)
        except ValueError as error:
            raise ValueError(f"--mode-sweep needs the folder of a fine-tuned quantized run: {error}") from None
        start = read_request(path).weights or path / FLOAT_FOLDER
        check_trusted(request, given.get("benchmark"), path)
    if request.config == FLOAT:
        raise ValueError("--mode-sweep needs the --config of a quantized network. Received: 'float'")
    return request, start


def _sweep_modes(
    request: NetworkRequest,
    start: Path,
    samples: int,
    share: float,
    max_layers: int | None,
    run: Path | None,
    output_dir: Path | None,
) -> dict[str, Any]:
    """Measure, write and say what was found; return it as JSON has it."""
    task, request = begin(request)
    from po2quant.diagnostics.mode_mix import propose_mix
    from po2quant.diagnostics.mode_sweep import mode_sweep
    from po2quant.diagnostics.plots import plot_mode_sweep
    from po2quant.progress import progress_line
    from po2quant.training import prepare
    from po2quant.training.finetune import require_training_data

    _, spec = task.network(request.model)
    folded, seed = spec.fold(), request.seed
    widths = prepare.resolve_config(request.config, spec, folded)
    dataset = load_dataset(task, request)
    require_training_data(dataset)
    real = widths.with_alphas(dict.fromkeys(widths.layers, AUTO))
    weights = request.weights or folded.source
    network = prepare.prepare_with_own_scales(folded, real, weights, dataset, seed).model
    inputs, _ = prepare.calibration_inputs(dataset, network, seed)
    measured = dataset.train.drawn(samples, seed).without_augmentation()
    with progress_line("mode sweep", 2 * len(widths.layers)) as line:
        loss = task.recipe_of(request.model, request.preset).loss
        sweep = mode_sweep(network, inputs, measured, loss, advance=line.advance)
    mix = propose_mix(sweep, network, widths, share, max_layers)
    folder = output_dir or run or RUNS / f"mode-sweep-{task.name}-{request.model}-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / SWEEP_CSV, mix.rows())
    mix.config.save(folder / MIXED_CONFIG)
    subject = f"{task.name} {request.model}, {request.name}"
    footer = f"{len(measured)} training samples of {dataset.describe()}"
    picture = plot_mode_sweep(mix, (output_dir or folder / PLOTS_FOLDER) / SWEEP_PICTURE, footer, subject)
    is_trained = request.weights is not None and is_quantized_checkpoint(request.weights)
    notes = [TRAINED_NOTE] if is_trained else []
    files = f"table: {folder / SWEEP_CSV}", f"picture: {picture}"
    for text in (*mix.lines(), *notes, *files, f"next: {_training_of(request, start, folder)}"):
        say(text)
    return mix.to_dict() | {"data": dataset.describe(), "mixed_config": str(folder / MIXED_CONFIG)}


def _training_of(request: NetworkRequest, start: Path, folder: Path) -> str:
    """Return the command that fine-tunes the mix, from float weights: a quantized network brings its own scales."""
    weights: Path | None = Path("FLOAT_WEIGHTS")
    if start.exists() and not is_quantized_checkpoint(start):
        weights = None if start == request.network else start
    return request.cell(weights=weights, config=str(folder / MIXED_CONFIG), alpha=AUTO_PO2).command()
