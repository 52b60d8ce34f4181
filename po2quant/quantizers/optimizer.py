"""Adam with a rate of its own for trained thresholds."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from po2quant.quantizers.base import LOG2_THRESHOLD


@keras.saving.register_keras_serializable(package="po2quant")
class ThresholdAdam(keras.optimizers.Adam):
    """Adam that trains the thresholds of ``alpha='learned_po2'`` at their own rate and then leaves them alone.

    Adam's steps do not depend on the size of gradients, so that the rate is how far a threshold moves in a step: in
    octaves, since log2 t is what is trained, whatever its tensor's values are. Weights need rates of their own.

    Equation:
        rate(step) = threshold_rate * max(0, 1 - step / threshold_steps): from ``threshold_steps`` on every exponent
        stays as it is, and weights are trained under constant scales.

    Args:
        learning_rate: of everything but thresholds.
        threshold_rate: largest change of log2 t in a step, in octaves, at the start.
        **kwargs: as of ``keras.optimizers.Adam``.

    Reference:
        Jain et al., arXiv 1903.08066: Adam for thresholds in the log domain, at a rate of 1e-2 that decays, and
        thresholds that are frozen before the end.
    """

    def __init__(self, learning_rate: float = 0.001, threshold_rate: float = 0.1, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.threshold_rate = float(threshold_rate)

    def build(self, variables: list[keras.Variable]) -> None:
        """Create the state of each variable."""
        if self.built:
            return
        super().build(variables)
        self._thresholds = {index for index, variable in enumerate(variables) if variable.name == LOG2_THRESHOLD}
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

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Change one variable."""
        if self._get_variable_index(variable) in self._thresholds:
            learning_rate = self._current_threshold_rate()
        super().update_step(gradient, variable, learning_rate)

    def _current_threshold_rate(self) -> tf.Tensor:
        step, steps = tf.cast(self.iterations, tf.float32), tf.convert_to_tensor(self._threshold_steps)
        return tf.where(step < steps, self.threshold_rate * (1.0 - step / steps), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        return super().get_config() | {"threshold_rate": self.threshold_rate}
