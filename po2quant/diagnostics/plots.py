"""Pictures of diagnostics: heat maps of layer and epoch, curves over epochs, ratios along the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from po2quant.diagnostics.findings import UPDATE_LARGE, UPDATE_SMALL
from po2quant.diagnostics.measurement import ACTIVATION, BIAS, KERNEL, PARTS, Measurement
from po2quant.figures import BLACK, BLUE, ORANGE, VECTOR, VERMILLION, new_figure, save_figure

if TYPE_CHECKING:
    from po2quant.diagnostics.mode_mix import Mix

MOST_INCHES = 40.0
MOST_IN_LEGEND = 12
"""Curves that a legend can name; more are coloured by their place in the network."""

SMALLEST_SHARE = 0.01
"""Upper end of the colours where every share is smaller."""

UPDATE_LINES = (UPDATE_LARGE, UPDATE_SMALL)
LINES_LABEL = f"{UPDATE_SMALL:g} and {UPDATE_LARGE:g}: below the first updates vanish"
LABELS = {
    "update_relative_mean": "mean update / mean value",
    "update_signed": "mean update with its sign",
    "flip_ratio": "share of quantized values that changed",
    "zero_ratio": "share of zeros",
    "clip_ratio": "share of clipped values",
    "exponent_mean": "mean exponent (base 2)",
    "sqnr_db": "signal-to-quantization-noise ratio in dB",
}
COLORS = matplotlib.colormaps["viridis"]
HEAT_MAPS = (
    ("update_relative_mean", KERNEL),
    ("flip_ratio", KERNEL),
    ("exponent_mean", KERNEL),
    ("zero_ratio", ACTIVATION),
    ("clip_ratio", ACTIVATION),
)
CURVES = (
    ("update_relative_mean", KERNEL),
    ("update_relative_mean", BIAS),
    ("update_signed", KERNEL),
    ("zero_ratio", KERNEL),
    ("zero_ratio", BIAS),
)


def plot_diagnostics(rows: Sequence[Measurement], folder: Path, data: str, subject: str = "") -> list[Path]:
    """Draw what the rows of a run hold: over epochs where there are several, and along the network.

    Args:
        rows: measurements.
        folder: where the pictures go.
        data: what they were measured on.
        subject: network and configuration, for the titles.

    Returns:
        The paths of the pictures in ``folder``, each beside the same in formats for papers.
    """

    def drawn(plot: Callable[..., Path | None], names: Sequence[str], kind: str) -> Path | None:
        return plot(rows, *names, folder / f"{'_'.join(reversed(names))}_{kind}.png", data, subject)

    over_epochs = [
        *(drawn(plot_heat_map, names, "map") for names in HEAT_MAPS),
        *(drawn(plot_curves, names, "over_epochs") for names in CURVES),
    ]
    along_network = [drawn(plot_along_network, (name,), "along_network") for name in ("zero_ratio", "sqnr_db")]
    return [path for path in over_epochs + along_network if path is not None]


def plot_heat_map(
    rows: Sequence[Measurement], measure: str, part: str, path: Path, data: str, subject: str = ""
) -> Path | None:
    """Draw a measure of every layer (row) after every epoch (column); grey where it is unknown, or zero on a log scale.

    Returns:
        The path, or None where fewer than two epochs have the measure.
    """
    layers, epochs, table = _table(rows, measure, part)
    if len(epochs) < 2:
        return None
    is_update = measure.startswith("update")
    norm: Normalize | None = None
    if is_update:
        table = np.where(table > 0.0, table, np.nan)
        norm = LogNorm(np.nanmin(table, initial=UPDATE_SMALL / 2.0), np.nanmax(table, initial=UPDATE_LARGE * 2.0))
    elif measure.endswith("ratio"):
        norm = Normalize(0.0, np.nanmax(table, initial=SMALLEST_SHARE))
    figure = new_figure(data, 7.2, 1.6 + 0.15 * max(len(layers), 8))
    axes = _titled(figure, f"{part}: {LABELS[measure]}", subject)
    axes.set_facecolor("lightgrey")
    image = axes.imshow(table, aspect="auto", interpolation="nearest", norm=norm, cmap=COLORS)
    axes.set_yticks(range(len(layers)), layers, fontsize=7)
    step = -(-len(epochs) // 20)
    axes.set_xticks(range(0, len(epochs), step), [str(epoch) for epoch in epochs[::step]], fontsize=7)
    axes.set(xlabel="epoch")
    bar = figure.colorbar(image, fraction=0.05, aspect=40)
    bar.set_label(LABELS[measure], fontsize=7)
    for line in UPDATE_LINES if is_update else ():
        mark = bar.ax.axhline(line, color=VERMILLION, linewidth=2)
    if is_update:
        figure.legend([mark], [LINES_LABEL], loc="outside upper left", fontsize=7, frameon=False)
    return save_figure(figure, path, VECTOR)


def plot_curves(
    rows: Sequence[Measurement], measure: str, part: str, path: Path, data: str, subject: str = ""
) -> Path | None:
    """Draw an update or a ratio of every layer over the epochs; see :func:`draw_curves`.

    Returns:
        The path, or None where fewer than two epochs have the measure.
    """
    layers, epochs, _ = _table(rows, measure, part)
    if len(epochs) < 2:
        return None
    figure = new_figure(data, 8.0, 4.6)
    axes = _titled(figure, f"{part}: {LABELS[measure]}", subject)
    draw_curves(axes, rows, measure, part)
    axes.set(xlabel="epoch", ylabel=LABELS[measure])
    known = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if lines := known.pop(LINES_LABEL, None):
        figure.legend([lines], [LINES_LABEL], loc="outside upper left", fontsize=7, frameon=False)
    if len(layers) <= MOST_IN_LEGEND:
        figure.legends.insert(0, figure.legend(known.values(), known.keys(), loc="outside right upper", fontsize=7))
    else:
        _place_bar(figure, axes, layers)
    return save_figure(figure, path, VECTOR)


def draw_curves(axes: Any, rows: Sequence[Measurement], measure: str, part: str) -> None:
    """Draw a measure of every layer over the epochs on given axes, coloured by the place in the network.

    An update gets the study's lines, a ratio an axis from 0 to 1.
    """
    layers, epochs, table = _table(rows, measure, part)
    colors = COLORS(np.linspace(0.0, 1.0, len(layers)))
    for layer, values, color in zip(layers, table, colors, strict=True):
        marker = "." if len(epochs) < 20 else None
        axes.plot(epochs, values, label=layer, color=color, linewidth=1.2, marker=marker, clip_on=False)
    if measure.endswith("ratio"):
        axes.set_ylim(0.0, 1.0)
    else:
        _draw_update_lines(axes, is_signed=bool(np.nanmin(table, initial=0.0) < 0.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _draw_update_lines(axes: Any, is_signed: bool) -> None:
    if is_signed:
        axes.set_yscale("symlog", linthresh=UPDATE_SMALL, linscale=0.3)
    else:
        axes.set_yscale("log", nonpositive="mask")
    for line in UPDATE_LINES:
        for sign in (1.0, -1.0) if is_signed else (1.0,):
            label = LINES_LABEL if line == UPDATE_LINES[0] and sign > 0 else None
            axes.axhline(sign * line, color=VERMILLION, linestyle="--", linewidth=1.0, label=label)


def _place_bar(figure: Figure, axes: Any, layers: Sequence[str]) -> None:
    """Say with a colour bar which curve belongs to which place in the network."""
    bar = figure.colorbar(ScalarMappable(Normalize(0, len(layers) - 1), COLORS), ax=axes, label="layer")
    shown = np.unique(np.linspace(0, len(layers) - 1, MOST_IN_LEGEND).round().astype(int))
    bar.set_ticks(shown.tolist(), labels=[layers[index] for index in shown], fontsize=7)
    bar.ax.invert_yaxis()


def plot_along_network(
    rows: Sequence[Measurement], measure: str, path: Path, data: str, subject: str = ""
) -> Path | None:
    """Draw a measure of kernels, biases and activations in network order, after the last epoch and before training.

    Of activations the signal-to-noise ratio is drawn twice: that of each quantizer alone, and ``network_sqnr_db``.

    Returns:
        The path, or None where no row has the measure.
    """
    names = {part: [measure] for part in PARTS}
    if measure == "sqnr_db":
        names[ACTIVATION].append("network_sqnr_db")
    tables = {(part, name): _table(rows, name, part) for part in PARTS for name in names[part]}
    parts = [part for part in PARTS if np.any(np.isfinite(tables[part, measure][2]))]
    if not parts:
        return None
    most = max(len(tables[part, measure][0]) for part in parts)
    figure = new_figure(data, max(6.4, 1.2 + 0.13 * most), 3.2 * len(parts))
    for axes, part in zip(figure.subplots(len(parts), squeeze=False)[:, 0], parts, strict=True):
        for index, name in enumerate(names[part]):
            layers, epochs, table = tables[part, name]
            label = part if name == measure else f"{part}, error of all quantizers up to here"
            style: dict[str, Any] = {"color": (BLUE, ORANGE)[index], "marker": ".", "linewidth": 1.0, "clip_on": False}
            axes.plot(range(len(layers)), table[:, -1], label=label, **style)
            if len(epochs) > 1:
                early = f"{label}, epoch {epochs[0]}"
                axes.plot(range(len(layers)), table[:, 0], label=early, alpha=0.45, linestyle=":", **style)
        axes.set_xticks(range(len(layers)), layers, rotation=90, fontsize=7)
        axes.set_xlim(-0.5, len(layers) - 0.5)
        axes.set_ylabel(LABELS[measure].replace(" ratio", "\nratio"), fontsize=8)
        if measure.endswith("ratio"):
            axes.set_ylim(0.0, 1.0)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=7, frameon=False)
    title = f"{LABELS[measure]}, along the network"
    figure.suptitle("\n".join(filter(None, (title, subject))), fontsize=10)
    return save_figure(figure, path, VECTOR)


def plot_mode_sweep(mix: Mix, path: Path, data: str, subject: str = "") -> Path:
    """Draw what powers of two cost at each layer, and the loss over the number of layers with real scales."""
    costs, losses, chosen = mix.sweep.costs, mix.sweep.mix_losses, len(mix.real_layers)
    figure = new_figure(data, 9.6, min(2.4 + 0.2 * len(costs), MOST_INCHES))
    bars, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    places = np.arange(len(costs))
    lost, won = [cost.po2_cost for cost in costs], [cost.auto_gain for cost in costs]
    bars.barh(places - 0.2, lost, 0.4, color=BLUE, label="cost of a power of two among real scales")
    bars.barh(places + 0.2, won, 0.4, color=ORANGE, label="gain of a real scale among powers of two")
    bars.set_yticks(places, [f"{cost.layer} ({cost.bits} bits)" for cost in costs], fontsize=7)
    for label, cost in zip(bars.get_yticklabels(), costs, strict=True):
        is_real = cost.layer in mix.real_layers
        label.set(color=VERMILLION if is_real else BLACK, fontweight="bold" if is_real else "normal")
    bars.set(xlabel="change of the mean loss", ylim=(len(costs) - 0.5, -0.5))
    curve.plot(range(len(losses)), losses, ".-", color=BLUE, label="loss of a mix")
    ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "color": VERMILLION, "markeredgewidth": 1.5}
    curve.plot(chosen, losses[chosen], "o", label=f"the mix: {chosen} of {len(costs)} layers", **ring)
    curve.set(xlabel="layers with real scales, the best first", ylabel="mean loss")
    for axes in (bars, curve):
        axes.set_axisbelow(True)
        axes.grid(alpha=0.3)
    bars.set_title("\n".join(filter(None, ("what powers of two cost (bold: real in the mix)", subject))), fontsize=10)
    curve.set_title("loss of mixes", fontsize=10)
    figure.legend(loc="outside upper center", ncols=2, fontsize=7, frameon=False)
    return save_figure(figure, path, VECTOR)


def _titled(figure: Figure, title: str, subject: str) -> Any:
    """Return axes with a title, and the network and configuration below it."""
    axes = figure.add_subplot()
    axes.set_title("\n".join(filter(None, (title, subject))), fontsize=10)
    return axes


def _table(rows: Sequence[Measurement], measure: str, part: str) -> tuple[list[str], list[int], np.ndarray]:
    """Return layers, epochs and a measure as ``(layers, epochs)``, NaN where it is unknown or infinite.

    Layers and epochs without it are left out.
    """
    known = [row for row in rows if row.part == part and getattr(row, measure) is not None]
    layers, epochs = list(dict.fromkeys(row.layer for row in known)), sorted({row.epoch for row in known})
    table = np.full((len(layers), len(epochs)), np.nan)
    for row in known:
        table[layers.index(row.layer), epochs.index(row.epoch)] = getattr(row, measure)
    table[~np.isfinite(table)] = np.nan
    return layers, epochs, table
