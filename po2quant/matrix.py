"""All configurations of a network under all kinds of scales: resumable, cell by cell, into one results file."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from po2quant.bit_config import FLOAT, BitConfig
from po2quant.files import read_csv, write_csv
from po2quant.graphs import graphs_released
from po2quant.report.results import merge_records, read_records, result_records
from po2quant.runs.names import EPOCHS_CSV, RESULTS_CSV
from po2quant.training.finetune import Experiment, Workbench
from po2quant.training.prepare import resolve_config

CONFIGS = ("mpq", "flat16", "flat8", "flat4")


def run_matrix(
    experiment: Experiment,
    configs: Sequence[str],
    alphas: Sequence[str],
    epochs: int,
    folder: Path,
    results: Path,
    command: Callable[[str, str], Sequence[Any]],
    say: Callable[[str], None],
) -> None:
    """Score the float network, and each configuration under each kind of scales before and after fine-tuning.

    A cell that ``folder`` already has a result of is not run again.

    Args:
        experiment: network, data, weights and seed; its alpha is ignored.
        configs: names or files of configurations.
        alphas: kinds of scales.
        epochs: epochs of fine-tuning.
        folder: run folder; one folder per cell inside.
        results: CSV file that gets the rows of each cell as soon as it is done; a Markdown table beside it.
        command: returns the words of the command that makes one cell, given configuration and alpha.
        say: shows a line.

    Raises:
        ValueError: for two configuration files of one name, or a configuration with scales of its own under several
            alphas, which would share a row, and for results that are no CSV file.
    """
    _check_names(configs)
    widths_of = {config: resolve_config(config, experiment.spec, experiment.network) for config in configs}
    _check_scales(widths_of.values(), alphas)
    if results.suffix != ".csv":
        raise ValueError(f"the results must be a .csv file. Received: {results}")
    results.parent.mkdir(parents=True, exist_ok=True)
    read_records(results)  # a damaged file is named before anything runs
    is_trained_here = experiment.weights is None
    experiment = dataclasses.replace(experiment, resume=True, folded=experiment.network).with_float_weights(
        folder / FLOAT
    )

    def run_cell(bench: Callable[[], Workbench], config: str, alpha: str, score_of_float: float | None) -> float:
        cell = folder / (FLOAT if alpha == FLOAT else f"{Path(config).stem}-{alpha}")
        records = read_records(cell / RESULTS_CSV)
        if not records:
            widths = widths_of.get(config)
            result = bench().finetune_and_score(config, widths, cell, 0 if widths is None else epochs)
            if widths is None and is_trained_here:
                result = dataclasses.replace(result, **_training_of(folder / FLOAT))
            words = shlex.join(map(str, command(config, alpha)))
            write_csv(cell / RESULTS_CSV, result_records([result], bench().experiment, words, score_of_float))
            records = read_records(cell / RESULTS_CSV)
        merge_records(results, records)
        scores = ", ".join(f"{record['stage']} {float(record['score']):.4f}" for record in records)
        say(f"seed {experiment.seed} {config} {alpha}: {records[0]['metric']} {scores}")
        return float(records[0]["float_score"])

    float_score = run_cell(_lazy_bench(experiment), FLOAT, FLOAT, None)
    for alpha in alphas:
        with graphs_released():
            bench = _lazy_bench(dataclasses.replace(experiment, alpha=alpha, folded=experiment.network))
            for config in configs:
                run_cell(bench, config, alpha, float_score)


def _lazy_bench(experiment: Experiment) -> Callable[[], Workbench]:
    return functools.cache(lambda: Workbench(experiment))


def _check_scales(configs: Iterable[BitConfig | None], alphas: Sequence[str]) -> None:
    for config in configs:
        if config is not None and len(alphas) > 1 and any(bits.alpha for bits in config.layers.values()):
            raise ValueError(
                f"configuration {config.name!r} has kinds of scales of its own: give it one alpha. "
                f"Received: {', '.join(alphas)}"
            )


def _check_names(configs: Sequence[str]) -> None:
    by_name: dict[str, str] = {}
    for config in configs:
        if by_name.setdefault(Path(config).stem, config) != config:
            raise ValueError(
                "configuration files of a matrix must have different names, which name their cells. "
                f"Received: {by_name[Path(config).stem]} and {config}"
            )


def _training_of(folder: Path) -> dict[str, float]:
    rows = read_csv(folder / EPOCHS_CSV)
    return {"epochs": len(rows), "seconds": round(sum(float(row["seconds"]) for row in rows), 1)}
