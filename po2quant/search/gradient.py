"""Widths by gradient: one training in which each width is a real number, and the nearest choice in the forward pass.

Equation:
    y = Q_b(x) with b the choice nearest to w, and dL/dw = sum dL/dy * -ln 2 * (y - x): a step of 2**-w halves with each
    bit, and so does the error y - x, as far as it is not clipped (straight-through for the choice).
    The widths follow L + strength * ln(cost(w) / reference), with the cost's slope between neighbouring choices.

Reference:
    Yang and Jin, "FracBits", arXiv 2007.02017; Sun et al., "HGQ", arXiv 2405.00645: widths trained beside the weights.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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

STRENGTHS = (0.01, 0.5)
"""Weight of the cost in the loss when a training begins and when it ends; 0.07 is AutoQKeras' 5 % a factor of 2."""

SNAPSHOTS = 6
"""How many times a training tells its widths: the last time when it ends, the others at equal intervals before."""

START_BITS, TRAVEL_BITS, OVER_LIMIT = 8, 12, 10.0
"""Where widths start, how far a training can move them about, and how much more a cost above its limit weighs."""


class WidthTraining:
    """Trains the widths of a network's quantizers beside its weights, while their cost weighs more and more.

    Args:
        problem: widths to choose from, cost and limits.
        training: the network, its data and recipe. It is left as it was, but for its weights.
    """

    def __init__(self, problem: SearchProblem, training: TrialTraining) -> None:
        self._problem, self._training = problem, training
        self._choices = problem.space.choices(problem.layers)
        self._narrowest, self._widest = (
            np.array([widths[end] for widths in self._choices.values()], np.float32) for end in (0, -1)
        )
        start = np.clip(np.float32(START_BITS), self._narrowest, self._widest)
        self._widths = tf.Variable(start, name="widths")

    def run(self, epochs: int, strengths: tuple[float, float] = STRENGTHS) -> list[dict[str, int]]:
        """Return the widths that a training passes through, as the values of trials, the first ones first.

        Args:
            epochs: of the training.
            strengths: weight of the cost in the loss at its begin and its end; in between it grows by a factor a step.
        """
        problem, training, model = self._problem, self._training, self._training.network.model
        training.network.reset(config_from_values(self._nearest(), problem.layers), training.calibration_inputs)
        quantizers = slot_quantizers(model)
        ranges = calibrate_every_width(model, quantizers, self._choices, training.calibration_inputs)
        train, _ = require_training_data(training.dataset)
        batches, size = Pipeline(train.without_augmentation()), training.recipe.batch_size
        steps = epochs * math.ceil(len(train) / size)
        strength = iter(np.geomspace(*strengths, steps))
        told = {math.ceil(steps * number / SNAPSHOTS) for number in range(1, SNAPSHOTS + 1)}
        snapshots, now = list[dict[str, int]](), dict[str, int]()
        with self._gates(quantizers):
            step = self._step(batches.epoch(size, problem.seed, 0).element_spec, TRAVEL_BITS / steps)
            done = 0
            for epoch in range(epochs):
                model.optimizer.learning_rate = training.recipe.learning_rate(epoch)
                for x, targets, *_ in batches.epoch(size, problem.seed, epoch):
                    now = self._settle(quantizers, ranges, now)
                    step(x, targets, self._pull(next(strength), now))
                    done += 1
                    if done in told:
                        snapshots.append(problem.space.values_of(self._nearest(), problem.layers))
        return snapshots

    @contextlib.contextmanager
    def _gates(self, quantizers: Mapping[str, Quantizer]) -> Iterator[None]:
        """Let gradients of the outputs of quantizers reach their widths."""
        places = {slot: place for place, slot in enumerate(self._choices)}
        for slot, quantizer in quantizers.items():
            object.__setattr__(quantizer, "call", _gated(quantizer, self._widths, places[slot]))
        try:
            yield
        finally:
            for quantizer in quantizers.values():
                object.__delattr__(quantizer, "call")

    def _step(self, batch: Sequence[tf.TensorSpec], rate: float) -> Callable[..., None]:
        """Return a step of weights and widths, given inputs, targets and what the cost adds to each width's slope."""
        model, loss, widths = self._training.network.model, keras.losses.get(self._training.recipe.loss), self._widths
        weights = [variable.value for variable in model.trainable_variables]
        optimizer = keras.optimizers.Adam(rate)
        optimizer.build([widths])

        @tf.function(input_signature=[*batch[:2], tf.TensorSpec(widths.shape, tf.float32)], autograph=False)
        def step(x: tf.Tensor, targets: tf.Tensor, pulls: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                total = tf.reduce_mean(loss(targets, model(x, training=True)))
            slopes = tape.gradient(total, [*weights, widths], unconnected_gradients=tf.UnconnectedGradients.ZERO)
            model.optimizer.apply(slopes[:-1], model.trainable_variables)
            optimizer.apply([slopes[-1] + pulls], [widths])
            widths.assign(tf.clip_by_value(widths, self._narrowest, self._widest))

        return step

    def _settle(self, quantizers: Mapping[str, Quantizer], ranges: Ranges, before: Mapping[str, int]) -> dict[str, int]:
        """Give every quantizer its width, and return the widths."""
        now = self._nearest()
        for slot, bits in now.items():
            if before.get(slot) != bits:
                set_width(quantizers[slot], bits, ranges.get((slot, bits)))
        return now

    def _pull(self, strength: float, values: Mapping[str, int]) -> np.ndarray:
        """Return the slope of what the cost adds to the loss, of each width."""
        goal = self._problem.goal
        terms = [(goal.cost, strength)] if goal.trade is not None and goal.limit is None else []
        for limit in goal.all_limits:
            if limit.cost(values) > limit.maximum:
                terms.append((limit.cost, OVER_LIMIT * strength))
        pulls = np.zeros(len(self._choices), np.float32)
        for cost, weight in terms:
            whole = cost(values)
            for place, (slot, widths) in enumerate(self._choices.items()):
                rank = widths.index(values[slot])
                below, above = widths[max(rank - 1, 0)], widths[min(rank + 1, len(widths) - 1)]
                if above > below:
                    rise = cost({**values, slot: above}) - cost({**values, slot: below})
                    pulls[place] += weight * rise / (above - below) / whole
        return pulls

    def _nearest(self) -> dict[str, int]:
        """Return the nearest width of each slot that may be chosen; a group goes by its mean."""
        groups, shared = self._problem.space.groups, dict[str, list[float]]()
        for slot, width in zip(self._choices, self._widths.numpy().tolist(), strict=True):
            shared.setdefault(groups.get(slot, slot), []).append(width)
        means = {name: sum(widths) / len(widths) for name, widths in shared.items()}
        return {
            slot: min(widths, key=lambda bits: abs(bits - means[groups.get(slot, slot)]))
            for slot, widths in self._choices.items()
        }


def _gated(quantizer: Quantizer, widths: tf.Variable, place: int) -> Any:
    """Return the call of a quantizer whose output depends on one of the widths, too, without being changed by it."""
    quantize = type(quantizer).call.__get__(quantizer)

    def call(x: tf.Tensor, *arguments: Any, **named: Any) -> tf.Tensor:
        y, width = quantize(x, *arguments, **named), widths[place]
        largest = tf.reduce_max(tf.abs(x)) * 2.0 ** (1.0 - width)
        slope = -math.log(2.0) * tf.clip_by_value(y - x, -largest, largest)
        return y + (width - tf.stop_gradient(width)) * tf.stop_gradient(slope)

    return call


def trained_widths(problem: SearchProblem, training: TrialTraining, folder: Path) -> list[Values]:
    """Return the widths that a training of widths passes through, kept in the run folder.

    Args:
        problem: of the search.
        training: of its trials; the training of widths has their epochs.
        folder: run folder.
    """
    path = folder / TRAINED_WIDTHS
    if not path.exists():
        snapshots = WidthTraining(problem, training).run(problem.epochs)
        found = {str(number): values for number, values in enumerate(snapshots, 1)}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    narrowest = {slot: widths[0] for slot, widths in problem.space.choices(problem.layers).items()}
    names = set(problem.space.values_of(narrowest, problem.layers))
    values = list(read_json(path, "widths that were trained").values())
    if not all(isinstance(one, dict) and set(one) == names for one in values):
        raise ValueError(f"{path} must have the widths of this network. Received: those of another")
    return [{name: np.asarray(bits).item() for name, bits in one.items()} for one in values]
