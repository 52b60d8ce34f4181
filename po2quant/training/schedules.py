"""Learning rates by epoch, counted from 0, and other courses of training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence


def constant(learning_rate: float) -> Callable[[int], float]:
    """Return the schedule ``rate(epoch) = learning_rate``."""
    return lambda epoch: learning_rate


def exponential_decay(learning_rate: float, factor: float) -> Callable[[int], float]:
    """Return the schedule ``rate(epoch) = learning_rate * factor**epoch``."""
    return lambda epoch: learning_rate * factor**epoch


def piecewise(stages: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """Return the schedule that holds each rate from its first epoch on.

    Args:
        stages: ``(first epoch, rate)``, ascending, the first from epoch 0.

    Example:
        >>> rate = piecewise(((0, 1e-3), (20, 5e-4)))
        >>> rate(19), rate(20)
        (0.001, 0.0005)
    """
    if not stages or stages[0][0] != 0 or any(a[0] >= b[0] for a, b in itertools.pairwise(stages)):
        raise ValueError(f"stages must start at epoch 0 and ascend. Received: {stages}")
    return lambda epoch: [rate for first, rate in stages if first <= epoch][-1]


def rising_cosine(share_done: float) -> float:
    """Return ``(1 - cos(pi * share_done)) / 2``, which rises from 0 to 1, slowly at both ends."""
    return (1.0 - math.cos(math.pi * share_done)) / 2.0


def cosine(warm_up: float = 0.0) -> Callable[[float], float]:
    """Return the factor of a rate that rises linearly from 0 to 1 and then falls to 0 along half a cosine.

    Args:
        warm_up: share of the training in which it rises, in [0, 1).

    Raises:
        ValueError: for a share out of range.

    Example:
        >>> factor = cosine(warm_up=0.2)
        >>> factor(0.1), factor(0.2), round(factor(0.6), 6)
        (0.5, 1.0, 0.5)
    """
    if not 0.0 <= warm_up < 1.0:
        raise ValueError(f"warm_up must be in [0, 1). Received: warm_up={warm_up}")

    def factor(share_done: float) -> float:
        if share_done < warm_up:
            return share_done / warm_up
        return 1.0 - rising_cosine((share_done - warm_up) / (1.0 - warm_up))

    return factor
