"""Diagnose a run folder or a weight file: numbers, findings and pictures."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from po2quant.bit_config import BitConfig
from po2quant.diagnostics.arrays import ArraySummary, FileSummary, summarize
from po2quant.diagnostics.findings import Finding, find, find_in_arrays
from po2quant.diagnostics.measurement import ACTIVATION, Measurement, load_measurements, measure
from po2quant.diagnostics.plots import plot_diagnostics
from po2quant.files import one_line, read_csv, read_json
from po2quant.runs.names import (
    BEST_CONFIG,
    BEST_WEIGHTS,
    DIAGNOSTICS_CSV,
    ENVIRONMENT_FILE,
    EPOCHS_CSV,
    MODEL_FILE,
    PLOTS_FOLDER,
    REQUEST_FILE,
)
from po2quant.runs.request import read_request
from po2quant.tables import narrow_table
from po2quant.weight_files import read_weight_file, write_checked_model

NUMBER, PERCENT = "{:.3g}", "{:.1%}"
SHOWN_MEASURES = {
    "bits": ("bits", "{}"),
    "update_relative_mean": ("mean update", PERCENT),
    "flip_ratio": ("changed", PERCENT),
    "zero_ratio": ("zeros", PERCENT),
    "clip_ratio": ("clip", PERCENT),
    "exponent_mean": ("mean exp.", NUMBER),
    "effective_bits": ("bits used", NUMBER),
    "sqnr_db": ("SQNR dB", NUMBER),
    "network_sqnr_db": ("at output", NUMBER),
}
SHOWN_OF_ARRAYS = {
    "shape": ("shape", "{}"),
    "minimum": ("least", NUMBER),
    "maximum": ("largest", NUMBER),
    "mean_abs": ("mean size", NUMBER),
    "zero_ratio": ("zeros", PERCENT),
    "levels": ("levels", "{}"),
    "effective_bits": ("bits used", NUMBER),
}
"""Attributes that are shown: what their columns are called, and how a value is written."""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What is known of a run or a weight file.

    Args:
        source: the run folder or the file.
        data: what it was measured on.
        rows: measurements by epoch; those of the weights alone where no more is known; empty for a float network.
        arrays: what the weight file holds.
        findings: what stands out, the worst first.
        pictures: paths of the pictures.
    """

    source: Path
    data: str
    rows: tuple[Measurement, ...]
    arrays: tuple[ArraySummary, ...]
    findings: tuple[Finding, ...]
    pictures: tuple[Path, ...]

    @property
    def last_rows(self) -> list[Measurement]:
        """The measurements of the last epoch."""
        return [row for row in self.rows if row.epoch == self.rows[-1].epoch]

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        found = [f"{finding.severity}: {finding.text}" for finding in self.findings]
        return found or ["nothing stands out"]

    def table(self) -> Table:
        """Return what is known of each tensor after the last epoch, or of each array of a float network, to print."""
        if self.rows:
            return _table(self.last_rows, SHOWN_MEASURES)
        return _table(self.arrays, SHOWN_OF_ARRAYS)

    def to_dict(self) -> dict[str, Any]:
        """Return findings, the rows of the last epoch and the arrays as JSON can hold them.

        An infinite ratio becomes ``"inf"``, as in the CSV file.
        """
        return {
            "source": str(self.source),
            "data": self.data,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "rows": [_for_json(row) for row in self.last_rows],
            "arrays": [_for_json(array) for array in self.arrays],
            "pictures": [str(path) for path in self.pictures],
        }


