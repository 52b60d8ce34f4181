"""Synthetic flies: what each looks like, where its parts are, and its pixels.

A fly has a frame of its own: ``u`` runs from the top of the head (-0.5) to the end of the tail (0.5), ``v`` to one
side; the unit is the length of the body. Everything here is vectorized over flies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

TRAITS = {"wing": ("small", "long"), "eye": ("white", "red"), "sex": ("male", "female")}
"""Names of the three binary traits, and of their values 0 and 1."""
KEY_POINTS = ("head", "tail", "wing tip", "other wing tip")

HEAD, TAIL, HINGE = (-0.5, 0.0), (0.5, 0.0), (-0.12, 0.07)
WING_LENGTHS = ((0.50, 0.62), (0.84, 0.98))  # of small and long wings
WING_WIDTH = 0.17  # half of it, in wing lengths
ABDOMEN_CENTRE, ABDOMEN_RADIUS = 0.19, 0.31
DARK_TIP = 0.55  # where the tail of a male gets dark, from -1 to 1 along the abdomen
LEGS = ((-0.26, -0.42), (-0.17, -0.16), (-0.08, 0.14))  # u of the roots and of the feet
LEG_WIDTH = 0.014  # half of it
EYE_COLOURS = np.array(((238, 230, 214), (172, 32, 24)), np.float32)
WING_COLOUR, VEIN_COLOUR = np.array(((206, 206, 200), (118, 112, 104)), np.float32)
DARK_COLOUR, LEG_COLOUR = np.array(((44, 32, 24), (96, 72, 48)), np.float32)
OUTLINE_POINTS = 32  # of each part
SMALL = 1e-4


@dataclasses.dataclass(frozen=True)
class Flies:
    """Flies by their traits and proportions, one a row.

    Args:
        traits: 0 or 1 for each row of :data:`TRAITS`, uint8 ``(flies, 3)``.
        wing_length: in body lengths, ``(flies,)``.
        splay: angle of each wing to the body in radians, ``(flies, 2)``.
        feet: distance of the feet from the body's axis, ``(flies, 3)``.
        width: factor of the widths, ``(flies,)``.
        colour: of the body, ``(flies, 3)`` in 0..255.
        heading: angle from the picture's x axis to ``u`` in radians, ``(flies,)``.
        length: of the body; females are larger, ``(flies,)``.
    """

    traits: np.ndarray
    wing_length: np.ndarray
    splay: np.ndarray
    feet: np.ndarray
    width: np.ndarray
    colour: np.ndarray
    heading: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.traits)

    def in_picture(self, points: np.ndarray, centres: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return where points of the flies' frames are in a picture.

        Args:
            points: ``(flies, points, 2)``.
            centres: of the bodies in pixels, ``(flies, 2)``.
            scale: pixels of a body length, ``(flies,)``.
        """
        cos, sin = np.cos(self.heading)[:, None], np.sin(self.heading)[:, None]
        u, v = points[..., 0], points[..., 1]
        turned = np.stack((u * cos - v * sin, u * sin + v * cos), axis=-1)
        return centres[:, None] + scale[:, None, None] * turned


def random_flies(traits: np.ndarray, rng: np.random.Generator) -> Flies:
    """Return flies of given traits, ``(flies, 3)``, in random poses and proportions."""
    count, (wing, _, sex) = len(traits), traits.T
    shortest, longest = np.take(WING_LENGTHS, wing, axis=0).T
    return Flies(
        traits=traits.astype(np.uint8),
        wing_length=rng.uniform(shortest, longest),
        splay=np.radians(rng.uniform(4, 30, (count, 1)) + rng.uniform(-4, 4, (count, 2))),
        feet=rng.uniform(0.2, 0.3, (count, len(LEGS))),
        width=rng.uniform(0.92, 1.08, count),
        colour=np.array((182, 142, 88)) * rng.uniform(0.82, 1.1, (count, 1)) * rng.uniform(0.95, 1.05, (count, 3)),
        heading=rng.uniform(0, 2 * np.pi, count),
        length=np.where(sex, 1.0, 0.88) * rng.uniform(0.94, 1.06, count),
    )


