"""All configurations of a network under all kinds of scales: resumable, cell by cell, into one results file."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from po2quant.bit_config import FLOAT, BitConfig
from po2quant.files import read_csv, write_csv
from po2quant.graphs import graphs_released
from po2quant.report.results import check_results, merge_records, read_records, result_records
from po2quant.runs.folder import check_same
from po2quant.runs.names import EPOCHS_CSV, FLOAT_FOLDER, RESULTS_CSV
from po2quant.runs.request import MatrixRequest, NetworkRequest
from po2quant.training.finetune import Experiment, Workbench
from po2quant.training.prepare import resolve_config


def run_matrix(
    experiment: Experiment, request: MatrixRequest, folder: Path, results: Path, say: Callable[[str], None]
) -> None:
    """Score the float network, and each configuration under each kind of scales before and after fine-tuning.

    A cell that ``folder`` already has a result of is not run again.

    Args:
        experiment: network, data, weights and seed; its alpha is ignored.
        request: configurations, kinds of scales and epochs.
        folder: run folder; one folder per cell inside.
        results: CSV file that gets the rows of each cell as soon as it is done; a Markdown table beside it.
        say: shows a line.

    Raises:
        ValueError: for two configuration files of one name, or a configuration with scales of its own under several
            alphas, which would share a row, for a cell that was made of another file, and for results that are no CSV
            file.
    """
    _check_names(request.configs)
    widths_of = {config: resolve_config(config, experiment.spec, experiment.network) for config in request.configs}
    _check_scales(widths_of.values(), request.alphas)
    check_results(results)
    results.parent.mkdir(parents=True, exist_ok=True)
    experiment = dataclasses.replace(experiment, resume=True, folded=experiment.network)
    experiment = experiment.with_float_weights(folder / FLOAT_FOLDER)
    epochs = experiment.recipe.epochs if request.epochs is None else request.epochs

    def run_cell(bench: Callable[[], Workbench], cell: NetworkRequest, score_of_float: float | None) -> float:
        is_float = cell.config == FLOAT
        path = folder / (FLOAT_FOLDER if is_float else f"{cell.name}-{cell.alpha}")
        check_same(path, cell)
        cell.save(path)
        records = read_records(path / RESULTS_CSV)
        if not records:
            result = bench().finetune_and_score(
                cell.config, widths_of.get(cell.config), path, 0 if is_float else epochs
            )
            if is_float and (path / EPOCHS_CSV).exists():
                result = dataclasses.replace(result, **_training_of(path))
            write_csv(path / RESULTS_CSV, result_records([result], bench().experiment, cell.command(), score_of_float))
            records = read_records(path / RESULTS_CSV)
        merge_records(results, records)
        scores = ", ".join(f"{record['stage']} {float(record['score']):.4f}" for record in records)
        scales = FLOAT if is_float else cell.alpha
        say(f"seed {cell.seed} {cell.config} {scales}: {records[0]['metric']} {scores}")
        return float(records[0]["float_score"])

    float_score = run_cell(_lazy_bench(experiment), request.cell(config=FLOAT, epochs=0), None)
    for alpha in request.alphas:
        with graphs_released():
            bench = _lazy_bench(dataclasses.replace(experiment, alpha=alpha, folded=experiment.network))
            for config in request.configs:
                run_cell(
                    bench,
                    request.cell(config=config, alpha=alpha, epochs=epochs, reconstruct=request.reconstruct),
                    float_score,
                )


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


def _training_of(folder: Path) -> dict[str, Any]:
    rows = read_csv(folder / EPOCHS_CSV)
    return {"epochs": len(rows), "seconds": round(sum(float(row["seconds"]) for row in rows), 1)}
