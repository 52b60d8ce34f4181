"""How a network is trained."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from po2quant.bit_config import check_alpha
from po2quant.fixed_point import check_bits

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a benchmark is trained: Adam, shuffled every epoch.

    Args:
        loss: Keras loss, or its name.
        epochs: epochs of fine-tuning.
        float_epochs: epochs of the float network where no weights are given.
        batch_size: samples per step.
        learning_rate: rate of an epoch, counted from 0.
        metrics: Keras metrics that are logged, functions or their names; of several outputs, those of each by its name.
        patience: epochs without a better validation value before training stops; None never stops.
        float_learning_rate: rate of an epoch while the float network is trained; None means ``learning_rate``.
        threshold_rate: largest change of a learned threshold in a step, in octaves, at the start.
        threshold_travel: octaves that a learned threshold of 4 bits can move in all; wider ones move less.
        thresholds_frozen_after: share of all steps after which learned thresholds stay as they are.
        damping: at the end, the weight of the squared rounding error of weights of at most 4 bits with learned scales.
        exponent_interval: training steps from one search of the weights' power-of-two exponents to the next.
        annealing: factor of the learning rate, given the share of the training that is done; None: 1.
        distillation: weight in the loss of what the float network gives, in [0, 1]; the targets of the data have the
            rest. See :func:`~po2quant.training.distill.distill`.
        averaging: weight of the past in the moving average of the weights over epochs, in [0, 1), which is validated
            and kept in their place; 0: none.
        staged_bits: widths, descending, through which training goes down: in each stage every narrower kernel and
            activation has this width. Empty: all epochs have the configuration's own.
        staged_share: share of the epochs that the stages take in all.
        activation_alpha: kind of scales of the activations of a network with ``alpha='auto_po2'``; None: that.
        centred: whether biases are trained at the mean of their layers' inputs, see
            :func:`~po2quant.training.centring.centred`.
        optimizer: given a learning rate, returns a new optimizer; None: Adam. Learned scales have their own.
        loss_weights: of each output's loss, where there are several.

    Raises:
        ValueError: for a distillation, averaging, staged_bits, staged_share or activation_alpha out of range.
    """

    loss: Any
    epochs: int
    float_epochs: int
    batch_size: int
    learning_rate: Callable[[int], float]
    metrics: Any = ()
    patience: int | None = None
    float_learning_rate: Callable[[int], float] | None = None
    threshold_rate: float = 0.1
    threshold_travel: float = 5.0
    thresholds_frozen_after: float = 0.8
    damping: float = 0.0
    exponent_interval: int = 1
    annealing: Callable[[float], float] | None = None
    distillation: float = 0.0
    averaging: float = 0.0
    staged_bits: tuple[int, ...] = ()
    staged_share: float = 0.5
    activation_alpha: str | None = None
    centred: bool = False
    optimizer: Callable[[float], keras.optimizers.Optimizer] | None = None
    loss_weights: Any = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.distillation <= 1.0:
            raise ValueError(f"distillation must be in [0, 1]. Received: distillation={self.distillation}")
        for name in ("averaging", "staged_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1). Received: {name}={getattr(self, name)}")
        for bits in self.staged_bits:
            check_bits(bits)
        if any(wider <= narrower for wider, narrower in itertools.pairwise(self.staged_bits)):
            raise ValueError(f"staged_bits must descend. Received: staged_bits={self.staged_bits}")
        if self.activation_alpha is not None:
            check_alpha(self.activation_alpha)

    def rate(self, epoch: int, epochs: int) -> float:
        """Return the learning rate of an epoch, counted from 0, of so many; that of its middle where it is annealed."""
        factor = 1.0 if self.annealing is None else self.annealing((epoch + 0.5) / epochs)
        return self.learning_rate(epoch) * factor

    def for_float(self) -> Recipe:
        """Return the recipe of the float network: its rates, and nothing that a trained one must be there for."""
        rate = self.float_learning_rate or self.learning_rate
        return dataclasses.replace(
            self, learning_rate=rate, annealing=None, distillation=0.0, averaging=0.0, staged_bits=()
        )
