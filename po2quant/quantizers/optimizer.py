"""Adam with rates of their own for trained thresholds."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant.graphs import shared_graph
from po2quant.quantizers.base import LOG2_THRESHOLD

_NARROW_BITS = 4
"""Width at which a threshold may travel the whole way."""


def threshold_rate(bits: int, steps: int, travel: float, largest: float) -> float:
    """Return the rate at which a threshold moves ``travel`` octaves at most until it is frozen, less in wide formats.

    Equation:
        rate = min(largest, 2 * travel / steps * sqrt((2**3 - 1) / (2**(bits - 1) - 1))): a rate that falls linearly to
        zero moves a threshold rate * steps / 2 octaves.

    Args:
        bits: width of the quantizer.
        steps: training steps after which thresholds are frozen.
        travel: octaves that a threshold of 4 bits can move in all.
        largest: largest rate, in octaves per step.

    Reference:
        Jain et al., arXiv 1903.08066, guidelines for Adam: a rate of at most 0.1 / sqrt(2**(bits - 1) - 1) lets a
        threshold that has arrived change its exponent no more.
    """
    narrowness = (2.0 ** (_NARROW_BITS - 1) - 1.0) / (2.0 ** (max(bits, 2) - 1) - 1.0)
    return min(largest, 2.0 * travel / max(steps, 1) * math.sqrt(narrowness))


@functools.partial(shared_graph, inlined=False)
def _moved_thresholds(
    iterations: tf.Tensor,
    steps: tf.Tensor,
    rates: tf.Tensor,
    *state: tf.Tensor,
    shapes: Sequence[tuple[int, ...]],
    adam: Sequence[float],
) -> list[list[tf.Tensor]]:
    """Return thresholds and their moments after a step of Keras' Adam: all at once, in a tenth of the operations.

    Args:
        iterations: steps that were done.
        steps: steps after which nothing moves.
        rates: of each threshold, at the start.
        state: every gradient, then every threshold, momentum, velocity (and, with amsgrad, largest velocity).
        shapes: of the thresholds.
        adam: beta_1, beta_2, epsilon.
    """
    count, sizes, flat = len(shapes), list(map(math.prod, shapes)), tf.constant([-1])
    parts = [state[start : start + count] for start in range(0, len(state), count)]
    joined = [tf.concat([tf.reshape(tensor, flat) for tensor in part], axis=0) for part in parts]
    step = tf.cast(iterations, rates.dtype)
    rate = tf.repeat(rates, sizes) * tf.where(step < steps, 1.0 - step / steps, 0.0)
    constant = {shape: tf.constant(shape, tf.int32) for shape in shapes}
    return [
        [tf.reshape(value, constant[shape]) for value, shape in zip(tf.split(moved, sizes), shapes, strict=True)]
        for moved in _stepped(iterations, rate, *joined, adam=adam)
    ]


def _stepped(
    iterations: tf.Tensor, rate: tf.Tensor, gradient: tf.Tensor, *state: tf.Tensor, adam: Sequence[float]
) -> list[tf.Tensor]:
    """Return values and their moments after a step of Keras' Adam, operation for operation.

    Args:
        iterations: steps that were done.
        rate: of all values, or of each.
        gradient: of the values.
        state: the values, their momentum, velocity (and, with amsgrad, largest velocity).
        adam: beta_1, beta_2, epsilon.
    """
    values, momentum, velocity, *largest = state
    beta_1, beta_2, epsilon = adam
    power, gradient = tf.cast(iterations + 1, values.dtype), tf.cast(gradient, values.dtype)
    biases = [1.0 - tf.pow(tf.cast(beta, values.dtype), power) for beta in (beta_1, beta_2)]
    alpha = tf.cast(rate, values.dtype) * tf.sqrt(biases[1]) / biases[0]
    momentum += (gradient - momentum) * (1.0 - beta_1)
    velocity += (tf.square(gradient) - velocity) * (1.0 - beta_2)
    largest = [tf.maximum(past, velocity) for past in largest]
    values -= momentum * alpha / (tf.sqrt((largest or [velocity])[0]) + epsilon)
    return [values, momentum, velocity, *largest]


_moved_weight = shared_graph(_stepped)


@keras.saving.register_keras_serializable(package="po2quant")
class ThresholdAdam(keras.optimizers.Adam):
    """Adam that trains the thresholds of ``alpha='learned_po2'`` at their own rates and then leaves them alone.

    Adam's steps do not depend on the size of gradients, so that the rate is how far a threshold moves in a step: in
    octaves, since log2 t is what is trained, whatever its tensor's values are. Weights need rates of their own.

    Equation:
        rate(step) = rate * max(0, 1 - step / threshold_steps): from ``threshold_steps`` on every exponent
        stays as it is, and weights are trained under constant scales.

    Args:
        learning_rate: of everything but thresholds.
        threshold_rate: largest change of log2 t in a step, in octaves, at the start; see also ``threshold_rates``.
        **kwargs: as of ``keras.optimizers.Adam``.

    Reference:
        Jain et al., arXiv 1903.08066: Adam for thresholds in the log domain, at a rate of 1e-2 that decays, and
        thresholds that are frozen before the end.
    """

    def __init__(self, learning_rate: float = 0.001, threshold_rate: float = 0.1, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.exclude_from_weight_decay()
        self.threshold_rate = float(threshold_rate)

    def exclude_from_weight_decay(
        self, var_list: Sequence[keras.Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exclude variables from weight decay, as Keras does, and thresholds always."""
        super().exclude_from_weight_decay(var_list, [*(var_names or ()), LOG2_THRESHOLD])

    def build(self, variables: list[keras.Variable]) -> None:
        """Create the state of each variable."""
        if self.built:
            return
        super().build(variables)
        thresholds = (index for index, variable in enumerate(variables) if variable.name == LOG2_THRESHOLD)
        self._thresholds = {index: position for position, index in enumerate(thresholds)}
        self._threshold_rates = self.add_variable(
            shape=(len(self._thresholds),),
            dtype="float32",
            initializer=keras.initializers.Constant(self.threshold_rate),
            name="threshold_rates",
        )
        self._threshold_steps = self.add_variable(
            shape=(), dtype="float32", initializer=keras.initializers.Constant(float("inf")), name="threshold_steps"
        )

    @property
    def threshold_steps(self) -> float:
        """Steps after which thresholds are frozen; infinite unless assigned."""
        return float(self._threshold_steps.numpy())

    @threshold_steps.setter
    def threshold_steps(self, steps: float) -> None:
        self._threshold_steps.assign(steps)

    @property
    def threshold_rates(self) -> np.ndarray:
        """The rate of each threshold, in the order of the trained variables; ``threshold_rate`` unless assigned."""
        return self._threshold_rates.numpy()

    @threshold_rates.setter
    def threshold_rates(self, rates: Sequence[float]) -> None:
        self._threshold_rates.assign(rates)

    def _backend_update_step(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable], learning_rate: tf.Tensor
    ) -> None:
        """Change every variable: thresholds all at once, since they are many and small."""
        found = list(zip(grads, trainable_variables, map(self._get_variable_index, trainable_variables), strict=True))
        weights = [(gradient, weight) for gradient, weight, index in found if index not in self._thresholds]
        if weights:
            super()._backend_update_step(*zip(*weights, strict=True), learning_rate)
        thresholds = [entry for entry in found if entry[2] in self._thresholds]
        if thresholds:
            self._move(*zip(*thresholds, strict=True))

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Change a weight as Keras does, in a graph that weights of one rank share."""
        state = [variable, *(moment[self._get_variable_index(variable)] for moment in self._moments)]
        known = map(tf.convert_to_tensor, (self.iterations, learning_rate, gradient, *state))
        for old, new in zip(state, _moved_weight(*known, adam=self._constants), strict=True):
            self.assign(old, new)

    @property
    def _moments(self) -> list[list[keras.Variable]]:
        return [self._momentums, self._velocities, *([self._velocity_hats] if self.amsgrad else ())]

    @property
    def _constants(self) -> tuple[float, ...]:
        return self.beta_1, self.beta_2, self.epsilon

    def _move(
        self, gradients: Sequence[tf.Tensor], thresholds: Sequence[keras.Variable], indices: Sequence[int]
    ) -> None:
        variables = [thresholds, *([moment[index] for index in indices] for moment in self._moments)]
        rates = tf.gather(self._threshold_rates, [self._thresholds[index] for index in indices])
        state = itertools.chain(gradients, *variables)
        moved = _moved_thresholds(
            self.iterations,
            self._threshold_steps,
            rates,
            *state,
            shapes=tuple(tuple(threshold.shape) for threshold in thresholds),
            adam=self._constants,
        )
        for variable, value in zip(itertools.chain(*variables), itertools.chain(*moved), strict=True):
            variable.assign(value)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        return super().get_config() | {"threshold_rate": self.threshold_rate}
