"""The improved RandAugment: random changes of a picture, which its key points follow.

RandAugment(N, M) applies N operations of a table at strength M. Here k operations are drawn without repetition, k
itself from N/2 to N, and the table has convolutions, noises, patches and JPEG as well. Nothing in it changes hues: the
colour of the eyes is a trait.

Sources: Cubuk et al. 2020, "RandAugment", CVPR workshops; An et al. 2023, doi 10.16288/j.ycz.22-409, section 3.2.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import ndimage

from .key_points import moved

STRONGEST = 100
"""The strength M at which operations have their largest effect."""
Rng = np.random.Generator
Change = Callable[[np.ndarray, float, Rng], np.ndarray]
Motion = Callable[[float, Rng], np.ndarray]


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """A random change of pictures and key points.

    Args:
        operations: N; so many operations are applied at most, and half as many at least.
        strength: M, in 0..100.

    Raises:
        ValueError: for values out of range.

    Example:
        >>> picture, points = np.full((8, 8, 3), 200, np.uint8), np.full((4, 2), 0.5)
        >>> changed, moved = RandAugment(6, 60)(picture, points, np.random.default_rng(0))
        >>> changed.shape, changed.dtype.name, moved.shape
        ((8, 8, 3), 'uint8', (4, 2))
    """

    operations: int
    strength: float

    def __post_init__(self) -> None:
        if not 1 <= self.operations <= len(OPERATIONS):
            raise ValueError(f"operations must be in [1, {len(OPERATIONS)}]. Received: operations={self.operations}")
        if not 0 <= self.strength <= STRONGEST:
            raise ValueError(f"strength must be in [0, {STRONGEST}]. Received: strength={self.strength}")

    def __call__(self, picture: np.ndarray, points: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """Return a changed picture, uint8 ``(h, w, 3)``, and where its points are now.

        Args:
            picture: uint8 ``(h, w, 3)``.
            points: in sides of the picture, float ``(points, 2)``; NaN stays NaN.
            rng: of all choices.
        """
        for name in self.drawn(rng):
            picture, points = apply(name, picture, points, self.strength / STRONGEST, rng)
        return picture, points

    def drawn(self, rng: Rng) -> list[str]:
        """Return the names of the operations of one picture, in the order in which they are applied."""
        count = rng.integers(-(-self.operations // 2), self.operations, endpoint=True)
        return rng.choice(OPERATIONS, count, replace=False).tolist()


def apply(
    name: str, picture: np.ndarray, points: np.ndarray, strength: float, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture and its points after one operation of :data:`OPERATIONS`, at a strength in 0..1."""
    if name in MOTIONS:
        transform = MOTIONS[name](strength, rng)
        return warped(picture, transform), moved(points, transform)
    return CHANGES[name](picture, strength, rng), points


