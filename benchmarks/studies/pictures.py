"""Draw the pictures of README and documentation: ``python -m benchmarks.studies.pictures``.

The front is that of a real search, from the trials in ``benchmarks/results/``; the others explain concepts.
"""

from __future__ import annotations

import csv
import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.mnist import MODELS
from po2quant.cost import BITS_PER_KIB, ForgivingFactor
from po2quant.figures import (
    BLACK,
    BLUE,
    GREEN,
    MARKERS,
    ORANGE,
    PALETTE,
    SKY,
    VERMILLION,
    new_figure,
    save_figure,
    scale_by_decades,
)
from po2quant.report.plots import draw_front, unbeaten
from po2quant.runs.costs import BYTES_PER_KIB

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
TRIALS = ROOT / "benchmarks" / "results" / "keyword_spotting-search" / "widths-trials.csv"
RETRAINED = TRIALS.with_name("retrained.csv")
MNIST = ROOT / "benchmarks" / "results" / "mnist.csv"
DRAWN = "resnet18"
"""Network whose digits are drawn, as in benchmarks.studies.mnist."""
MNIST_POINTS = MNIST.with_name("mnist-tsne.csv")
DESIGNS = ROOT / "benchmarks" / "results" / "design-blocks.csv"
LOWEST = 0.86
"""Accuracy from which trials are shown."""
SEARCHED = "Speech Commands V2 (subset: 2534 train, 210 validation clips), 40 trials of 5 epochs, 3 to 16 bits"


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def front() -> Figure:
    """Return the front of a search of keyword spotting, beside the published configuration."""
    trials = [row for row in read(TRIALS) if row["status"] == "completed"]
    places = [(int(row["size_bits"]) / BITS_PER_KIB, float(row["metric"])) for row in trials]
    best = places[max(range(len(trials)), key=lambda index: float(trials[index]["score"]))]
    below = sum(metric < LOWEST for _, metric in places)
    figure = new_figure(f"{SEARCHED}; {below} trials below {LOWEST} are not shown", 7.2, 4.4)
    axes = figure.add_subplot(title="keyword spotting, DS-CNN: accuracy against size, all scales powers of two")
    published = [row for row in read(RETRAINED) if row["config"] == "mpq" and row["validation"]]
    size = int(published[0]["size_bits"]) / BITS_PER_KIB
    axes.plot(
        size,
        statistics.fmean(float(row["validation"]) for row in published),
        "s",
        color=GREEN,
        markersize=9,
        label="published configuration, retrained",
        zorder=1,
    )
    draw_front(axes, places, [places[index] for index in unbeaten(places)], best, "accuracy (validation)")
    axes.set_ylim(LOWEST, 0.96)
    axes.grid(alpha=0.3)
    return figure


def grid() -> Figure:
    """Return the levels of a quantizer with a real scale, and with a power of two."""
    figure = new_figure("", 7.2, 2.6)
    axes = figure.add_subplot(title="4 bits: the 15 levels that a weight can have")
    values = np.random.default_rng(0).normal(0.0, 0.33, 200)
    for row, (name, step, color) in enumerate(
        (("real scale 0.1347", 0.1347, ORANGE), ("power of two, 2^-3", 0.125, BLUE))
    ):
        levels = step * np.arange(-7, 8)
        axes.plot(levels, np.full(15, -row), "|", color=color, markersize=22, markeredgewidth=2)
        axes.text(-1.25, -row, name, ha="right", va="center", color=color)
    axes.plot(values, np.full(200, 0.62), "|", color=BLACK, alpha=0.3, markersize=9)
    axes.text(-1.25, 0.62, "float weights", ha="right", va="center")
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.5, 1.0), xlabel="value", yticks=[])
    return figure


def factor() -> Figure:
    """Return how the forgiving factor rewards a smaller network."""
    figure = new_figure("", 6.4, 3.4)
    axes = figure.add_subplot(title="forgiving factor: 5 % for each halving")
    ratios = np.geomspace(0.05, 2.0, 200)
    axes.plot(ratios, [ForgivingFactor()(ratio, 1.0) for ratio in ratios], color=BLUE)
    for ratio, name in ((0.25, "4 bits for 16"), (0.5, "8 bits for 16"), (1.0, "the reference")):
        value = ForgivingFactor()(ratio, 1.0)
        axes.plot(ratio, value, "o", color=VERMILLION)
        axes.annotate(f"{name}: x {value:.2f}", (ratio, value), (8, 6), textcoords="offset points")
    axes.set(
        xscale="log",
        xlim=(0.05, 5.0),
        xlabel="size of the trial / size of the reference",
        ylabel="factor of the metric",
    )
    axes.set_xticks([0.1, 0.25, 0.5, 1, 2], ["0.1", "0.25", "0.5", "1", "2"])
    axes.grid(alpha=0.3)
    return figure


def _boxes(axes: Axes, names: Sequence[tuple[str, str]], y: float, width: float = 1.7) -> None:
    """Draw boxes in a row, with arrows between them; a name in a circle is a slot."""
    for index, (name, color) in enumerate(names):
        x = index * (width + 0.5)
        style: dict[str, Any] = {"boxstyle": "round,pad=0.35", "facecolor": color, "edgecolor": BLACK}
        axes.text(x, y, name, ha="center", va="center", fontsize=8.5, bbox=style)
        if index:
            arrow = {"arrowstyle": "->", "shrinkA": 40, "shrinkB": 40}
            axes.annotate("", (x, y), (x - width - 0.5, y), arrowprops=arrow)


