"""What a run folder holds, read without TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from po2quant.bit_config import BitConfig
from po2quant.cost import BITS_PER_KIB, LayerShape
from po2quant.diagnostics.arrays import summarize
from po2quant.diagnostics.findings import Finding, find
from po2quant.diagnostics.measurement import Measurement, load_measurements
from po2quant.files import one_line, read_csv, read_json
from po2quant.report.record import Histogram, histograms_of, load_histograms, load_layers
from po2quant.runs.names import (
    BEST_CONFIG,
    BEST_WEIGHTS,
    COMPARISON_FOLDER,
    DIAGNOSTICS_CSV,
    ENVIRONMENT_FILE,
    EPOCHS_CSV,
    EXPORTS_CSV,
    FLOAT_FOLDER,
    FRONT_CSV,
    RESULTS_CSV,
    SCORES_FILE,
    TRIALS_CSV,
)
from po2quant.runs.request import MatrixRequest, RunRequest, SearchRequest, read_request
from po2quant.weight_files import read_weight_file

Rows = Sequence[Mapping[str, str]]
Kind = Callable[[str], object]
OF_POINTS = ("point", "metric", "standard_error", "score", "config", "weights")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds; what it does not hold is empty.

    Args:
        folder: the run folder.
        label: what the report calls the run.
        request: what the run was asked for.
        environment: versions, machine, data.
        results: rows of ``results.csv``.
        curves: rows of ``epochs.csv`` by the network that was trained.
        trials: completed trials of a search.
        front: rows of ``front.csv``.
        layers: what the accounting of sizes knows of the network.
        config: bit widths of the network that was found or trained.
        scores: content of ``scores.json`` of that network.
        measurements: rows of ``diagnostics.csv``.
        histograms: how the tensors of the network lie on their grids.
        exports: sizes in bytes by exported form.
    """

    folder: Path
    label: str
    request: RunRequest
    environment: Mapping[str, Any]
    results: Rows
    curves: Mapping[str, Rows]
    trials: Rows
    front: Rows
    layers: Sequence[LayerShape]
    config: BitConfig | None
    scores: Mapping[str, Any]
    measurements: Sequence[Measurement]
    histograms: Sequence[Histogram]
    exports: Mapping[str, int]

    @property
    def network(self) -> str:
        """The task and the network."""
        task = self.request.benchmark or (self.request.network or Path("network")).stem
        return " ".join(filter(None, (task, self.request.model)))

    @property
    def subject(self) -> str:
        """The network and its configuration, for titles."""
        name = "" if self.config is None else getattr(self.request, "name", self.config.name)
        return ", ".join(filter(None, (self.network, name, self.request.alpha)))

    @property
    def data(self) -> str:
        """The data and their counts."""
        return str(self.environment.get("data", "data that the run folder does not name"))

    @property
    def metric(self) -> str:
        """Name of what scores the network."""
        named = [row.get("metric") for row in self.results]
        return named[0] if named and named[0] else "score"

    @property
    def float_score(self) -> float | None:
        """Test score of the float network, None where it is not known."""
        known = [row["float_score"] for row in self.results if row.get("float_score")]
        return float(known[0]) if known else None

    @functools.cached_property
    def findings(self) -> list[Finding]:
        """What stands out in the measurements, the worst first."""
        losses = {int(row["epoch"]): float(row["loss"]) for row in self.curves.get("", ()) if "loss" in row}
        return find(self.measurements, losses) if self.measurements else []


def read_run(folder: Path, label: str) -> Run:
    """Return what a run folder holds.

    Raises:
        ValueError: for a folder that holds no run, and for files that are damaged.
    """
    request = read_request(folder)
    home = _home(folder, request)
    weights, config, diagnostics = home / BEST_WEIGHTS, home / BEST_CONFIG, home / DIAGNOSTICS_CSV
    layers = load_layers(home) or load_layers(folder)
    widths = _in_order(BitConfig.load(config), layers) if config.is_file() else None
    histograms = load_histograms(home) or load_histograms(folder)
    if widths is not None and not histograms and weights.is_file():
        histograms = histograms_of(summarize(read_weight_file(weights), list(widths.layers)).tensors)
    return Run(
        folder,
        label,
        request,
        _json(folder / ENVIRONMENT_FILE, "the environment of a run"),
        _results(folder, request),
        _curves(folder),
        _rows(folder / TRIALS_CSV, TRIAL, status="completed"),
        read_csv(folder / FRONT_CSV, missing_ok=True),
        layers,
        widths,
        _scores(home / SCORES_FILE),
        load_measurements(diagnostics) if diagnostics.is_file() else [],
        histograms,
        {row["form"]: int(row["bytes"]) for row in _exports(home) + (_exports(folder) if home != folder else [])},
    )


def _in_order(config: BitConfig, layers: Sequence[LayerShape]) -> BitConfig:
    """Return a configuration in the order of the network's layers, as far as they are known."""
    order = {layer.name: place for place, layer in enumerate(layers)}
    names = sorted(config.layers, key=lambda name: order.get(name, len(order)))
    return dataclasses.replace(config, layers={name: config.layers[name] for name in names})


