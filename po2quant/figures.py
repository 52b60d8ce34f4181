"""Figures that are drawn into files, and say what they were measured on."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOTS_PER_INCH = 120


def new_figure(footer: str, width: float = 6.4, height: float = 4.0) -> Figure:
    """Return an empty figure without a window.

    Args:
        footer: data and counts behind what will be drawn.
        width: inches.
        height: inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.supxlabel(footer, fontsize=6)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path
