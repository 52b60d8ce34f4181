"""Run folders of digits networks that were fine-tuned for an epoch."""

from __future__ import annotations

from pathlib import Path

from po2quant.benchmark import Benchmark, Dataset
from po2quant.runs.request import NetworkRequest
from po2quant.training.finetune import Experiment, Workbench
from po2quant.training.prepare import resolve_config


def fine_tuned_run(benchmark: Benchmark, dataset: Dataset, weights: Path, run: Path, cell: str = "") -> Path:
    """Fine-tune digits in 8 bits, in a run folder or in a cell of one; return where the network is."""
    NetworkRequest(model="ds_cnn", config="flat8", epochs=1).save(run / cell)
    bench = Workbench(Experiment(benchmark, "ds_cnn", dataset, weights=weights))
    bench.finetune_and_score("flat8", resolve_config("flat8", benchmark.network()[1]), run / cell, epochs=1)
    return run / cell
