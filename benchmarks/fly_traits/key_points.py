"""Key points of a fly, and the encoding of a symmetric pair that knows no left and right.

Two points (x1, y1), (x2, y2) whose order means nothing become five numbers that are the same in both orders:

    a = (x1 + x2) / 2    c = |x1 - x2|    e = 1 where (x1 - x2) (y1 - y2) > 0, else 0
    b = (y1 + y2) / 2    d = |y1 - y2|

The points are (a - c/2, b -+ d/2) and (a + c/2, b +- d/2), with the upper signs where e is 1. Where the points have the
same x or the same y, both values of e give them.

Source: An et al. 2023, "Application of modern computer technology in classical genetics lab course",
doi 10.16288/j.ycz.22-409, section 2.2.
"""

from __future__ import annotations

import numpy as np

POINTS = ("head", "tail", "wing tip", "wing tip")
CODE = ("head_x", "head_y", "tail_x", "tail_y", "a", "b", "c", "d", "e")
"""What the code of a fly's four points holds; all are in 0..1 where the points are within the picture."""


def encode_pair(points: np.ndarray) -> np.ndarray:
    """Return the code of pairs of points whose order means nothing.

    Args:
        points: coordinates x, y, float ``(..., 2, 2)``: pair, point, axis.

    Returns:
        a, b, c, d, e, float ``(..., 5)``; the same for both orders of the points, and NaN where the points are.

    Example:
        >>> encode_pair(np.array([[0.25, 0.5], [0.75, 1.0]])).tolist()
        [0.5, 0.75, 0.5, 0.5, 1.0]
    """
    first, second = points[..., 0, :], points[..., 1, :]
    difference = first - second
    signs = np.sign(difference[..., :1]) * np.sign(difference[..., 1:])  # a product of differences could be 0 by itself
    return np.concatenate([(first + second) / 2, np.abs(difference), np.maximum(signs, 0.0)], axis=-1)


def decode_pair(code: np.ndarray) -> np.ndarray:
    """Return the two points of a code, the one of smaller x first.

    Args:
        code: a, b, c, d, e, float ``(..., 5)``; e is taken as 1 from 0.5 on, so that a network's output will do.

    Returns:
        Coordinates x, y, float ``(..., 2, 2)``: pair, point, axis.
    """
    middle, half = code[..., :2], code[..., 2:4] / 2
    half_y = np.where(code[..., 4] >= 0.5, half[..., 1], -half[..., 1])
    offset = np.stack([half[..., 0], half_y], axis=-1)
    return np.stack([middle - offset, middle + offset], axis=-2)


def encode(points: np.ndarray) -> np.ndarray:
    """Return the code of head, tail and two wing tips: ``(..., 4, 2)`` to ``(..., 9)``, see :data:`CODE`."""
    return np.concatenate([points[..., 0, :], points[..., 1, :], encode_pair(points[..., 2:, :])], axis=-1)


def decode(code: np.ndarray) -> np.ndarray:
    """Return head, tail and two wing tips, the left one first: ``(..., 9)`` to ``(..., 4, 2)``."""
    head_and_tail = code[..., :4].reshape(*code.shape[:-1], 2, 2)
    return np.concatenate([head_and_tail, decode_pair(code[..., 4:])], axis=-2)


def moved(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Return points after an affine change of the picture that holds them.

    Args:
        points: coordinates x, y, float ``(..., 2)``.
        transform: float ``(2, 3)``; a point p goes to ``transform[:, :2] @ p + transform[:, 2]``.
    """
    return points @ transform[:, :2].T + transform[:, 2]


def distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return how far the points of flies are from others, float ``(flies, 4)``; wing tips in the order that fits best.

    Args:
        points: float ``(flies, 4, 2)``: head, tail and two wing tips.
        others: the same.
    """
    straight = np.linalg.norm(points - others, axis=-1)
    crossed = np.linalg.norm(points - others[:, [0, 1, 3, 2]], axis=-1)
    is_crossed = crossed[:, 2:].sum(axis=1) < straight[:, 2:].sum(axis=1)
    return np.where(is_crossed[:, None], crossed, straight)
