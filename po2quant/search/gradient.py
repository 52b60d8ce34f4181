"""Widths by gradient: one training in which every width is a real number that is rounded in the forward pass.

Equation:
    y = Q_b(x) with b = round(w), and dL/dw = sum dL/dy * -ln 2 * (y - x): a step of 2**-w halves with each bit, and so
    does the error y - x, as far as it is not clipped (straight-through for the rounding of w).
    The widths follow L + strength * ln(cost(w) / reference), with the cost's slope between neighbouring widths.

Reference:
    Yang and Jin, "FracBits", arXiv 2007.02017; Sun et al., "HGQ", arXiv 2405.00645: widths trained beside the weights.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant.files import read_json, write_json
from po2quant.network import slot_quantizers
from po2quant.quantizers import Quantizer
from po2quant.runs.names import TRAINED_WIDTHS
from po2quant.search.problem import SearchProblem, Values
from po2quant.search.sensitivity import Ranges, calibrate_every_width, set_width
from po2quant.search.space import config_from_values
from po2quant.search.trial import TrialTraining
from po2quant.training.finetune import require_training_data
from po2quant.training.pipeline import Pipeline

STRENGTHS = (0.02, 0.07, 0.25)
"""Weights of the cost in the loss; 0.07 is that of AutoQKeras' 5 % a factor of 2."""

START_BITS, TRAVEL_BITS, OVER_LIMIT = 8, 12, 10.0
"""Where widths start, how far a training can move them about, and how much more a cost above its limit weighs."""


class WidthTraining:
    """Trains the widths of a network's quantizers beside its weights.

    Args:
        problem: widths to choose from, cost and limits.
        training: the network, its data and recipe. It is left as it was, but for its weights.
    """

    def __init__(self, problem: SearchProblem, training: TrialTraining) -> None:
        self._problem, self._training = problem, training
        self._choices = problem.space.choices(problem.layers)
        self._widths = {
            slot: tf.Variable(float(min(max(START_BITS, widths[0]), widths[-1])), name=slot.replace("/", "_"))
            for slot, widths in self._choices.items()
        }

    def run(self, strength: float, epochs: int) -> dict[str, int]:
        """Return the widths that one training ends with, as the values of a trial.

        Args:
            strength: weight of the cost in the loss.
            epochs: of the training.
        """
        problem, training, model = self._problem, self._training, self._training.network.model
        for slot, widths in self._choices.items():
            self._widths[slot].assign(float(min(max(START_BITS, widths[0]), widths[-1])))
        training.network.reset(config_from_values(self._rounded(), problem.layers), training.calibration_inputs)
        quantizers = slot_quantizers(model)
        reachable = {slot: range(widths[0], widths[-1] + 1) for slot, widths in self._choices.items()}
        ranges = calibrate_every_width(model, quantizers, reachable, training.calibration_inputs)
        train, _ = require_training_data(training.dataset)
        batches = Pipeline(train.without_augmentation())
        steps = epochs * math.ceil(len(train) / training.recipe.batch_size)
        optimizer = keras.optimizers.Adam(TRAVEL_BITS / steps)
        optimizer.build(list(self._widths.values()))
        with self._gates(quantizers):
            step = self._step(model)
            now: dict[str, int] = {}
            for epoch in range(epochs):
                model.optimizer.learning_rate = training.recipe.learning_rate(epoch)
                for x, targets, *_ in batches.epoch(training.recipe.batch_size, problem.seed, epoch):
                    now = self._settle(quantizers, ranges, now)
                    slopes = step(x, targets)
                    pulls = self._pull(strength)
                    gradients = [slope + pulls[slot] for slot, slope in zip(self._widths, slopes, strict=True)]
                    optimizer.apply_gradients(zip(gradients, self._widths.values(), strict=True))
                    self._clip()
        return self._values()

    @contextlib.contextmanager
    def _gates(self, quantizers: Mapping[str, Quantizer]) -> Iterator[None]:
        """Let gradients of the outputs of quantizers reach their widths."""
        for slot, quantizer in quantizers.items():
            object.__setattr__(quantizer, "call", _gated(quantizer, self._widths[slot]))
        try:
            yield
        finally:
            for quantizer in quantizers.values():
                object.__delattr__(quantizer, "call")

    def _step(self, model: keras.Model) -> Any:
        loss, widths = keras.losses.get(self._training.recipe.loss), list(self._widths.values())
        weights = [variable.value for variable in model.trainable_variables]

        @tf.function
        def step(x: tf.Tensor, targets: tf.Tensor) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                total = tf.reduce_mean(loss(targets, model(x, training=True)))
            slopes = tape.gradient(total, [*weights, *widths], unconnected_gradients=tf.UnconnectedGradients.ZERO)
            model.optimizer.apply(slopes[: len(weights)], model.trainable_variables)
            return slopes[len(weights) :]

        return step

    def _settle(self, quantizers: Mapping[str, Quantizer], ranges: Ranges, before: Mapping[str, int]) -> dict[str, int]:
        """Give every quantizer its rounded width, and return the widths."""
        now = {slot: round(float(width.numpy())) for slot, width in self._widths.items()}
        for slot, bits in now.items():
            if before.get(slot) != bits:
                set_width(quantizers[slot], bits, ranges.get((slot, bits)))
        return now

    def _pull(self, strength: float) -> dict[str, float]:
        """Return the slope of what the cost adds to the loss, by slot."""
        goal, values = self._problem.goal, self._rounded()
        terms = [(goal.cost, strength)] if goal.trade is not None and goal.limit is None else []
        for limit in goal.all_limits:
            if limit.cost(values) > limit.maximum:
                terms.append((limit.cost, OVER_LIMIT * strength))
        pulls = dict.fromkeys(self._widths, 0.0)
        for cost, weight in terms:
            whole = cost(values)
            for slot, widths in self._choices.items():
                bits = values[slot]
                below, above = max(bits - 1, widths[0]), min(bits + 1, widths[-1])
                if above > below:
                    rise = cost({**values, slot: above}) - cost({**values, slot: below})
                    pulls[slot] += weight * rise / (above - below) / whole
        return pulls

    def _clip(self) -> None:
        for slot, widths in self._choices.items():
            value = float(self._widths[slot].numpy())
            clipped = min(max(value, widths[0]), widths[-1])
            if clipped != value:
                self._widths[slot].assign(clipped)

    def _rounded(self) -> dict[str, int]:
        return {slot: round(float(width.numpy())) for slot, width in self._widths.items()}

    def _values(self) -> dict[str, int]:
        """Return the nearest widths that may be chosen, one for each group."""
        space, shared = self._problem.space, dict[str, list[float]]()
        for slot, width in self._widths.items():
            shared.setdefault(space.groups.get(slot, slot), []).append(float(width.numpy()))
        means = {name: sum(widths) / len(widths) for name, widths in shared.items()}
        nearest = {
            slot: min(widths, key=lambda bits: abs(bits - means[space.groups.get(slot, slot)]))
            for slot, widths in self._choices.items()
        }
        return space.values_of(nearest, self._problem.layers)


