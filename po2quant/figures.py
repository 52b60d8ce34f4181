"""Figures that are drawn into files, and say what they were measured on."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

DOTS_PER_INCH = 120
VECTOR = (".svg", ".pdf")
"""Formats for papers, which stay sharp at every size."""

BLACK, ORANGE, SKY, GREEN, YELLOW = "#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, VERMILLION, PURPLE = "#0072b2", "#d55e00", "#cc79a7"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008)."""
MARKERS = "osD^vPX"

DECADE = 10.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


def new_figure(footer: str, width: float = 6.4, height: float = 4.0) -> Figure:
    """Return an empty figure without a window.

    Args:
        footer: data and counts behind what will be drawn; empty: no footer.
        width: inches.
        height: inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if footer:
        figure.supxlabel(footer, fontsize=6)
    return figure


def save_figure(figure: Figure, path: Path, beside: Iterable[str] = ()) -> Path:
    """Write a figure in the format of the path's suffix, and return the path.

    Args:
        figure: what is drawn.
        path: where it goes.
        beside: suffixes of other formats that are written beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for one in (path, *map(path.with_suffix, beside)):
        figure.savefig(one, dpi=DOTS_PER_INCH)
    return path


def data_address(figure: Figure) -> str:
    """Return a figure as an address that holds the picture itself, for a page that needs no other file."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def scale_by_decades(axes: Axes, values: Iterable[float]) -> None:
    """Make the horizontal axis logarithmic where positive values span a decade or more."""
    known = list(values)
    if known and min(known) > 0 and max(known) >= DECADE * min(known):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
