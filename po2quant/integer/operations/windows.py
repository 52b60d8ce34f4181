"""Windows on images: how many fit, and the pixels that they see."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from po2quant.integer.checks import Padding, Shape, check_elements, invalid, shown


def check_image(subject: str, shape: Shape) -> None:
    """Raise ValueError unless a shape is ``(rows, columns, channels)``."""
    if len(shape) != 3:
        raise invalid(subject, "an image of rows, columns and channels", shape)


def spans_of(window: Shape, dilation: Shape) -> tuple[int, int]:
    """Return the rows and columns from the first to the last pixel of a window."""
    rows, columns = ((size - 1) * step + 1 for size, step in zip(window, dilation, strict=True))
    return rows, columns


def positions(name: str, image: Shape, spans: Shape, strides: Shape, padding: Padding) -> Shape:
    """Return how many windows of ``spans`` pixels fit into an image, in rows and columns.

    Raises:
        ValueError: for no image, a padded one of 2**31 elements, or one into which no window fits.
    """
    check_image(f"input of operation {shown(name)}", image)
    padded = tuple(size + sum(around) for size, around in zip(image[:2], padding, strict=True))
    check_elements(f"padded input of operation {shown(name)}", (*padded, image[2]))
    if any(span > size for span, size in zip(spans, padded, strict=True)):
        raise invalid(f"window of operation {shown(name)}", f"at most {shown(padded)}, the padded image", spans)
    return tuple((size - span) // step + 1 for size, span, step in zip(padded, spans, strides, strict=True))


def taps(
    x: np.ndarray, window: Shape, strides: Shape, padding: Padding, outside: int, dilation: Shape = (1, 1)
) -> Iterator[np.ndarray]:
    """Yield the pixels that each place in the window sees, ``(samples, rows, columns, channels)``."""
    x = padded_image(x, padding, outside)
    spans = spans_of(window, dilation)
    for row, column in itertools.product(range(window[0]), range(window[1])):
        top, left = row * dilation[0], column * dilation[1]
        bottom, right = x.shape[1] - spans[0] + 1 + top, x.shape[2] - spans[1] + 1 + left
        yield x[:, top : bottom : strides[0], left : right : strides[1]]


def padded_image(x: np.ndarray, padding: Padding, outside: int = 0) -> np.ndarray:
    """Return images with rows and columns of one integer around them."""
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=outside)
