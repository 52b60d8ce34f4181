"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from po2quant.benchmark import benchmark_names
from po2quant.bit_config import CONFIG_HELP

BenchmarkOption = Annotated[
    str,
    typer.Option(
        "--benchmark",
        help=f"{', '.join(benchmark_names())}, or your own as package.module:attribute.",
    ),
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Network of the benchmark; its first by default.")]
ConfigOption = Annotated[str, typer.Option("--config", help=f"Bit widths: {CONFIG_HELP}.")]
AlphaOption = Annotated[
    str,
    typer.Option(
        "--alpha",
        help="Scales: auto (real numbers), auto_po2 (powers of two) or learned_po2 (powers of two that are trained).",
    ),
]
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