def _home(folder: Path, request: RunRequest) -> Path:
    """Return the folder of the network that a run is about: of a search, the best configuration, trained longest."""
    compared = folder / COMPARISON_FOLDER / "mpq"
    return compared if isinstance(request, SearchRequest) and (compared / SCORES_FILE).is_file() else folder


def _rows(path: Path, kinds: Mapping[str, Kind], **only: str) -> list[dict[str, str]]:
    """Return the rows of a table that have the values ``only`` in these columns, none where there is no file.

    Raises:
        ValueError: for such a row that lacks a column of ``kinds``, or has another kind of value there.
    """
    rows = [row for row in read_csv(path, missing_ok=True) if only.items() <= row.items()]
    for row, (name, kind) in itertools.product(rows, kinds.items()):
        try:
            kind(row[name])
        except (KeyError, ValueError, OverflowError):
            received = one_line(row.get(name, "no such column"))
            raise ValueError(f"{path}: {name} must be {KINDS[kind]}. Received: {received}") from None
    return rows


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


KINDS: dict[Kind, str] = {str: "text", int: "a whole number", float: "a number", _finite: "a finite number"}
RESULT: dict[str, Kind] = {"config": str, "alpha": str, "stage": str, "score": _finite, "size_bits": int}
TRIAL: dict[str, Kind] = {"trial_id": str, "score": _finite, "metric": _finite, "size_bits": int}
"""Columns of tables that a report needs, and what stands in them."""


def _exports(folder: Path) -> list[dict[str, str]]:
    return _rows(folder / EXPORTS_CSV, {"form": str, "bytes": int})


def _json(path: Path, content: str) -> dict[str, Any]:
    return read_json(path, content) if path.is_file() else {}


def _scores(path: Path) -> dict[str, Any]:
    """Return the content of ``scores.json``, whose confusion matrices are square and of counts."""
    scores = _json(path, "scores of a run")
    for score in filter(lambda value: isinstance(value, dict), scores.values()):
        matrix = score.get("confusion") or []
        lines = matrix if isinstance(matrix, list) else [matrix]
        cells = [cell for line in lines for cell in (line if isinstance(line, list) else [line])]
        if len(cells) != len(lines) ** 2 or not all(isinstance(cell, int) for cell in cells):
            raise ValueError(f"{path} must have square confusion matrices of counts. Received: {one_line(matrix)}")
    return scores


def _results(folder: Path, request: RunRequest) -> Rows:
    """Return the rows of results; those of a matrix stand one folder up, for all seeds."""
    rows = _rows(folder / RESULTS_CSV, RESULT)
    if not rows and isinstance(request, MatrixRequest):
        rows = _rows(folder.parent / RESULTS_CSV, RESULT)
        rows = [row for row in rows if row.get("seed") == str(request.seed) and row.get("model") == request.model]
    return rows


def _curves(folder: Path) -> dict[str, Rows]:
    """Return the learning curves of a run, and those of its float network and its cells by their names."""
    cells = sorted((folder / COMPARISON_FOLDER).glob("*")) if (folder / COMPARISON_FOLDER).is_dir() else []
    names = {"": folder} | {cell.name: cell for cell in cells} | {FLOAT_FOLDER: folder / FLOAT_FOLDER}
    curves: dict[str, Rows] = {}
    for name, place in names.items():
        columns = next(iter(read_csv(place / EPOCHS_CSV, missing_ok=True)), {})
        if rows := _rows(place / EPOCHS_CSV, {"epoch": float} | dict.fromkeys(columns, float)):
            curves[name] = rows
    return curves


@dataclasses.dataclass(frozen=True)
class Point:
    """A configuration of a front: what it reaches and what it costs.

    Args:
        trial: number of its trial.
        metric: value that the search maximises.
        error: its standard error, 0 where it is not known.
        kib: size in KiB.
        costs: the costs by name.
    """

    trial: str
    metric: float
    error: float
    kib: float
    costs: Mapping[str, float]


def points_of(run: Run) -> list[Point]:
    """Return the points of ``front.csv``, whose columns are costs unless they are :data:`OF_POINTS`, by size.

    Raises:
        ValueError: for a table without them, or of trials that the run does not have.
    """
    sizes = {row["trial_id"]: int(row["size_bits"]) / BITS_PER_KIB for row in run.trials}
    try:
        points = [
            Point(
                row["point"],
                float(row["metric"]),
                float(row["standard_error"] or 0.0),
                sizes[row["point"]],
                {name: float(value) for name, value in row.items() if name not in OF_POINTS},
            )
            for row in run.front
        ]
    except (KeyError, ValueError) as error:
        place = run.folder / FRONT_CSV
        raise ValueError(f"{place} must be the front of a search. Received: {one_line(repr(error))}") from None
    return sorted(points, key=lambda point: point.kib)
