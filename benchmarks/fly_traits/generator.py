"""Synthetic pictures of fruit flies under a microscope, and single flies cut from such pictures.

No pictures of sorted flies are public. These are drawn: they show that the networks learn, quantize and run, and say
nothing about real flies. A seed gives the same flies at every size of the picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .anatomy import TRAITS, Flies, key_points, outline, paint, random_flies
from .boxes import overlaps

PICTURE_SIZE = 320
COUNTS = (40, 70)  # flies of a picture
BODY_LENGTH = 0.082  # of a female, in sides of the picture: 26 pixels of 320
MOST_OVERLAP = 0.1  # IoU of two boxes, where there is room
PLACES = 96  # tried for a fly
CROP_MARGIN = 1.2  # side of a crop, in longer sides of the box
PIXELS_AT_ONCE = 2**18
EDGE = 0.5  # pixels by which an edge is soft
PHENOTYPES = tuple(itertools.product((1, 0), repeat=len(TRAITS)))
"""Traits of the eight phenotypes: long red female, long red male, long white female, ..., small white male."""


class Picture(NamedTuple):
    """A synthetic picture and what is in it.

    Args:
        pixels: uint8 ``(size, size, 3)``.
        boxes: COCO's ``x, y, width, height`` in pixels, around body, wings and legs, float32 ``(flies, 4)``.
        traits: 0 or 1 for each row of :data:`TRAITS`, uint8 ``(flies, 3)``.
        key_points: x and y of head, tail and the two wing tips in pixels, float32 ``(flies, 4, 2)``.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    traits: np.ndarray
    key_points: np.ndarray


class Crops(NamedTuple):
    """Single synthetic flies.

    Args:
        pixels: uint8 ``(flies, size, size, 3)``.
        traits: 0 or 1 for each row of :data:`TRAITS`, uint8 ``(flies, 3)``.
        key_points: x and y of head, tail and the two wing tips in sides of the crop, float32 ``(flies, 4, 2)``.
    """

    pixels: np.ndarray
    traits: np.ndarray
    key_points: np.ndarray


def draw_picture(
    seed: int, size: int = PICTURE_SIZE, count: int | None = None, ratio: Sequence[float] | None = None
) -> Picture:
    """Draw a synthetic picture of flies that hardly overlap.

    Args:
        seed: of flies, places, background and light.
        size: rows and columns of the picture.
        count: flies; None: 40 to 70.
        ratio: of the eight :data:`PHENOTYPES`; None: all are as likely.
    """
    rng, background_rng = (np.random.default_rng((seed, part)) for part in range(2))
    count = int(rng.integers(*COUNTS, endpoint=True)) if count is None else count
    flies = random_flies(_traits(count, ratio, rng), rng)
    scale = flies.length * (BODY_LENGTH * size)
    centres = _places(flies, scale / size, rng) * size
    blur = np.full(count, rng.uniform(0.7, 1.4))
    pixels = _background(background_rng, 1, size, cells=5)[0] * _vignette(size, rng.uniform(0, 0.3))[..., None]
    _add_dust(pixels, background_rng)
    for fly, corner in _patches(flies, centres, scale, blur):
        _lay(pixels, fly, corner)
    pixels = _developed(pixels[None], _lights(rng, 1), background_rng)[0]
    boxes = _boxes(flies, centres, scale, EDGE)
    points = flies.in_picture(key_points(flies), centres, scale)
    return Picture(pixels, boxes, flies.traits, points.astype(np.float32))


