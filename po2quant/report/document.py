"""``report.html``: what one run or several came to, in one file that a browser opens without any other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from po2quant.bit_config import FLOAT
from po2quant.figures import BLACK, MARKERS, PALETTE, data_address, scale_by_decades
from po2quant.files import open_replacement
from po2quant.report import plots
from po2quant.report.html import Html, element, items, page, picture, section
from po2quant.report.run import Run, read_run
from po2quant.report.sections import SECTIONS, results_table, stages_of


def write_report(run_folders: Sequence[Path], path: Path) -> Path:
    """Write what runs came to into one HTML file, which holds its pictures and loads nothing.

    Args:
        run_folders: folders of finished or interrupted runs, at least one; several are compared first.
        path: the file.

    Returns:
        The path.

    Raises:
        ValueError: for no folder, a folder that holds no run, and files in it that are damaged.

    Example:
        >>> write_report([Path("runs/finetune")], Path("report.html"))  # doctest: +SKIP
        PosixPath('report.html')
    """
    if not run_folders:
        raise ValueError("run_folders must name at least one run folder. Received: none")
    runs = [read_run(folder, label) for folder, label in zip(run_folders, _labels(run_folders), strict=True)]
    title = f"{runs[0].request.kind}: {runs[0].network}" if len(runs) == 1 else f"{len(runs)} runs compared"
    parts = [element("h1", title), _contents(runs), _comparison(runs) if len(runs) > 1 else Html()]
    for run in runs:
        heading = run.label if len(runs) > 1 else "In short"
        parts += [element("h2", heading, id=run.label), items(in_short(run)), *(part(run) for part in SECTIONS)]
    with open_replacement(path) as file:
        file.write(page(f"po2quant {title}", *parts))
    return path


def _labels(folders: Sequence[Path]) -> list[str]:
    """Return what the runs are called: the names of their folders, with a number where two are alike."""
    names = [re.sub(r"\s+", "-", folder.resolve().name) or "run" for folder in folders]
    return [
        name if names.count(name) == 1 else f"{name}-{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def _contents(runs: Sequence[Run]) -> Html:
    links = [element("a", run.label, href=f"#{run.label}") for run in runs]
    return element("nav", *links) if len(runs) > 1 else Html()


def in_short(run: Run) -> list[str]:
    """Return the outcome of a run in sentences."""
    lines = [f"Data: {run.data}."]
    staged = stages_of(run)
    for name, size, scores in staged:
        if name == FLOAT:
            lines.append(f"The float network scores {scores[-1]:.4f} ({run.metric}) at {size:.1f} KiB.")
    quantized = [stage for stage in staged if stage[0] != FLOAT]
    floats = [size for name, size, _ in staged if name == FLOAT]
    if quantized:
        name, size, scores = quantized[0]
        times = f", {floats[0] / size:.1f} times smaller than float" if floats else ""
        change = (
            f"{scores[0]:.4f} before training, {scores[-1]:.4f} after it" if len(scores) > 1 else f"{scores[0]:.4f}"
        )
        lines.append(f"{name} scores {change}, at {size:.1f} KiB{times}.")
    if run.trials:
        lines.append(f"{len(run.trials)} trials were completed.")
    if run.measurements:
        worst = [finding.severity for finding in run.findings]
        counts = {kind: worst.count(kind) for kind in dict.fromkeys(worst)}
        named = [f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items()]
        count = ", ".join(named) or "nothing stands out"
        lines.append(f"Diagnostics: {count}.")
    return lines


def _comparison(runs: Sequence[Run]) -> Html:
    """Return the scores of all runs in one table and one picture, in which each run has its colour."""
    figure, axes = plots.figure_of("score against size", "", "", 6.6, 4.4)
    sizes = []
    for index, run in enumerate(runs):
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        stages = [(size, scores[-1]) for name, size, scores in stages_of(run) if name != FLOAT]
        sizes += [size for size, _ in stages]
        if stages:
            ring: dict[str, Any] = {"markersize": 5 + 2.5 * index, "markerfacecolor": "none", "markeredgewidth": 1.4}
            axes.plot(*zip(*stages, strict=True), marker, color=color, label=run.label, **ring)
        if run.float_score is not None:
            axes.axhline(run.float_score, color=BLACK, linestyle="--", linewidth=0.8, label=FLOAT)
    scale_by_decades(axes, sizes)
    axes.set(xlabel=plots.SIZE_LABEL, ylabel=" or ".join(dict.fromkeys(f"{run.metric} (test)" for run in runs)))
    plots.legend_below(axes)
    shown = picture(data_address(figure), "score against size of all runs") if sizes else ""
    return section("All runs", "all", results_table(runs), shown)
