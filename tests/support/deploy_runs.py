"""Run folders of digits networks that were fine-tuned for an epoch."""

from __future__ import annotations

from pathlib import Path

from po2quant.benchmark import Benchmark, Dataset
from po2quant.runs.folder import RunFolder
from po2quant.training.finetune import Experiment, Workbench
from po2quant.training.prepare import resolve_config


def fine_tuned_run(benchmark: Benchmark, dataset: Dataset, weights: Path, run: Path, cell: str = "") -> Path:
    """Fine-tune digits in 8 bits, in a run folder or in a cell of one; return where the network is."""
    settings = {"command": "finetune", "benchmark": "digits", "model": "ds_cnn", "alpha": "auto_po2", "seed": 0}
    with RunFolder(run, settings | {"config": "flat8", "data": None, "data_dir": None}):
        pass
    bench = Workbench(Experiment(benchmark, "ds_cnn", dataset, weights=weights))
    bench.finetune_and_score("flat8", resolve_config("flat8", benchmark.network()[1]), run / cell, epochs=1)
    return run / cell
