"""Pictures of searches and training runs; each names its network and configuration, and the data it was measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from po2quant.bit_config import FLOAT, BitConfig
from po2quant.cost import BITS_PER_KIB
from po2quant.figures import (
    BLACK,
    BLUE,
    MARKERS,
    ORANGE,
    PALETTE,
    SKY,
    VECTOR,
    VERMILLION,
    new_figure,
    save_figure,
    scale_by_decades,
)

if TYPE_CHECKING:
    from po2quant.benchmark import Score
    from po2quant.search.trial_log import TrialRow
    from po2quant.training.finetune import Result

PARTS = {"": "training", "val_": "validation", "test_": "test"}
STYLES = ("-", "--", ":")
BIT_COLORS = {"kernel": BLUE, "bias": SKY, "activation": ORANGE}
SIZE_LABEL = "size of weights and activations in KiB"
INCHES_OF_A_LAYER, TALLEST = 0.2, 60.0
MOST_NUMBERS = 20
"""Classes of a confusion matrix whose counts can be read when they are written into it."""

Places = Sequence[tuple[float, float]]
"""Sizes in KiB and values of a metric."""


def plot_search(
    rows: Sequence[TrialRow], best: BitConfig, folder: Path, data: str, subject: str = "", metric: str = "metric"
) -> list[Path]:
    """Draw a search: score and metric over trials, metric against size, bits per layer of the best.

    Args:
        rows: its trials.
        best: the configuration that it found.
        folder: where the pictures go.
        data: what it was measured on.
        subject: network and configuration, for the titles.
        metric: name of the metric.

    Returns:
        The paths of the pictures, each beside the same in formats for papers.
    """
    completed = [(number, row) for number, row in enumerate(rows, 1) if row.status == "completed"]
    numbers, paths = [number for number, _ in completed], []
    for key, label in (("score", f"score: {metric} x forgiving factor"), ("metric", f"{metric} (validation)")):
        figure, axes = figure_of(f"{key} over trials", subject, data)
        draw_progress(axes, numbers, [getattr(row, key) for _, row in completed], label)
        paths.append(_save(figure, folder / f"{key}_over_trials.png"))
    trials = [row for _, row in completed]
    figure, axes = figure_of("metric against size", subject, data)
    chosen = max(trials, key=lambda row: row.rank)
    places = [_place(row) for row in trials]
    draw_front(axes, places, [_place(row) for row in pareto_front(trials)], _place(chosen), f"{metric} (validation)")
    paths.append(_save(figure, folder / "metric_against_size.png"))
    paths.append(plot_bits(best, folder / "bits_per_layer.png", data, subject))
    return paths


def _place(row: TrialRow) -> tuple[float, float]:
    return row.size_bits / BITS_PER_KIB, row.metric or 0.0


def pareto_front(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the trials that no other beats in both size and metric, by size."""
    places = [(row.size_bits, row.metric or 0.0) for row in rows]
    return [rows[index] for index in unbeaten(places)]


def unbeaten(places: Places) -> list[int]:
    """Return the numbers of those sizes and metrics that no other beats in both, by size."""
    front, largest = [], -math.inf
    for index in sorted(range(len(places)), key=lambda index: (places[index][0], -places[index][1])):
        if places[index][1] > largest:
            front.append(index)
            largest = places[index][1]
    return front