def _gated(quantizer: Quantizer, width: tf.Variable) -> Any:
    """Return the call of a quantizer whose output depends on its width, too, without being changed by it."""
    quantize = type(quantizer).call.__get__(quantizer)

    def call(x: tf.Tensor, *arguments: Any, **named: Any) -> tf.Tensor:
        y = quantize(x, *arguments, **named)
        largest = tf.reduce_max(tf.abs(x)) * 2.0 ** (1.0 - width)
        slope = -math.log(2.0) * tf.clip_by_value(y - x, -largest, largest)
        return y + (width - tf.stop_gradient(width)) * tf.stop_gradient(slope)

    return call


def trained_widths(problem: SearchProblem, training: TrialTraining, folder: Path) -> list[Values]:
    """Return the widths that trainings of several strengths end with, kept in the run folder.

    Args:
        problem: of the search.
        training: of its trials; each training of widths has their epochs.
        folder: run folder.
    """
    path = folder / TRAINED_WIDTHS
    if not path.exists():
        widths = WidthTraining(problem, training)
        found = {str(strength): widths.run(strength, problem.epochs) for strength in STRENGTHS}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    narrowest = {slot: widths[0] for slot, widths in problem.space.choices(problem.layers).items()}
    names = set(problem.space.values_of(narrowest, problem.layers))
    values = list(read_json(path, "widths that were trained").values())
    if not all(isinstance(one, dict) and set(one) == names for one in values):
        raise ValueError(f"{path} must have the widths of this network. Received: those of another")
    return [{name: np.asarray(bits).item() for name, bits in one.items()} for one in values]