def key_points(flies: Flies) -> np.ndarray:
    """Return head, tail and the two wing tips in the flies' frames, float64 ``(flies, 4, 2)``."""
    ends = np.broadcast_to((HEAD, TAIL), (len(flies), 2, 2))
    return np.concatenate((ends, _on_wings(flies, np.array(((1.0, 0.0),)))), axis=1)


def outline(flies: Flies) -> np.ndarray:
    """Return points around every part of the flies, in their frames, float64 ``(flies, points, 2)``."""
    angle = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False)
    circle = np.stack((np.cos(angle), np.sin(angle)), axis=-1)
    plain = np.concatenate([centre + circle * radii for centre, radii, _ in _plain_parts(flies)])
    parts = [np.broadcast_to(plain, (len(flies), *plain.shape))]
    taper = 1 - _taper(flies)[:, None] * circle[:, 0]
    abdomen = circle * np.stack((np.full(len(flies), ABDOMEN_RADIUS), _abdomen_width(flies)), axis=-1)[:, None]
    abdomen[..., 1] *= taper
    parts.append(abdomen + np.array((ABDOMEN_CENTRE, 0.0)))
    parts.append(_on_wings(flies, np.stack((0.5 + 0.5 * circle[:, 0], WING_WIDTH * circle[:, 1]), axis=-1)))
    for leg, (_, foot) in enumerate(LEGS):
        feet = np.stack((np.full(len(flies), foot), flies.feet[:, leg]), axis=-1)[:, None] + LEG_WIDTH * circle[::4]
        parts += [feet, feet * np.array((1, -1))]
    return np.concatenate(parts, axis=1)


