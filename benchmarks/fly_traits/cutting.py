"""Parts of pictures at other sizes: the detector's input, and a crop of each box."""

from __future__ import annotations

import numpy as np

from .generator import Crops, Picture, crop_squares

FILL = 128  # beside a picture that is not square


def fitted(pixels: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Return a picture shrunk or enlarged into the upper left corner of a square, and the factor.

    Args:
        pixels: uint8 ``(height, width, 3)``.
        size: rows and columns of the square, uint8 ``(size, size, 3)``; what is beside the picture is grey.
    """
    height, width = pixels.shape[:2]
    factor = size / max(height, width)
    rows, columns = (max(round(side * factor), 1) for side in (height, width))
    square = np.full((size, size, 3), FILL, np.uint8)
    square[:rows, :columns] = resampled(pixels, (0, 0, columns / factor, rows / factor), rows, columns)
    return square, factor


def cut(pixels: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """Return the square around each box, uint8 ``(boxes, size, size, 3)``; beyond the picture its edges go on."""
    squares = crop_squares(boxes)
    parts = [resampled(pixels, (x, y, side, side), size, size) for x, y, side in squares]
    return np.stack(parts) if parts else np.zeros((0, size, size, 3), np.uint8)


def cut_picture(picture: Picture, size: int) -> Crops:
    """Return every fly of a labelled picture as a crop, with its traits and key points."""
    x, y, side = crop_squares(picture.boxes).T[..., None]
    points = (picture.key_points - np.stack((x, y), axis=-1)) / side[..., None]
    return Crops(cut(picture.pixels, picture.boxes, size), picture.traits, points.astype(np.float32))


def resampled(pixels: np.ndarray, region: tuple[float, float, float, float], rows: int, columns: int) -> np.ndarray:
    """Return a region of a picture at another size, uint8 ``(rows, columns, 3)``: bilinear with antialiasing.

    Args:
        pixels: uint8 ``(height, width, 3)``.
        region: ``x, y, width, height`` in pixels, which may reach beyond the picture.
        rows: of the result.
        columns: likewise.
    """
    x, y, width, height = region
    top, vertical = _weights(y, height, rows, pixels.shape[0])
    left, horizontal = _weights(x, width, columns, pixels.shape[1])
    window = pixels[top : top + vertical.shape[1], left : left + horizontal.shape[1]].astype(np.float32)
    mixed = np.tensordot(vertical, window, axes=(1, 0))  # rows, pixels of a line, colours
    return np.clip(np.rint(np.einsum("rxc,kx->rkc", mixed, horizontal, optimize=True)), 0, 255).astype(np.uint8)


def _weights(start: float, length: float, count: int, limit: int) -> tuple[int, np.ndarray]:
    """Return the first pixel that counts, and the weight of it and those after it, float32 ``(count, pixels)``."""
    step = length / count
    middles = np.clip(start + (np.arange(count) + 0.5) * step, 0.5, limit - 0.5)
    reach = max(step, 1.0)
    first, last = max(int(middles[0] - reach), 0), min(int(np.ceil(middles[-1] + reach)), limit)
    weights = np.maximum(1 - np.abs(np.arange(first, last) + 0.5 - middles[:, None]) / reach, 0)
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