def diagnose(
    path: Path, output_dir: Path | None = None, inputs: np.ndarray | Sequence[np.ndarray] | None = None
) -> Diagnosis:
    """Return what a run folder or a weight file tells.

    A run that was recorded has ``diagnostics.csv``, with every epoch. Of another run, the network itself is measured on
    ``inputs`` if it was saved, and else its frozen weights alone.

    Args:
        path: run folder, or a Keras ``.weights.h5``, ``.keras`` or ``.h5`` file.
        output_dir: where the pictures go; by default into ``plots/`` of the run folder. A file alone gets none then.
        inputs: network inputs to measure a run with that was not recorded.

    Raises:
        ValueError: where there is nothing to diagnose, or a file is damaged.
    """
    if not path.is_dir():
        content: FileSummary | None = summarize(read_weight_file(path))
        rows, losses, data = [], {}, path.name
    else:
        weights = path / BEST_WEIGHTS
        content = summarize(read_weight_file(weights), _layer_order(path / BEST_CONFIG)) if weights.is_file() else None
        rows, losses, data = _rows_of_run(path, inputs), _losses(path / EPOCHS_CSV), _data(path / ENVIRONMENT_FILE)
        output_dir = output_dir or path / PLOTS_FOLDER
    if content is None and not rows:
        raise ValueError(f"{path} must be a run folder: it holds neither {DIAGNOSTICS_CSV} nor {BEST_WEIGHTS}")
    arrays, tensors = ((), ()) if content is None else (content.arrays, content.tensors)
    rows = rows or [measure(0, tensor) for tensor in tensors]
    findings = find(rows, losses) if rows else find_in_arrays(arrays)
    pictures = plot_diagnostics(rows, output_dir, data, _subject(path)) if output_dir and rows else []
    return Diagnosis(path, data, tuple(rows), arrays, tuple(findings), tuple(pictures))


def _rows_of_run(folder: Path, inputs: np.ndarray | Sequence[np.ndarray] | None) -> list[Measurement]:
    """Return what was recorded in a run folder, or what its network does with ``inputs`` now, or nothing."""
    if (folder / DIAGNOSTICS_CSV).is_file():
        return load_measurements(folder / DIAGNOSTICS_CSV)
    if inputs is None or not (folder / MODEL_FILE).is_file():
        return []
    import keras

    from po2quant.diagnostics.probe import Probe

    path = folder / MODEL_FILE
    with tempfile.TemporaryDirectory() as temporary:
        checked = Path(temporary) / MODEL_FILE
        write_checked_model(path, checked)
        try:
            model = keras.models.load_model(checked)
        except Exception as error:  # Keras lets whatever a wrong description causes pass
            raise ValueError(f"{path} holds no network that Keras can load: {one_line(error)}") from error
    return [measure(0, tensor) for tensor in Probe(model, inputs)()]


def _subject(path: Path) -> str:
    """Return the network and the configuration of a run, or else the name of its folder or file."""
    if not (path / REQUEST_FILE).is_file():
        return path.name
    request = read_request(path)
    named = request.benchmark or (request.network or path).stem, request.model, getattr(request, "name", "")
    return " ".join(filter(None, named)) + f", {request.alpha}"


def _layer_order(config: Path) -> list[str]:
    return list(BitConfig.load(config).layers) if config.is_file() else []


def _losses(table: Path) -> dict[int, float]:
    try:
        return {int(row["epoch"]): float(row["loss"]) for row in read_csv(table, missing_ok=True)}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"epochs must be a CSV file with epoch and loss. Received: {table} ({error})") from None


def _data(environment: Path) -> str:
    """Return the data of a run, or else the name of its folder."""
    known = read_json(environment, "the environment of a run") if environment.is_file() else {}
    return str(known.get("data", environment.parent.name))


def _table(records: Sequence[Measurement | ArraySummary], columns: Mapping[str, tuple[str, str]]) -> Table:
    """Return a table of those attributes that any record has."""
    known = [name for name in columns if any(getattr(record, name) is not None for record in records)]
    table = narrow_table()
    table.add_column("tensor", overflow="fold")
    for name in known:
        table.add_column(columns[name][0].replace(" ", "\n"), justify="right", no_wrap=True)
    for record in records:
        table.add_row(_tensor(record), *(_cell(getattr(record, name), columns[name][1]) for name in known))
    return table


def _tensor(record: Measurement | ArraySummary) -> str:
    part = record.part if isinstance(record, Measurement) else record.array
    return record.layer if part == ACTIVATION else f"{record.layer} {part}"


def _cell(value: Any, form: str) -> str:
    if value is None:
        return ""
    return "x".join(map(str, value)) if isinstance(value, tuple) else form.format(value)


def _for_json(record: Measurement | ArraySummary) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in dataclasses.asdict(record).items()
    }
