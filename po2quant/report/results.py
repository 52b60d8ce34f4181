"""Results as CSV, one row per configuration and stage, and the table that sums them up."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from po2quant.bit_config import AUTO, AUTO_PO2
from po2quant.cost import BITS_PER_KIB
from po2quant.files import locked, open_replacement, read_csv, write_csv
from po2quant.runs.folder import check_writable, project_commit

if TYPE_CHECKING:
    from po2quant.benchmark import Score
    from po2quant.training.finetune import Experiment, Result

CALIBRATED, RECONSTRUCTED, FINETUNED = "calibrated", "reconstructed", "finetuned"
STAGES = {CALIBRATED: "untrained", RECONSTRUCTED: "reconstructed", FINETUNED: "fine-tuned"}
"""What the columns of a table call the stages; that of reconstruction stands there where some row has it."""
KEY = ("benchmark", "model", "config", "alpha", "stage", "seed")
RECIPE = "recipe"
"""Column of the preset that trained a row's network; empty where nothing was trained, and in files of before."""
_CONFIGS = ("float", "mpq", "flat16", "flat8", "flat4", "w8a8", "w4a8", "w4a4", "w3a4", "w2a8")
_FIRST_COLUMNS = ("config", "KiB", "bits/weight", "bits/activation")
_COMPARED_ALPHAS = (AUTO, AUTO_PO2)


def result_records(
    results: Sequence[Result], experiment: Experiment, command: str, float_score: float | None = None
) -> list[dict[str, Any]]:
    """Return the rows of ``results.csv``.

    Args:
        results: compared configurations.
        experiment: what they were measured on.
        command: command line that made the results.
        float_score: score of the float network, where no float configuration is among the results.

    Returns:
        One row per result and stage (``calibrated``: before training; ``reconstructed``; ``finetuned``).
    """
    dataset = experiment.dataset
    float_score = next((result.calibrated.value for result in results if result.alpha == "float"), float_score)
    commit = project_commit()
    records = []
    for result in results:
        for stage in STAGES:
            score: Score | None = getattr(result, stage)
            if score is None:
                continue
            is_float = result.alpha == "float"
            trained = stage != CALIBRATED or is_float
            records.append(
                {
                    "benchmark": experiment.benchmark.name,
                    "model": experiment.model,
                    "config": result.config,
                    "alpha": result.alpha,
                    "stage": stage,
                    "metric": score.metric,
                    "score": round(score.value, 6),
                    "float_score": None if float_score is None else round(float_score, 6),
                    "size_bits": result.size_bits,
                    "bits_per_layer": _rounded(result, "per_layer"),
                    "bits_per_parameter": _rounded(result, "per_parameter"),
                    "bits_per_activation": _rounded(result, "per_activation"),
                    "data": dataset.describe(),
                    "train_samples": len(dataset.train) if dataset.train else 0,
                    "test_samples": score.samples,
                    "epochs": result.epochs if trained else 0,
                    "seed": experiment.seed,
                    "seconds": result.seconds if trained else 0,
                    "commit": commit,
                    "command": command,
                    "details": " ".join(f"{name}={value:.6f}" for name, value in score.details.items()),
                    "validation": None if not trained or result.validation is None else f"{result.validation:.6g}",
                    RECIPE: experiment.preset if stage == FINETUNED or (is_float and result.epochs) else None,
                }
            )
    return records


def _rounded(result: Result, part: str) -> float:
    return 32.0 if result.average is None else round(getattr(result.average, part), 3)


def read_records(path: Path) -> list[dict[str, str]]:
    """Return the rows of a results file, none where there is no file.

    Raises:
        ValueError: for a file without the columns that tell rows apart.
    """
    records = read_csv(path, missing_ok=True)
    for record in records:
        if missing := [column for column in KEY if not record.get(column)]:
            raise ValueError(f"a row of results needs {', '.join(KEY)}. Received: {path} without {', '.join(missing)}")
    return records


def check_results(path: Path) -> None:
    """Raise ValueError for what is no results file, and not the place for a new one."""
    if path.suffix != ".csv":
        raise ValueError(f"the results must be a .csv file. Received: {path}")
    check_writable(path.parent)
    read_records(path)


