"""Adam with rates of their own for trained thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

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

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Change one variable."""
        position = self._thresholds.get(self._get_variable_index(variable))
        if position is not None:
            learning_rate = tf.convert_to_tensor(self._threshold_rates)[position] * self._remaining_share()
        super().update_step(gradient, variable, learning_rate)

    def _remaining_share(self) -> tf.Tensor:
        """Return the share of the rates that is left."""
        step, steps = tf.cast(self.iterations, tf.float32), tf.convert_to_tensor(self._threshold_steps)
        return tf.where(step < steps, 1.0 - step / steps, 0.0)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        return super().get_config() | {"threshold_rate": self.threshold_rate}
