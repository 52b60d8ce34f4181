"""Small pictures of how the values of a tensor lie on the grid of its quantizer."""

from __future__ import annotations

import numpy as np

from po2quant.figures import BLUE, VERMILLION
from po2quant.report.html import Html, element
from po2quant.report.record import Histogram

WIDTH, HEIGHT, FOOT = 280, 100, 12
"""Of a picture, and of the grid below it, in its own units."""
BEFORE_COLOR, INK = "#c3cad5", "#1d2430"
MOST_TICKS = 33
"""Levels that are drawn as lines of their own; more than so many are drawn as a band."""


def histogram_picture(histogram: Histogram) -> Html:
    """Return a tensor's values before (area) and after quantization (lines) above its grid.

    Heights are square roots of counts over the largest one, so that tails are seen. What lies beyond the grid, and is
    clipped, is red.
    """
    edges = histogram.edges
    places = WIDTH * (edges - edges[0]) / (edges[-1] - edges[0])
    before, after = (
        (HEIGHT - 4) * np.sqrt(np.array(counts) / max(1, *counts)) for counts in (histogram.before, histogram.after)
    )
    middles = (edges[:-1] + edges[1:]) / 2
    is_inside = (middles > histogram.low - 0.5) & (middles < histogram.high + 0.5)
    drawing = (
        _bars(places, np.where(is_inside, before, 0.0), BEFORE_COLOR, 1.0)
        + _bars(places, np.where(is_inside, 0.0, before), VERMILLION, 1.0)
        + _bars(places, after, BLUE, 0.4)
        + _grid(histogram)
    )
    title = element("title", f"{histogram.layer} {histogram.part}: values over the levels of its grid")
    svg = Html(f'<svg viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" width="100%">{title}{drawing}</svg>')
    return element("figure", svg, element("figcaption", *_caption(histogram)))


def _bars(places: np.ndarray, heights: np.ndarray, color: str, share: float) -> str:
    """Return bars that take a share of their bin, as one path."""
    path = []
    for left, right, height in zip(places[:-1], places[1:], heights, strict=True):
        if height > 0.0:
            margin = (right - left) * (1.0 - share) / 2
            path.append(f"M{left + margin:.1f} {HEIGHT}V{HEIGHT - height:.1f}H{right - margin:.1f}V{HEIGHT}z")
    return f'<path d="{"".join(path)}" fill="{color}"/>'


def _grid(histogram: Histogram) -> str:
    """Return the levels of a grid: a line each, or a band from the smallest to the largest where there are many."""
    edges, levels = histogram.edges, histogram.high - histogram.low + 1

    def place(step: float) -> float:
        return float(WIDTH * (step - edges[0]) / (edges[-1] - edges[0]))

    if levels <= MOST_TICKS:
        ticks = "".join(
            f"M{place(histogram.low + index):.1f} {HEIGHT + 2}V{HEIGHT + FOOT - 2}" for index in range(int(levels))
        )
        return f'<path d="{ticks}" stroke="{INK}" stroke-width="1"/>'
    first, last = place(histogram.low - 0.5), place(histogram.high + 0.5)
    band = f'<rect x="{first:.1f}" y="{HEIGHT + 3}" width="{last - first:.1f}" height="5" fill="{BEFORE_COLOR}"/>'
    zero = f'<path d="M{place(0):.1f} {HEIGHT + 1}V{HEIGHT + FOOT - 1}" stroke="{INK}" stroke-width="1"/>'
    return band + zero


def _caption(histogram: Histogram) -> tuple[Html, str]:
    first, last = (f"{exponent:g}" if exponent.is_integer() else f"{exponent:.2f}" for exponent in histogram.exponents)
    step = f"2^{first}" if first == last else f"2^{first} to 2^{last}, by channel"
    levels = f"levels {histogram.low:g} to {histogram.high:g}, step {step}"
    return element("b", f"{histogram.layer} {histogram.part}"), f" {histogram.bits} bits: {levels}"