def warped(picture: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Return a picture whose content has moved; what comes in from outside repeats the edge.

    Args:
        picture: uint8 ``(h, w, 3)``.
        transform: float ``(2, 3)``, where points go, in sides of the picture: see :func:`.key_points.moved`.
    """
    size = np.array(picture.shape[1::-1], np.float64)
    inverse = np.linalg.inv(np.vstack([transform, [0.0, 0.0, 1.0]]))[:2]
    matrix = inverse[:, :2] * size[:, None] / size
    border = max(picture.shape) // 2
    wide = Image.fromarray(np.pad(picture, ((border, border), (border, border), (0, 0)), mode="edge"))
    coefficients = np.column_stack([matrix, inverse[:, 2] * size + border]).ravel().tolist()
    size_now = picture.shape[1], picture.shape[0]
    return np.asarray(wide.transform(size_now, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR))


def about_centre(matrix: np.ndarray) -> np.ndarray:
    """Return the transform that applies a 2 x 2 matrix about the middle of a picture."""
    return np.column_stack([matrix, 0.5 - matrix @ np.full(2, 0.5)])


def _either(rng: Rng, largest: float) -> float:
    """Return a number in (-largest, largest)."""
    return float(rng.uniform(-largest, largest))


def _rotate(strength: float, rng: Rng) -> np.ndarray:
    angle = _either(rng, np.pi * strength)
    return about_centre(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


def _shear_x(strength: float, rng: Rng) -> np.ndarray:
    return about_centre(np.array([[1.0, _either(rng, 0.15 * strength)], [0.0, 1.0]]))


def _shear_y(strength: float, rng: Rng) -> np.ndarray:
    return about_centre(np.array([[1.0, 0.0], [_either(rng, 0.15 * strength), 1.0]]))


def _zoom(strength: float, rng: Rng) -> np.ndarray:
    return about_centre(np.eye(2) * (1.0 + _either(rng, 0.15 * strength)))


def _shift(strength: float, rng: Rng) -> np.ndarray:
    return np.column_stack([np.eye(2), rng.uniform(-0.08 * strength, 0.08 * strength, 2)])


def _mirror_x(strength: float, rng: Rng) -> np.ndarray:
    return about_centre(np.diag([-1.0, 1.0]))


def _mirror_y(strength: float, rng: Rng) -> np.ndarray:
    return about_centre(np.diag([1.0, -1.0]))


MOTIONS: dict[str, Motion] = {
    "rotate": _rotate,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "zoom": _zoom,
    "shift": _shift,
    "mirror_x": _mirror_x,
    "mirror_y": _mirror_y,
}
"""Operations that move key points: from a strength in 0..1 to a transform of sides of the picture."""


def _enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Change:
    def change(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
        return np.asarray(enhancer(Image.fromarray(picture)).enhance(1.0 + _either(rng, 0.5 * strength)))

    return change


def _autocontrast(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    return np.asarray(ImageOps.autocontrast(Image.fromarray(picture), cutoff=2 * strength, preserve_tone=True))


def _posterize(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    return np.asarray(ImageOps.posterize(Image.fromarray(picture), 8 - round(4 * strength)))


def _directed_edges(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Blend in the rise of brightness along a random direction."""
    grey = picture.mean(axis=2)
    angle = rng.uniform(0, 2 * np.pi)
    edges = np.abs(np.cos(angle) * ndimage.sobel(grey, axis=1) + np.sin(angle) * ndimage.sobel(grey, axis=0)) / 4
    return _blended(picture, np.repeat(edges[..., None], 3, axis=2), 0.3 * strength * rng.random())


def _gaussian_blur(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    radius = rng.uniform(0, strength) * len(picture) / 64
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def _box_blur(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    return np.asarray(
        Image.fromarray(picture).filter(ImageFilter.BoxBlur(rng.uniform(0, strength) * len(picture) / 64))
    )


def _motion_blur(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Average shifted copies along a random direction."""
    angle, reach = rng.uniform(0, np.pi), rng.uniform(0.5, 1.5) * strength * len(picture) / 48
    steps = np.rint(np.linspace(-reach, reach, 5)[:, None] * (np.sin(angle), np.cos(angle))).astype(int)
    return _whole(np.mean([np.roll(picture, tuple(step), axis=(0, 1)) for step in steps], axis=0))


def _added_noise(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    return _whole(picture + rng.normal(0, 12 * strength + 1e-6, picture.shape))


def _factor_noise(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    return _whole(picture * rng.uniform(1 - 0.2 * strength, 1 + 0.2 * strength, picture.shape))


def _covered_pixels(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Replace single pixels by black or white."""
    shape = picture.shape[:2]
    values = np.where(rng.random(shape) < 0.5, 0, 255)[..., None]
    return np.where((rng.random(shape) < 0.04 * strength)[..., None], values, picture).astype(np.uint8)


def _patches(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Cover small rectangles by one colour each."""
    picture = picture.copy()
    for _ in range(rng.integers(1, 3, endpoint=True)):
        sides = np.maximum(rng.uniform(0.03, 0.03 + 0.12 * strength, 2) * picture.shape[:2], 1).astype(int)
        row, column = (rng.integers(0, limit - side + 1) for limit, side in zip(picture.shape, sides, strict=False))
        picture[row : row + sides[0], column : column + sides[1]] = rng.integers(0, 256, 3)
    return picture


def _jpeg(picture: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=round(rng.uniform(95 - 65 * strength, 95)))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _blended(picture: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return _whole(picture * (1 - share) + other * share)


def _whole(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "brightness": _enhanced(ImageEnhance.Brightness),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "saturation": _enhanced(ImageEnhance.Color),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "autocontrast": _autocontrast,
    "posterize": _posterize,
    "directed_edges": _directed_edges,
    "gaussian_blur": _gaussian_blur,
    "box_blur": _box_blur,
    "motion_blur": _motion_blur,
    "added_noise": _added_noise,
    "factor_noise": _factor_noise,
    "covered_pixels": _covered_pixels,
    "patches": _patches,
    "jpeg": _jpeg,
}
"""Operations that leave key points where they are: given a picture, a strength in 0..1 and a generator."""
OPERATIONS = (*MOTIONS, *CHANGES)
