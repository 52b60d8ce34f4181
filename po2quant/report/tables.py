"""Tables for the terminal and for files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from po2quant.bit_config import MIXED, BitConfig
from po2quant.cost import BITS_PER_KIB, SUMMARY_COLUMNS, LayerShape, summary_rows
from po2quant.deploy.check import Check
from po2quant.report.results import RECONSTRUCTED
from po2quant.search.repeats import Candidate
from po2quant.tables import narrow_table
from po2quant.training.finetune import Result

CHECK_COLUMNS = ("layer", "class", "becomes")
CHOICE_COLUMNS = ("trial", "", "score", "metric", "standard error", "trainings")
OBSTACLE = "obstacle, see below"
RESULT_COLUMNS = (
    "config",
    "scales",
    "size KiB",
    "weight bits",
    "activation bits",
    "before training",
    RECONSTRUCTED,
    "fine-tuned",
    "validation",
)

BROKEN = {
    "activation bits": "activa-\ntion bits",
    RECONSTRUCTED: "recon-\nstructed",
    "fine-tuned": "fine-\ntuned",
    "validation": "valid-\nation",
}
"""Headings that are wider than what stands below them, in lines; others have a line for each word."""


def summary_table(layers: Sequence[LayerShape], config: BitConfig) -> Table:
    """Return the layer table of a configuration, with a total, and the kind of scales of each layer where they differ.

    Args:
        layers: the network.
        config: its widths and kinds of scales.
    """
    columns: tuple[str, ...] = SUMMARY_COLUMNS
    rows = summary_rows(layers, config)
    if config.scales == MIXED:
        alphas = config.alphas()
        columns, rows = (*columns, "scales"), [(*row, alphas.get(row[0], "")) for row in rows]
    return _table(columns, rows, last_is_total=True)


def result_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return one row of text per result, as :data:`RESULT_COLUMNS`."""
    return [
        (
            result.config,
            result.alpha,
            f"{result.size_bits / BITS_PER_KIB:.1f}",
            f"{result.average.per_parameter:.2f}" if result.average else "32",
            f"{result.average.per_activation:.2f}" if result.average else "32",
            f"{result.calibrated.value:.4f}",
            *(f"{score.value:.4f}" if score else "" for score in (result.reconstructed, result.finetuned)),
            "" if result.validation is None else f"{result.validation:.4g}",
        )
        for result in results
    ]


def result_table(results: Sequence[Result], title: str) -> Table:
    """Return the comparison of configurations; without the column of reconstruction where none was made."""
    shown = [name != RECONSTRUCTED or any(result.reconstructed for result in results) for name in RESULT_COLUMNS]
    columns, *rows = [list(itertools.compress(row, shown)) for row in (RESULT_COLUMNS, *result_rows(results))]
    return _table(columns, rows, title=title)


def choice_table(candidates: Sequence[Candidate]) -> Table:
    """Return the trials among which repeats chose, best first, and who cannot be told from the best."""
    rows = []
    for number, (row, is_worse) in enumerate(candidates):
        compared = "" if number == 0 else "worse" if is_worse else "not distinguishable from the best"
        error = "" if row.standard_error is None else f"{row.standard_error:.4f}"
        metric = "" if row.metric is None else f"{row.metric:.4f}"
        rows.append((row.trial_id, compared, f"{row.rank:.4f}", metric, error, str(row.repeats)))
    return _table(CHOICE_COLUMNS, rows, title="the best trials, trained again")


def check_table(found: Check) -> Table:
    """Return what each layer of a network becomes."""
    refused = {obstacle.layer for obstacle in found.obstacles}
    table = narrow_table()
    for column in CHECK_COLUMNS:
        table.add_column(column, overflow="fold")
    for layer in found.layers:
        becomes = OBSTACLE if layer.name in refused else layer.becomes
        table.add_row(Text(layer.name), Text(layer.class_name), Text(becomes))
    return table


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    last_is_total: bool = False,
    title: str | None = None,
) -> Table:
    table = narrow_table(title)
    for index, column in enumerate(columns):
        is_text = index < 2
        heading = column if is_text else BROKEN.get(column, column.replace(" ", "\n"))
        table.add_column(heading, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    for index, row in enumerate(rows):
        if last_is_total and index == len(rows) - 1:
            table.add_section()
        table.add_row(*row)
    return table