def paint(flies: Flies, size: int, centres: np.ndarray, scale: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """Return a patch of pixels for each fly.

    Args:
        flies: what is painted.
        size: rows and columns of a patch.
        centres: of the bodies within the patches in pixels, ``(flies, 2)``.
        scale: pixels of a body length, ``(flies,)``.
        blur: width of the edges in pixels, ``(flies,)``.

    Returns:
        Colours in 0..255 times opacity, and opacity: float32 ``(flies, size, size, 4)``.
    """
    *colours, covered = np.zeros((4, len(flies), size, size), np.float32)
    for colour, opacity in _layers(flies, size, centres, scale, blur):
        for channel, values in zip(colours, np.moveaxis(colour, -1, 0), strict=True):
            channel += opacity * (values - channel)
        covered += opacity * (1 - covered)
    return np.stack((*colours, covered), axis=-1)


def _layers(
    flies: Flies, size: int, centres: np.ndarray, scale: np.ndarray, blur: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield colour and opacity of each part, the lowest first."""
    u, v = _frames(flies, size, centres, scale)
    sharpness, right = _column(scale / blur), np.abs(v)

    def ellipse(x: np.ndarray, y: np.ndarray, length: np.ndarray | float, width: np.ndarray | float) -> np.ndarray:
        q, slope = _norm(x / length, y / width), _norm(x / length**2, y / width**2)
        to_edge = (1 - q) * np.maximum(q, SMALL) / np.maximum(slope, SMALL)
        return np.clip(to_edge * sharpness + 0.5, 0, 1)

    for leg, (root, foot) in enumerate(LEGS):
        yield (
            LEG_COLOUR,
            0.6 * np.clip(0.5 + sharpness * (LEG_WIDTH - _to_leg(u, right, root, foot, flies.feet[:, leg])), 0, 1),
        )
    along, width = (u - ABDOMEN_CENTRE) / ABDOMEN_RADIUS, _column(_abdomen_width(flies))
    narrowed = width * (1 - _column(_taper(flies)) * np.clip(along, -1, 1))
    is_female, body = _column(flies.traits[:, 2]), flies.colour.astype(np.float32)[:, None, None]
    stripes = 0.45 * (np.cos(13 * along) > 0.2)
    tip = np.clip(8 * (along - DARK_TIP) + 0.5, 0, 1)
    darkness = np.where(is_female > 0, stripes, np.maximum(stripes, tip))[..., None]
    abdomen = ellipse(u - ABDOMEN_CENTRE, v, ABDOMEN_RADIUS, narrowed)
    yield body * (1 - darkness) + DARK_COLOUR * darkness, abdomen
    for (centre, _), (length, half_width), colour in _plain_parts(flies):
        yield colour[:, None, None], ellipse(u - centre, right, length, half_width)
    yield EYE_COLOURS[flies.traits[:, 1]][:, None, None], ellipse(u + 0.40, right - 0.092, 0.068, 0.05)
    for side, splay in zip((1, -1), flies.splay.T, strict=True):
        cos, sin = _column(np.cos(splay)), _column(np.sin(splay))
        du, dv, length = u - HINGE[0], side * v - HINGE[1], _column(flies.wing_length)
        along, across = du * cos + dv * sin - 0.5 * length, dv * cos - du * sin
        wing = ellipse(along, across, 0.5 * length, WING_WIDTH * length)
        vein = np.clip((_norm(2 * along, across / WING_WIDTH) / length - 0.8) * 8, 0, 1)
        colour = WING_COLOUR + (VEIN_COLOUR - WING_COLOUR) * vein[..., None]
        yield colour, (0.35 + 0.3 * vein) * wing


def _frames(flies: Flies, size: int, centres: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return u and v of every pixel's middle, float32 ``(flies, size, size)`` each."""
    middle = np.arange(size, dtype=np.float32) + np.float32(0.5)
    dx = ((middle - centres[:, :1]) / scale[:, None]).astype(np.float32)[:, None, :]
    dy = ((middle - centres[:, 1:]) / scale[:, None]).astype(np.float32)[:, :, None]
    cos, sin = _column(np.cos(flies.heading)), _column(np.sin(flies.heading))
    return dx * cos + dy * sin, dy * cos - dx * sin


def _plain_parts(flies: Flies) -> Iterator[tuple[tuple[float, float], tuple[float, float], np.ndarray]]:
    """Yield centre, radii and colour of thorax and head."""
    colour = flies.colour.astype(np.float32)
    yield (-0.17, 0.0), (0.19, 0.135), colour * np.float32(0.78)
    yield (-0.39, 0.0), (0.11, 0.115), colour * np.float32(0.9)


def _to_leg(u: np.ndarray, right: np.ndarray, root: float, foot: float, reach: np.ndarray) -> np.ndarray:
    """Return the distance of pixels from a straight leg."""
    start, along, out = 0.09, np.float32(foot - root), _column(reach) - np.float32(0.09)
    share = np.clip(((u - root) * along + (right - start) * out) / (along**2 + out**2), 0, 1)
    return _norm(u - root - share * along, right - start - share * out)


def _on_wings(flies: Flies, points: np.ndarray) -> np.ndarray:
    """Return points of a wing's frame on both wings, ``(points, 2)`` to ``(flies, 2 * points, 2)``."""
    sides = []
    for side, splay in zip((1, -1), flies.splay.T, strict=True):
        cos, sin = np.cos(splay)[:, None], np.sin(splay)[:, None]
        along, across = flies.wing_length[:, None] * points[:, 0], flies.wing_length[:, None] * points[:, 1]
        u, v = HINGE[0] + along * cos - across * sin, HINGE[1] + along * sin + across * cos
        sides.append(np.stack((u, side * v), axis=-1))
    return np.concatenate(sides, axis=1)


def _abdomen_width(flies: Flies) -> np.ndarray:
    """Return half the width of the abdomens in body lengths."""
    return np.where(flies.traits[:, 2] > 0, 0.155, 0.14) * flies.width


def _taper(flies: Flies) -> np.ndarray:
    """Return how much the abdomens narrow towards the tail: those of females are pointed."""
    return np.where(flies.traits[:, 2] > 0, 0.4, 0.08)


def _norm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``sqrt(x**2 + y**2)``, much faster than ``np.hypot``, which minds overflow."""
    return np.sqrt(x * x + y * y)


def _column(values: np.ndarray) -> np.ndarray:
    """Return a value a fly, shaped for its pixels."""
    return values.astype(np.float32)[:, None, None]
