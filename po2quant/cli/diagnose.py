"""``po2quant diagnose``."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from po2quant.cli.options import DataDirOption, DataOption, JsonOption, ModelOption
from po2quant.cli.session import data_words, find_benchmark, import_tensorflow_quietly, load_dataset, print_table, say

SWEEP_CSV, SWEEP_PICTURE, MIXED_CONFIG = "mode_sweep.csv", "mode_sweep.png", "mixed_config.json"
DEFAULTS = {
    "benchmark": "digits",
    "model": None,
    "weights": None,
    "config": "mpq",
    "data": None,
    "data_dir": None,
    "seed": 0,
    "preset": "published",
}
"""What a mode sweep works on where neither the command nor a run says so."""
TRAINED_NOTE = (
    "note: trained weights suit the scales that they were trained with; to choose a mix for training, "
    "sweep float weights (--weights)"
)


def diagnose(
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
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", help="Benchmark of the mode sweep; the run's, or digits, by default.")
    ] = None,
    model: ModelOption = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Weights of the mode sweep: float, or a run's; the run's own by default."),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="Bit widths of the mode sweep; the run's, or mpq, by default.")
    ] = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
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
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the data split and samples; the run's, or 0, by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say in plain words what quantization did to each tensor of a run or a weight file."""
    import_tensorflow_quietly()
    given = {"benchmark": benchmark, "model": model, "weights": weights, "config": config}
    given |= {"data": data, "data_dir": data_dir, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None}
    if mode_sweep:
        facts = _sweep_modes(_settings_of(path, given), samples, share, max_layers, path, output_dir)
        if as_json:
            say(json.dumps(facts))
        return
    if given:
        option = next(iter(given)).replace("_", "-")
        raise ValueError(f"--{option} needs --mode-sweep: a diagnosis takes the run or file alone")
    if path is None:
        raise ValueError("diagnose needs a run folder or a weight file, or --mode-sweep with --benchmark and --weights")
    from po2quant.diagnostics.diagnose import diagnose as diagnosis_of

    diagnosis = diagnosis_of(path, output_dir)
    print_table(diagnosis.table())
    for line in diagnosis.lines():
        say(line)
    for picture in diagnosis.pictures:
        say(f"picture: {picture}")
    if as_json:
        say(json.dumps(diagnosis.to_dict()))


def _settings_of(path: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return what a mode sweep works on: what is given, else what the run in a folder was asked for, else defaults."""
    if path is None:
        if "weights" not in given:
            raise ValueError("--mode-sweep needs the folder of a fine-tuned run, or --benchmark and --weights")
        return DEFAULTS | {"start": given["weights"]} | given
    from po2quant.files import read_json
    from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS

    missing = [name for name in ("config.json", BEST_CONFIG, BEST_WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise ValueError(
            f"--mode-sweep needs the folder of a fine-tuned quantized run. Received: {path}, which has no {missing[0]}"
        )
    run = read_json(path / "config.json", "what a run was asked for")
    asked = {name: run[name] for name in DEFAULTS if run.get(name) is not None}
    asked |= {name: Path(asked[name]) for name in ("weights", "data_dir") if name in asked}
    start = asked.get("weights", path / "float")
    return DEFAULTS | asked | {"weights": path, "start": start, "config": str(path / BEST_CONFIG)} | given


def _sweep_modes(
    settings: dict[str, Any],
    samples: int,
    share: float,
    max_layers: int | None,
    run: Path | None,
    output_dir: Path | None,
) -> dict[str, Any]:
    """Measure, write and say what was found; return it as JSON has it."""
    from po2quant.bit_config import AUTO
    from po2quant.diagnostics.mode_mix import propose_mix
    from po2quant.diagnostics.mode_sweep import mode_sweep
    from po2quant.diagnostics.plots import plot_mode_sweep
    from po2quant.files import write_csv
    from po2quant.runs.weight_files import is_quantized_checkpoint
    from po2quant.training import prepare
    from po2quant.training.finetune import require_training_data
    from po2quant.training.progress import progress_line

    task = find_benchmark(settings["benchmark"])
    name, spec = task.network(settings["model"])
    folded, seed = spec.fold(), settings["seed"]
    widths = prepare.resolve_config(settings["config"], spec, folded)
    if widths is None:
        raise ValueError("--mode-sweep needs the --config of a quantized network. Received: 'float'")
    dataset = load_dataset(task, settings["data"], settings["data_dir"], seed)
    require_training_data(dataset)
    real = widths.with_alphas(dict.fromkeys(widths.layers, AUTO))
    network = prepare.prepare_with_own_scales(folded, real, settings["weights"], dataset, seed).model
    inputs, _ = prepare.calibration_inputs(dataset, network, seed)
    measured = dataset.train.drawn(samples, seed).without_augmentation()
    with progress_line("mode sweep", 2 * len(widths.layers)) as line:
        loss = task.recipe_of(name, settings["preset"]).loss
        sweep = mode_sweep(network, inputs, measured, loss, advance=line.advance)
    mix = propose_mix(sweep, network, widths, share, max_layers)
    folder = output_dir or run or Path("runs") / f"mode-sweep-{task.name}-{name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / SWEEP_CSV, mix.rows())
    mix.config.save(folder / MIXED_CONFIG)
    footer = f"{len(measured)} training samples of {dataset.describe()}"
    picture = plot_mode_sweep(mix, (output_dir or folder / "plots") / SWEEP_PICTURE, footer)
    notes = [TRAINED_NOTE] if is_quantized_checkpoint(settings["weights"]) else []
    files = f"table: {folder / SWEEP_CSV}", f"picture: {picture}"
    for text in (*mix.lines(), *notes, *files, _next(settings, name, folder)):
        say(text)
    return mix.to_dict() | {"data": dataset.describe(), "mixed_config": str(folder / MIXED_CONFIG)}


def _next(settings: dict[str, Any], model: str, folder: Path) -> str:
    """Return the command that fine-tunes the mix, from float weights: a quantized network brings its own scales."""
    from po2quant.runs.weight_files import is_quantized_checkpoint

    start = settings["start"]
    is_float = Path(start).exists() and not is_quantized_checkpoint(start)
    words = ["po2quant", "finetune", "--benchmark", settings["benchmark"], "--model", model]
    words += ["--weights", start if is_float else "FLOAT_WEIGHTS", "--config", folder / MIXED_CONFIG]
    words += ["--seed", settings["seed"]]
    words += data_words(settings["data"], settings["data_dir"], settings["preset"])
    return f"next: {shlex.join(map(str, words))}"