def _canvas(title: str, columns: int, height: float) -> tuple[Figure, Axes]:
    figure = new_figure("", 9.0, height)
    axes = figure.add_subplot(title=title)
    axes.set(xlim=(-1.2, (columns - 1) * 2.2 + 1.2))
    axes.axis("off")
    return figure, axes


def fold() -> Figure:
    """Return a network before and after folding, and where its quantizers go."""
    figure, axes = _canvas(
        "fold: BatchNormalization goes into kernel and bias; place: a quantizer in every slot", 5, 3.2
    )
    layer, slot = "#ffffff", "#fde6bf"
    _boxes(axes, [("input", layer), ("Conv2D", layer), ("Batch-\nNormalization", layer), ("ReLU", layer)], 2.0)
    _boxes(
        axes,
        [
            ("input", layer),
            ("slot\nactivation", slot),
            ("Conv2D\nkernel, bias", layer),
            ("ReLU", layer),
            ("slot\nactivation_1", slot),
        ],
        0.8,
    )
    axes.text(4.4, 0.12, "two more slots: kernel and bias", ha="center", fontsize=8)
    axes.set_ylim(-0.2, 2.6)
    return figure


def integers() -> Figure:
    """Return what the integer program computes for one output."""
    figure, axes = _canvas("one output of the integer program", 5, 1.9)
    steps = [
        ("integers in\nvalue = q x 2^-4", SKY),
        ("sum of products\n+ bias", "#ffffff"),
        ("shift right\nby 6 bits", "#ffffff"),
        ("clip to\n0 .. 255", "#ffffff"),
        ("integers out\nvalue = q x 2^-3", SKY),
    ]
    _boxes(axes, steps, 0.5)
    axes.set_ylim(0.0, 1.0)
    return figure


def families() -> Figure:
    """Return the accuracy of families of networks on MNIST against the size of their weights, by widths."""
    rows = read(MNIST)
    figure = new_figure(rows[0]["data"], 7.2, 4.6)
    axes = figure.add_subplot(title="MNIST: accuracy against weights, from w4a4 to float")
    for model, (marker, color) in zip(MODELS, itertools.product(MARKERS[:2], PALETTE), strict=False):
        points = [
            (int(row["weight_bytes"]) / BYTES_PER_KIB, float(row["test_accuracy"]))
            for row in rows
            if row["model"] == model
        ]
        axes.plot(*zip(*sorted(points), strict=True), marker=marker, color=color, markersize=5, label=model)
    scale_by_decades(axes, [int(row["weight_bytes"]) / BYTES_PER_KIB for row in rows])
    axes.set(
        xlabel="constants of the C in KiB, packed; of float networks 4 bytes a parameter", ylabel="accuracy (test)"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def embedding() -> Figure:
    """Return test digits by the features of a network: their classes, and the clusters of two methods."""
    rows = read(MNIST_POINTS)
    scores = {row["model"]: row for row in read(MNIST) if row["config"] == "float"}[DRAWN]
    figure = new_figure(f"{len(rows)} test digits, t-SNE of the penultimate layer of {DRAWN}", 9.6, 3.6)
    titles = {
        "digit": "digits",
        "kmeans": f"k-means, ARI {float(scores['ari_kmeans']):.3f}",
        "dbscan": f"DBSCAN, ARI {float(scores['ari_dbscan']):.3f}",
    }
    places = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    for place, (column, title) in enumerate(titles.items(), 1):
        axes = figure.add_subplot(1, 3, place, title=title, xticks=[], yticks=[])
        groups = np.array([int(row[column]) for row in rows])
        for group in np.unique(groups):
            inside = places[groups == group]
            color = "#bbbbbb" if group < 0 else f"C{group % 10}"
            axes.plot(*inside.T, "o", markersize=2, color=color)
            if column == "digit":
                axes.annotate(str(group), np.median(inside, axis=0), ha="center", va="center", weight="bold")
    return figure


def designs() -> Figure:
    """Return what kernels and activations of 4 bits cost each block, and what reconstruction brings back."""
    rows = [row for row in read(DESIGNS) if (row["config"], row["seed"], row["epochs"]) == ("w4a4", "0", "0")]
    rows.sort(key=lambda row: float(row["float_score"]) - float(row["calibrated"]), reverse=True)
    stages = {"float_score": ("float", "D"), "calibrated": ("calibrated", "o"), "reconstructed": ("reconstructed", "s")}
    figure = new_figure(f"{rows[0]['data']}, seed 0; scales are powers of two", 7.2, 1.6 + 0.26 * len(rows))
    axes = figure.add_subplot(title="4-bit kernels and activations, by what they cost untrained")
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        axes.plot([float(row[stage]) for stage in stages], [place] * len(stages), color=BLACK, alpha=0.3, zorder=1)
    for (stage, (label, marker)), color in zip(stages.items(), (BLUE, VERMILLION, GREEN), strict=True):
        axes.scatter([float(row[stage]) for row in rows], places, color=color, marker=marker, label=label, zorder=2)
    axes.set_yticks(places, [row["network"] for row in rows])
    axes.set(xlabel="accuracy (test)", ylim=(-0.5, len(rows) - 0.5))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper right", ncols=len(stages))
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "front.png": front,
    "grid.png": grid,
    "factor.png": factor,
    "fold.png": fold,
    "integers.png": integers,
    "mnist.png": families,
    "mnist-tsne.png": embedding,
    "design-blocks.png": designs,
}


def main() -> None:
    """Draw all pictures."""
    for name, draw in PICTURES.items():
        save_figure(draw(), IMAGES / name)


if __name__ == "__main__":
    main()
