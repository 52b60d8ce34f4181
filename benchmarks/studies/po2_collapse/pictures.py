"""Pictures of the comparison: scores by rule, what each cause costs, and runs side by side over their epochs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.studies.po2_collapse.cells import KEY, folder_of
from benchmarks.studies.po2_collapse.rules import CAUSES, EXACT, FLOAT, LEARNED, LEARNED_ACTIVATIONS, STOCK
from po2quant.diagnostics.measurement import BIAS, KERNEL, load_measurements
from po2quant.diagnostics.plots import draw_curves
from po2quant.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION, new_figure, save_figure
from po2quant.files import read_csv
from po2quant.report.plots import draw_epochs
from po2quant.runs.names import DIAGNOSTICS_CSV, EPOCHS_CSV

Row = dict[str, str]
COLORS = {FLOAT: BLACK, STOCK: VERMILLION, EXACT: BLUE, LEARNED: GREEN, LEARNED_ACTIVATIONS: ORANGE}
PANELS = (("update_relative_mean", KERNEL), ("zero_ratio", KERNEL), ("zero_ratio", BIAS))


def plot_rules(rows: Sequence[Row], configs: Sequence[str], rules: Sequence[str], path: Path) -> Path | None:
    """Draw the score after training of each width and rule, without a penalty."""
    plain = [row for row in _plain(rows) if row["score_trained"]]
    shown = [config for config in configs if any(row["config"] == config for row in plain)]
    if not shown:
        return None
    figure = _figure(rows, 6.4, 4.0)
    axes = figure.add_subplot(title=f"{rows[0]['metric']} after training")
    width = 0.8 / len(rules)
    for index, rule in enumerate(rules):
        places = [place + index * width for place in range(len(shown))]
        axes.bar(places, [_mean(plain, config, rule) for config in shown], width, label=rule, color=COLORS[rule])
    floats = [float(row["score_trained"]) for row in plain if row["rule"] == FLOAT]
    if floats:
        axes.axhline(statistics.fmean(floats), color=COLORS[FLOAT], linestyle="--", label="float, trained alike")
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(shown))], shown)
    figure.legend(loc="outside right upper", fontsize=8)
    return save_figure(figure, path)


def plot_causes(rows: Sequence[Row], config: str, path: Path) -> Path | None:
    """Draw the score with each cause alone, and with all but it, before and after training."""
    plain = [row for row in _plain(rows) if row["config"] == config]
    if not any(row["rule"].startswith((f"{EXACT}+", f"{STOCK}-")) for row in plain):
        return None
    figure = _figure(rows, 9.0, 3.8)
    stages = {"score_calibrated": "before training", "score_trained": "after training"}
    places = range(len(CAUSES))
    for axes, (column, title) in zip(figure.subplots(1, 2, sharey=True), stages.items(), strict=True):
        axes.set_title(f"{config}, {title}")
        for base, sign, shift in ((EXACT, "+", -0.2), (STOCK, "-", 0.2)):
            values = [_mean(plain, config, f"{base}{sign}{cause}", column) for cause in CAUSES]
            axes.barh(
                [place + shift for place in places], values, 0.4, color=COLORS[base], label=f"{base} {sign} cause"
            )
            axes.axvline(_mean(plain, config, base, column), color=COLORS[base], linestyle="--", label=base)
        axes.set_yticks(places, CAUSES)
        axes.set_xlabel(rows[0]["metric"])
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    return save_figure(figure, path)


def plot_runs(rows: Sequence[Row], config: str, runs: Path, path: Path) -> Path | None:
    """Draw the first seed's runs side by side: score and loss over epochs, updates and zeros of each layer.

    Returns:
        The path, or None where the run folders are gone.
    """
    found: dict[str, tuple[str, Path]] = {}
    shown = [row for row in rows if row["config"] == config and row["rule"] in COLORS]
    for row in sorted(shown, key=lambda row: (list(COLORS).index(row["rule"]), row["l2"], int(row["seed"]))):
        folder = folder_of(tuple(row[name] for name in KEY), runs)
        if (folder / DIAGNOSTICS_CSV).exists() and (folder / EPOCHS_CSV).exists():
            label = row["rule"] if float(row["l2"]) == 0.0 else f"{row['rule']}, L2 {float(row['l2']):g}"
            found.setdefault(label, (row["rule"], folder))
    if not found:
        return None
    figure = _figure(rows, max(6.4, 3.4 * len(found)), 2.2 * (2 + len(PANELS)))
    grid = figure.subplots(2 + len(PANELS), len(found), squeeze=False, sharex="col", sharey="row")
    for column, (label, (rule, folder)) in zip(grid.T, found.items(), strict=True):
        column[0].set_title(label)
        _draw_epochs(column[0], column[1], read_csv(folder / EPOCHS_CSV), rows[0]["metric"], COLORS[rule])
        measurements = load_measurements(folder / DIAGNOSTICS_CSV)
        for axes, (measure, part) in zip(column[2:], PANELS, strict=True):
            draw_curves(axes, measurements, measure, part)
        column[-1].set_xlabel("epoch")
    names = (rows[0]["metric"], "loss", "kernel: mean update\n/ mean value", "kernel: zeros", "bias: zeros")
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=8)
    return save_figure(figure, path)


def _draw_epochs(score_axes: Any, loss_axes: Any, rows: Sequence[Mapping[str, str]], metric: str, color: str) -> None:
    for axes, name in ((score_axes, metric), (loss_axes, "loss")):
        draw_epochs(axes, rows, name, color, (":", "--", "-"))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6)


def _plain(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if float(row["l2"]) == 0.0]


def _mean(rows: Sequence[Row], config: str, rule: str, column: str = "score_trained") -> float:
    values = [float(row[column]) for row in rows if (row["config"], row["rule"]) == (config, rule) and row[column]]
    return statistics.fmean(values) if values else float("nan")


def _figure(rows: Sequence[Row], width: float, height: float) -> Figure:
    epochs, seeds = (", ".join(sorted({row[name] for row in rows})) for name in ("epochs", "seed"))
    return new_figure(f"{rows[0]['model']}, {rows[0]['data']}, epochs: {epochs}, seeds: {seeds}", width, height)
