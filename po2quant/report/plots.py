"""Pictures of searches and training runs; each says which data it was measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from po2quant.benchmark import Score
from po2quant.bit_config import FLOAT, BitConfig
from po2quant.cost import BITS_PER_KIB
from po2quant.figures import new_figure, save_figure
from po2quant.search.trial_log import COMPLETED, TrialRow
from po2quant.training.finetune import Result

PARTS = {"": "training", "val_": "validation", "test_": "test"}
KERNEL_COLOR, ACTIVATION_COLOR = "tab:blue", "tab:orange"


def plot_search(rows: Sequence[TrialRow], best: BitConfig, folder: Path, data: str) -> list[Path]:
    """Draw a search on ``data``: score and metric over trials, metric against size, bits per layer of the best.

    Returns:
        The paths of the pictures in ``folder``.
    """
    completed = [(number, row) for number, row in enumerate(rows, 1) if row.status == COMPLETED]
    numbers = [number for number, _ in completed]
    paths = []
    for key in ("score", "metric"):
        values = [getattr(row, key) for _, row in completed]
        running = [max(values[: index + 1]) for index in range(len(values))]
        figure, axes = _figure(f"{key} over trials", data)
        axes.plot(numbers, values, "o", label="trial")
        axes.step(numbers, running, where="post", label="best so far")
        axes.set(xlabel="trial", ylabel=key)
        axes.legend()
        paths.append(save_figure(figure, folder / f"{key}_over_trials.png"))
    paths.append(_plot_pareto([row for _, row in completed], folder / "metric_against_size.png", data))
    paths.append(plot_bits(best, folder / "bits_per_layer.png", data))
    return paths


def pareto_front(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the trials that no other beats in both size and metric, by size."""
    front: list[TrialRow] = []
    largest = -math.inf
    for metric, row in sorted(((row.metric or 0.0, row) for row in rows), key=lambda one: (one[1].size_bits, -one[0])):
        if metric > largest:
            front.append(row)
            largest = metric
    return front


def _plot_pareto(rows: Sequence[TrialRow], path: Path, data: str) -> Path:
    figure, axes = _figure("metric against size", data)
    front, chosen = pareto_front(rows), max(rows, key=lambda row: row.score or 0.0)
    axes.plot([row.size_ratio for row in rows], [row.metric for row in rows], "o", label="trial")
    axes.step([row.size_ratio for row in front], [row.metric for row in front], where="post", label="Pareto front")
    axes.plot(chosen.size_ratio, chosen.metric, "*", markersize=14, label="best score")
    axes.set(xlabel="size / reference size", ylabel="metric")
    axes.legend()
    return save_figure(figure, path)


def plot_bits(config: BitConfig, path: Path, data: str) -> Path:
    """Draw the widths of kernels and activations in network order."""
    figure, axes = _figure("bits per layer", data, width=max(6.4, 0.28 * len(config.layers)))
    names = list(config.layers)
    widths = [bits.kernel or bits.activation for bits in config.layers.values()]
    colors = [KERNEL_COLOR if bits.kernel else ACTIVATION_COLOR for bits in config.layers.values()]
    axes.bar(range(len(names)), widths, color=colors)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set(ylabel="bits")
    for color, label in ((KERNEL_COLOR, "kernel"), (ACTIVATION_COLOR, "activation")):
        axes.bar(0, 0, color=color, label=label)
    axes.legend()
    return save_figure(figure, path)


def plot_epochs(rows: Sequence[dict[str, Any]], folder: Path, data: str) -> list[Path]:
    """Draw loss and metrics over epochs: training, validation and test, as far as they were logged."""
    names = dict.fromkeys(
        key.removeprefix(part) for part in ("val_", "test_") for key in rows[0] if key.startswith(part)
    )
    paths = []
    for name in names:
        figure, axes = _figure(f"{name} over epochs", data)
        draw_epochs(axes, rows, name)
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend()
        paths.append(save_figure(figure, folder / f"{name}_over_epochs.png"))
    return paths


def draw_epochs(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    name: str,
    color: str | None = None,
    styles: Sequence[str] = ("-", "-", "-"),
) -> None:
    """Draw a value over epochs on given axes: training, validation and test, each with its line style."""
    epochs = [int(float(row["epoch"])) for row in rows]
    for (part, label), style in zip(PARTS.items(), styles, strict=True):
        if part + name in rows[0]:
            values = [float(row[part + name]) for row in rows]
            axes.plot(epochs, values, style, marker=".", color=color, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_confusion(score: Score, path: Path, data: str) -> Path:
    """Draw how many samples of each class (row) were taken for each class (column)."""
    classes = range(len(score.confusion))
    figure, axes = _figure(f"{score.metric} {score.value:.4f}", data, grid=False)
    axes.imshow(score.confusion, cmap="Blues")
    limit = max(map(max, score.confusion)) / 2
    for row in classes:
        for column in classes:
            count = score.confusion[row][column]
            color = "white" if count > limit else "black"
            axes.text(column, row, count, ha="center", va="center", color=color, fontsize=7)
    axes.set(xlabel="predicted class", ylabel="class", xticks=classes, yticks=classes)
    return save_figure(figure, path)


def plot_comparison(results: Sequence[Result], path: Path, data: str) -> Path:
    """Draw score against size for each configuration, before and after it was reconstructed or fine-tuned."""
    figure, axes = _figure("score against size", data)
    for row in results:
        scores = [score.value for score in (row.calibrated, row.reconstructed, row.finetuned) if score is not None]
        sizes = [row.size_bits / BITS_PER_KIB] * len(scores)
        (line,) = axes.plot(sizes, scores, "o-", label=row.config)
        if row.config != FLOAT:
            axes.plot(sizes[0], scores[0], "o", color=line.get_color(), markerfacecolor="white")
    axes.set(xlabel="size in KiB (white: before training)", ylabel=results[0].calibrated.metric)
    axes.legend()
    return save_figure(figure, path)


def _figure(title: str, data: str, width: float = 6.4, grid: bool = True) -> tuple[Figure, Any]:
    figure = new_figure(data, width)
    axes = figure.add_subplot(title=title)
    if grid:
        axes.grid(alpha=0.3)
    return figure, axes