def crops(count: int, size: int, seed: int, ratio: Sequence[float] | None = None) -> Crops:
    """Draw single synthetic flies, as squares cut around the boxes of a picture would show them.

    Centre and side of a square are not exact, and parts of neighbours may be seen.

    Args:
        count: flies.
        size: rows and columns of a crop.
        seed: of everything.
        ratio: of the eight :data:`PHENOTYPES`; None: all are as likely.
    """
    chunk = max(PIXELS_AT_ONCE // size**2, 1)
    parts = [
        _some_crops(min(chunk, count - start), size, np.random.default_rng((seed, start)), ratio)
        for start in range(0, count, chunk)
    ]
    return Crops(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def crop_squares(boxes: np.ndarray) -> np.ndarray:
    """Return the squares that show what is in boxes: ``x, y, width, height`` to x, y of a corner and side.

    Args:
        boxes: COCO boxes, ``(boxes, 4)``.

    Returns:
        float64 ``(boxes, 3)``.
    """
    sides = CROP_MARGIN * np.maximum(boxes[:, 2], boxes[:, 3]).astype(np.float64)
    corners = boxes[:, :2] + 0.5 * boxes[:, 2:] - 0.5 * sides[:, None]
    return np.column_stack((corners, sides))


def _some_crops(count: int, size: int, rng: np.random.Generator, ratio: Sequence[float] | None) -> Crops:
    flies = random_flies(_traits(count, ratio, rng), rng)
    boxes = _boxes(flies, np.zeros((count, 2)), flies.length, 0.0)
    x, y, side = crop_squares(boxes).T
    corners = np.column_stack((x, y)) + side[:, None] * rng.uniform(-0.05, 0.05, (count, 2))
    pixels_of_unit = size / (side * rng.uniform(0.92, 1.12, count))
    corners += 0.5 * (side - size / pixels_of_unit)[:, None]
    centres, scale = -corners * pixels_of_unit[:, None], flies.length * pixels_of_unit
    blur = rng.uniform(0.7, 1.6, count) * max(size / 64, 1.0)
    pixels = _background(rng, count, size, cells=2)
    below, above = rng.permutation(count)[: count // 2], rng.permutation(count)[: count // 2]
    _add_neighbours(pixels, below, centres, pixels_of_unit, blur, rng)
    pixels = _laid(pixels, paint(flies, size, centres, scale, blur))
    _add_neighbours(pixels, above, centres, pixels_of_unit, blur, rng)
    points = flies.in_picture(key_points(flies), centres, scale) / size
    return Crops(_developed(pixels, _lights(rng, count), rng), flies.traits, points.astype(np.float32))


def _add_neighbours(
    pixels: np.ndarray,
    chosen: np.ndarray,
    centres: np.ndarray,
    scale: np.ndarray,
    blur: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Lay another fly beside the one of each chosen crop; many are out of sight."""
    flies, scale = random_flies(_traits(len(chosen), None, rng), rng), scale[chosen]
    angle, distance = rng.uniform(0, 2 * np.pi, len(chosen)), rng.uniform(0.95, 1.8, len(chosen)) * scale
    places = centres[chosen] + distance[:, None] * np.stack((np.cos(angle), np.sin(angle)), axis=-1)
    pixels[chosen] = _laid(pixels[chosen], paint(flies, pixels.shape[1], places, flies.length * scale, blur[chosen]))


def _traits(count: int, ratio: Sequence[float] | None, rng: np.random.Generator) -> np.ndarray:
    """Return random traits, uint8 ``(count, 3)``."""
    shares = None if ratio is None else np.asarray(ratio, np.float64) / np.sum(ratio)
    return np.array(PHENOTYPES, np.uint8)[rng.choice(len(PHENOTYPES), count, p=shares)]


def _boxes(flies: Flies, centres: np.ndarray, scale: np.ndarray, edge: float) -> np.ndarray:
    """Return COCO boxes, float32 ``(flies, 4)``."""
    points = flies.in_picture(outline(flies), centres, scale)
    lowest, highest = points.min(axis=1) - edge, points.max(axis=1) + edge
    return np.concatenate((lowest, highest - lowest), axis=1).astype(np.float32)


def _places(flies: Flies, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return centres within the unit square, where boxes hardly overlap if there is room, ``(flies, 2)``."""
    boxes = _boxes(flies, np.zeros((len(flies), 2)), scale, 2 / PICTURE_SIZE).astype(np.float64)
    centres = np.zeros((len(flies), 2))
    for index, (x, y, width, height) in enumerate(boxes):
        tried = rng.uniform((-x, -y), (1 - x - width, 1 - y - height), (PLACES, 2))
        others = boxes[:index] + np.pad(centres[:index], ((0, 0), (0, 2)))
        overlap = overlaps(boxes[index] + np.pad(tried, ((0, 0), (0, 2))), others)
        worst = overlap.max(axis=1, initial=0.0)
        centres[index] = tried[np.argmin(np.where(worst < MOST_OVERLAP, -1.0, worst))]
    return centres


def _patches(
    flies: Flies, centres: np.ndarray, scale: np.ndarray, blur: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return the pixels of each fly and the corner that they belong to."""
    side = int(np.ceil(2.2 * scale.max())) + 2
    corners = np.floor(centres).astype(np.int64) - side // 2
    return zip(paint(flies, side, centres - corners, scale, blur), corners, strict=True)


def _lay(pixels: np.ndarray, patch: np.ndarray, corner: np.ndarray) -> None:
    """Lay a patch over a picture, as far as it lies within."""
    height, width = pixels.shape[:2]
    (x, y), side = corner, len(patch)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    part, place = patch[top - y : bottom - y, left - x : right - x], pixels[top:bottom, left:right]
    place[:] = _laid(place, part)


def _laid(pixels: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Return pixels under a patch of the same size."""
    return pixels * (1 - patch[..., 3:]) + patch[..., :3]


def _background(rng: np.random.Generator, count: int, size: int, cells: int) -> np.ndarray:
    """Return smooth bright backgrounds in 0..255, float32 ``(count, size, size, 3)``."""
    base = rng.uniform(195, 238, (count, 1, 1, 1)) + rng.uniform(-12, 12, (count, 1, 1, 3))
    knots = rng.normal(0, 7, (count, cells + 1, cells + 1))
    place = np.linspace(0, cells, size)
    weights = np.maximum(1 - np.abs(place[:, None] - np.arange(cells + 1)), 0)
    return (base + (weights @ knots @ weights.T)[..., None]).astype(np.float32)


def _vignette(size: int, strength: float) -> np.ndarray:
    """Return how bright a picture is towards its corners, float32 ``(size, size)``."""
    distance = (np.linspace(-1, 1, size, dtype=np.float32) ** 2) / 2
    return 1 - np.float32(strength) * (distance[:, None] + distance)


def _add_dust(pixels: np.ndarray, rng: np.random.Generator) -> None:
    """Darken a few specks of a picture."""
    size = len(pixels)
    for x, y, radius, darkness in rng.uniform((0, 0, 0.002, 0.2), (1, 1, 0.006, 0.6), (25, 4)):
        left, top = (max(int((place - radius) * size), 0) for place in (x, y))
        side = int(np.ceil(2 * radius * size)) + 1
        part = pixels[top : top + side, left : left + side]
        rows, columns = np.indices(part.shape[:2])
        distance = np.hypot(columns + left + 0.5 - x * size, rows + top + 0.5 - y * size)
        part *= 1 - (darkness * np.clip(radius * size - distance + 0.5, 0, 1))[..., None].astype(np.float32)


def _lights(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return brightness and tint, ``(count, 1, 1, 3)``."""
    return rng.uniform(0.8, 1.06, (count, 1, 1, 1)) * rng.uniform(0.96, 1.04, (count, 1, 1, 3))


def _developed(pixels: np.ndarray, light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return pictures under a light, with a camera's noise, as uint8."""
    noise = rng.standard_normal(pixels.shape, np.float32)
    noise *= rng.uniform(1.5, 5, (len(pixels), 1, 1, 1)).astype(np.float32)
    pixels = pixels * light.astype(np.float32) + noise
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