def merge_records(path: Path, records: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Bring rows into a results file, in the place of rows with the same key, and its table into the ``.md`` beside.

    Several processes may do so at the same time.
    """
    with locked(path.parent):
        merged = {_key(record): record for record in read_records(path)}
        for record in records:
            fresh = {name: "" if value is None else str(value) for name, value in record.items()}
            merged[_key(fresh)] = fresh
        rows = sorted(merged.values(), key=_order)
        write_csv(path, rows)
        with open_replacement(path.with_suffix(".md")) as file:
            file.write(markdown_tables(rows))
    return rows


def _key(record: Mapping[str, str]) -> tuple[str, ...]:
    return (*(record[column] for column in KEY), record.get(RECIPE, ""))


def _order(record: Mapping[str, str]) -> tuple[Any, ...]:
    config = record["config"]
    place = _CONFIGS.index(config) if config in _CONFIGS else len(_CONFIGS)
    last = (record["alpha"], int(record["seed"]), record["stage"], record.get(RECIPE, ""))
    return (*_key(record)[:2], place, config, *last)


def markdown_tables(records: Sequence[Mapping[str, str]]) -> str:
    """Return a table per network: a row per configuration, scores as means over the seeds ± standard deviation."""
    tables = []
    for (benchmark, model), network in itertools.groupby(
        sorted(records, key=_order), key=lambda row: (row["benchmark"], row["model"])
    ):
        rows = list(network)
        alphas = list(dict.fromkeys([*_COMPARED_ALPHAS, *(row["alpha"] for row in rows if row["alpha"] != "float")]))
        shown = _columns_of(rows, alphas)
        columns = [*_FIRST_COLUMNS, *(f"`{alpha}` {name}" for (alpha, *_), name in shown.items())]
        lines = [f"**{benchmark}, {model}** ({rows[0]['metric']}, {_data(rows)})", ""]
        lines += [_line(columns), _line(["---"] * len(columns))]
        for config, group in itertools.groupby(rows, key=lambda row: row["config"]):
            lines.append(_line(_markdown_row(config, list(group), list(shown))))
        tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)


def _columns_of(rows: Sequence[Mapping[str, str]], alphas: Sequence[str]) -> dict[tuple[str, str, str], str]:
    """Return what a table calls each kind of scales, stage and recipe that its rows have; several recipes are named."""
    recipes = list(dict.fromkeys(row.get(RECIPE, "") for row in rows if row["stage"] == FINETUNED)) or [""]
    stages = {(CALIBRATED, ""): STAGES[CALIBRATED], (RECONSTRUCTED, ""): STAGES[RECONSTRUCTED]}
    for recipe in recipes:
        stages[FINETUNED, recipe] = STAGES[FINETUNED] + (f" ({recipe})" if len(recipes) > 1 else "")
    always = {(CALIBRATED, ""), (FINETUNED, recipes[0])}
    present = {_column(row) for row in rows}
    return {
        (alpha, *stage): name
        for alpha in alphas
        for stage, name in stages.items()
        if stage in always or (alpha, *stage) in present
    }


def _column(row: Mapping[str, str]) -> tuple[str, str, str]:
    return row["alpha"], row["stage"], row.get(RECIPE, "")


def _data(rows: Sequence[Mapping[str, str]]) -> str:
    seeds = sorted({int(row["seed"]) for row in rows})
    epochs = sorted({int(row["epochs"]) for row in rows if row["stage"] == FINETUNED})
    parts = [rows[0]["data"], f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"]
    if epochs:
        parts.append(f"fine-tuning epochs: {', '.join(map(str, epochs))}")
    return ", ".join(parts)


def _markdown_row(config: str, rows: Sequence[Mapping[str, str]], columns: Sequence[tuple[str, str, str]]) -> list[str]:
    first = rows[0]
    widths = [f"{float(first[name]):.2f}" for name in ("bits_per_parameter", "bits_per_activation")]
    cells = [config, f"{int(first['size_bits']) / BITS_PER_KIB:.1f}", *widths]
    if config == "float":
        return [*cells, _mean([float(row["score"]) for row in rows]), *[""] * (len(columns) - 1)]
    return [*cells, *(_mean([float(row["score"]) for row in rows if _column(row) == column]) for column in columns)]


def _mean(scores: Sequence[float]) -> str:
    if not scores:
        return ""
    deviation = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 and len(set(scores)) > 1 else ""
    return f"{statistics.fmean(scores):.4f}{deviation}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