def draw_progress(axes: Axes, numbers: Sequence[int], values: Sequence[float], label: str) -> None:
    """Draw a value of each trial, and the best so far."""
    running = [max(values[: index + 1]) for index in range(len(values))]
    axes.step(numbers, running, where="post", color=VERMILLION, label="best so far")
    axes.plot(numbers, values, "o", color=BLUE, markersize=5, label="trial")
    axes.set(xlabel="trial", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(axes)


def draw_front(
    axes: Axes,
    places: Places,
    front: Places,
    chosen: tuple[float, float] | None,
    label: str,
    errors: Sequence[float] = (),
) -> None:
    """Draw a metric against size: every trial, those that none beats, and the one that was chosen.

    Args:
        axes: where.
        places: sizes in KiB and metrics of all trials.
        front: of those that none beats in the metric and every cost.
        chosen: of the best score; None: there is none.
        label: name of the metric.
        errors: standard errors of the front's metrics; empty: not known.
    """
    if places:
        axes.plot(*zip(*places, strict=True), "o", color=BLUE, alpha=0.6, markersize=5, label="trial")
    if front:
        joined = [front[index] for index in unbeaten(front)]  # of several costs, others may lie on the front too
        axes.step(*zip(*joined, strict=True), where="post", color=VERMILLION, linewidth=1.2, label="Pareto front")
        if any(errors):
            sizes, metrics = zip(*front, strict=True)
            axes.errorbar(sizes, metrics, errors, fmt="s", color=VERMILLION, markersize=4, capsize=2)
    if chosen is not None:
        ring: dict[str, Any] = {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 1.5}
        axes.plot(*chosen, "o", label="best score", color=BLACK, **ring)
    scale_by_decades(axes, [size for size, _ in (*places, *front)])
    axes.set(xlabel=SIZE_LABEL, ylabel=label)
    legend_below(axes)


def plot_bits(config: BitConfig, path: Path, data: str, subject: str = "") -> Path:
    """Draw the widths of kernels, biases and activations in network order."""
    figure, axes = figure_of("bits per layer", subject, data, height=height_of_bits(config), grid=False)
    draw_bits(axes, config)
    return _save(figure, path)


def height_of_bits(config: BitConfig) -> float:
    """Return the height in inches at which the layers of a configuration can be read."""
    return min(TALLEST, 1.8 + INCHES_OF_A_LAYER * len(config.layers))


def draw_bits(axes: Axes, config: BitConfig) -> None:
    """Draw the widths of a configuration, a layer a line, its kernel above its bias."""
    drawn: dict[str, list[tuple[float, int]]] = {part: [] for part in BIT_COLORS}
    for place, bits in enumerate(config.layers.values()):
        widths = {part: getattr(bits, part) for part in BIT_COLORS}
        if widths["kernel"]:
            drawn["kernel"].append((place - 0.2, widths["kernel"]))
        if widths["bias"]:
            drawn["bias"].append((place + 0.2, widths["bias"]))
        if widths["activation"]:
            drawn["activation"].append((place, widths["activation"]))
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.3)
    for part, bars in drawn.items():
        if bars:
            places, lengths = zip(*bars, strict=True)
            thickness = 0.7 if part == "activation" else 0.36
            axes.barh(places, lengths, thickness, color=BIT_COLORS[part], label=part)
    names = list(config.layers)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="width in bits", ylim=(len(names) - 0.4, -0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(axes)


def plot_epochs(rows: Sequence[dict[str, Any]], folder: Path, data: str, subject: str = "") -> list[Path]:
    """Draw loss and metrics over epochs: training, validation and test, as far as they were logged."""
    paths = []
    for name in logged(rows[0]):
        figure, axes = figure_of(f"{name} over epochs", subject, data)
        draw_epochs(axes, rows, name)
        axes.set(xlabel="epoch", ylabel=name)
        legend_below(axes)
        paths.append(_save(figure, folder / f"{name}_over_epochs.png"))
    return paths


def logged(row: Mapping[str, Any]) -> list[str]:
    """Return the names of what was logged on validation or test data, without their prefix."""
    return list(
        dict.fromkeys(key.removeprefix(part) for part in ("val_", "test_") for key in row if key.startswith(part))
    )


def draw_epochs(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    name: str,
    color: str | None = None,
    styles: Sequence[str] = STYLES,
) -> None:
    """Draw a value over epochs on given axes: training, validation and test, each with its line style.

    Args:
        axes: where.
        rows: values by name, an epoch each.
        name: of the value.
        color: of all three lines; None: each has its own.
        styles: of the lines.
    """
    epochs = [int(float(row["epoch"])) for row in rows]
    for (part, label), style, own in zip(PARTS.items(), styles, PALETTE, strict=False):
        if part + name in rows[0]:
            values = [float(row[part + name]) for row in rows]
            axes.plot(epochs, values, style, marker=".", color=color or own, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def draw_networks(axes: Axes, networks: Mapping[str, Sequence[Mapping[str, Any]]], column: str) -> None:
    """Draw a logged value, such as ``val_loss``, over the epochs of several networks."""
    for index, (network, rows) in enumerate(networks.items()):
        known = [row for row in rows if row.get(column)]
        epochs, values = [int(float(row["epoch"])) for row in known], [float(row[column]) for row in known]
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        axes.plot(epochs, values, color=color, marker=marker, markersize=4, linewidth=1.1, label=network)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(axes)


def plot_confusion(score: Score, path: Path, data: str, subject: str = "") -> Path:
    """Draw how many samples of each class (row) were taken for each class (column)."""
    title = f"{score.metric} {score.value:.4f}, {score.samples} samples"
    figure, axes = figure_of(title, subject, data, width=6.0, height=5.4, grid=False)
    draw_confusion(figure, axes, score.confusion)
    return _save(figure, path)


def draw_confusion(figure: Figure, axes: Axes, confusion: Sequence[Sequence[int]]) -> None:
    """Draw a confusion matrix, with its counts where they can be read."""
    classes = range(len(confusion))
    image = axes.imshow(confusion, cmap="Blues")
    figure.colorbar(image, ax=axes, label="samples", fraction=0.046)
    limit = max(map(max, confusion)) / 2
    for row in classes if len(confusion) <= MOST_NUMBERS else ():
        for column in classes:
            count = confusion[row][column]
            color = "white" if count > limit else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=7)
    axes.set(xlabel="predicted class", ylabel="class")
    if len(confusion) <= MOST_NUMBERS:
        axes.set(xticks=classes, yticks=classes)


def plot_comparison(results: Sequence[Result], path: Path, data: str, subject: str = "") -> Path:
    """Draw score against size for each configuration, before and after it was reconstructed or fine-tuned."""
    figure, axes = figure_of("score against size", subject, data, width=7.4)
    stages = []
    for row in results:
        scores = [score.value for score in (row.calibrated, row.reconstructed, row.finetuned) if score is not None]
        stages.append((row.config, row.size_bits / BITS_PER_KIB, scores))
    draw_comparison(axes, stages, f"{results[0].calibrated.metric} (test)")
    return _save(figure, path)


def draw_comparison(axes: Axes, stages: Sequence[tuple[str, float, Sequence[float]]], label: str) -> None:
    """Draw scores of configurations against their sizes: a ring before training, a filled marker after it.

    Args:
        axes: where.
        stages: name, size in KiB and scores in the order of the stages; ``float`` becomes a line, since it is what
            the others are compared with.
        label: name of the score.
    """
    quantized = [stage for stage in stages if stage[0] != FLOAT]
    for name, _, scores in stages:
        if name == FLOAT:
            axes.axhline(scores[-1], color=BLACK, linestyle="--", linewidth=1, label=FLOAT)
    for index, (name, size, scores) in enumerate(quantized):
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        axes.plot([size] * len(scores), scores, "-", color=color, linewidth=0.8, zorder=2)
        smaller = min(index, 5)  # what is drawn later on the same place leaves a rim of what is below it
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.2, "zorder": 3}
        if len(scores) == 1:
            ring["label"] = name
        axes.plot(size, scores[0], marker, color=color, markersize=14 - smaller, **ring)
        if len(scores) > 1:
            axes.plot(size, scores[-1], marker, color=color, markersize=9 - smaller, label=name, zorder=4 + index)
    scale_by_decades(axes, [size for _, size, _ in quantized])
    axes.set(xlabel=f"{SIZE_LABEL} (ring: before training, filled: after)", ylabel=label)
    legend_below(axes)


def legend_below(axes: Axes) -> None:
    """Explain what is drawn beside the axes, where no data can be hidden."""
    handles, labels = axes.get_legend_handles_labels()
    known: dict[str, Any] = dict(zip(labels, handles, strict=True))
    if known:
        figure: Any = axes.get_figure()
        ncols = 3 if max(map(len, known)) < 18 else 2
        figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=ncols, fontsize=8, frameon=False)


def figure_of(
    title: str, subject: str = "", data: str = "", width: float = 6.4, height: float = 4.4, grid: bool = True
) -> tuple[Figure, Any]:
    """Return a figure and its axes, with the network and configuration below what is drawn."""
    figure = new_figure(data, width, height)
    axes = figure.add_subplot()
    axes.set_title("\n".join(filter(None, (title, subject))), fontsize=10)
    if grid:
        axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    return save_figure(figure, path, VECTOR)
