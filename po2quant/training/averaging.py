"""A moving average of weights over epochs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from po2quant.quantizers import LOG2_THRESHOLD


class WeightAverage:
    """The moving average of what a network trains, but for thresholds, whose exponents have no mean.

    Equation:
        a_0 = w_0, a_t = past * a_(t - 1) + (1 - past) * w_t after epoch t.

    Args:
        model: network.
        past: weight of the past, in [0, 1); 0: the average is the network itself, and takes no memory.

    Reference:
        Izmailov et al., arXiv 1803.05407; Park and Yoo, "PROFIT", ECCV 2020, for few bits.
    """

    def __init__(self, model: keras.Model, past: float) -> None:
        self._past = past
        trained = model.trainable_variables if past else []
        self._weights = [variable for variable in trained if variable.name != LOG2_THRESHOLD]
        self.variables = [
            keras.Variable(weight, trainable=False, name=f"average_{number}")
            for number, weight in enumerate(self._weights)
        ]

    def update(self, epoch: int) -> None:
        """Take in the weights after an epoch, counted from 0."""
        past = self._past if epoch else 0.0
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(past * average + (1.0 - past) * weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the network the average within the block."""
        trained = [weight.numpy() for weight in self._weights]
        for average, weight in zip(self.variables, self._weights, strict=True):
            weight.assign(average)
        try:
            yield
        finally:
            for weight, value in zip(self._weights, trained, strict=True):
                weight.assign(value)
