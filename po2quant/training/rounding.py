"""Weights whose rounding is learned: up or down, whichever serves the output of their layers (AdaRound)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from po2quant.fixed_point import integer_range

STRETCH = 0.1
"""How far the sigmoid reaches beyond 0 and 1 before it is clipped, so that both are reached."""
SURE = 1e-3
"""Nearest that the first guess comes to 0 and 1, where the gradient would vanish."""


class LearnedRounding:
    """Stands in the place of a weight quantizer while the rounding of its weights is learned.

    Equation:
        y = s * clip(floor(w / s) + h(v), -L, L), h(v) = clip((1 + 2 c) sigmoid(v) - c, 0, 1), c = 0.1.
        It starts at y = w where nothing is clipped.

    Gradient:
        that of the equation, with respect to v; the weights themselves stay.

    Args:
        weights: float weights w.
        scale: value of one LSB, broadcast to the weights.
        bits: width in bits, sign included.

    Reference:
        Nagel et al., arXiv 2004.10568, equations 21 to 25.
    """

    def __init__(self, weights: np.ndarray, scale: np.ndarray, bits: int) -> None:
        self._scale = np.asarray(scale, np.float32)
        self._low, self._high = map(float, integer_range(bits, narrow_range=True))
        multiples = np.asarray(weights, np.float32) / self._scale
        self._floor = np.floor(multiples)
        share = np.clip((multiples - self._floor + STRETCH) / (1 + 2 * STRETCH), SURE, 1 - SURE)
        self.variable = tf.Variable(np.log(share / (1 - share)), dtype=tf.float32)

    def _share_up(self) -> tf.Tensor:
        return tf.clip_by_value((1 + 2 * STRETCH) * tf.sigmoid(self.variable) - STRETCH, 0.0, 1.0)

    def __call__(self, weights: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the weights as they are rounded so far; ``weights`` are those that it was made of."""
        return self._scale * tf.clip_by_value(self._floor + self._share_up(), self._low, self._high)

    def indecision(self, sharpness: tf.Tensor) -> tf.Tensor:
        """Return the mean of ``1 - |2 h - 1|**sharpness``: 0 where every weight is rounded up or down."""
        return tf.reduce_mean(1.0 - tf.abs(2.0 * self._share_up() - 1.0) ** sharpness)

    def rounded(self) -> np.ndarray:
        """Return the weights, each rounded to the integer that it is nearer to by now."""
        up = (self._share_up().numpy() >= 0.5).astype(np.float32)
        return self._scale * np.clip(self._floor + up, self._low, self._high)
