"""Gradients through quantizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def gradient(
    function: Callable[..., tf.Tensor], x: np.ndarray, upstream: np.ndarray | float = 1.0, **arguments: Any
) -> np.ndarray:
    """Return the gradient of ``sum(function(x, **arguments) * upstream)`` with respect to ``x``."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(function(x, **arguments) * upstream)
    return tape.gradient(loss, x).numpy()
