"""All layers of a quantized network learn at once what the float network gives, in steps of their own LSBs."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from po2quant.network.graph import Node, evaluate, read_graph
from po2quant.network.quantized import weight_quantizers
from po2quant.network.walk import Arrays, input_arrays, walk
from po2quant.progress import SILENT, ProgressLine
from po2quant.training.centring import centred
from po2quant.training.schedules import cosine

MEASURED = 256
"""Inputs that means and standard deviations are taken of, and that are computed at a time."""
RATE = cosine(warm_up=0.1)
"""Factor of the rates, by the share of the steps that is done."""


def learn_jointly(
    teacher: keras.Model,
    model: keras.Model,
    x: Arrays,
    steps: int,
    rates: tuple[float, float] = (0.002, 0.001),
    batch_size: int = 32,
    seed: int = 0,
    line: ProgressLine = SILENT,
) -> None:
    """Train kernels and biases on the outputs of the float network, all layers together, centred.

    Equation:
        L = sum over outputs of mean((f(x) - t(x))^2) / var(t), f the quantized network and t the float one.
        Adam moves w / s, where s is the scale of a weight's channel, and c / d, where c is a bias at the mean of its
        layer's inputs and d the standard deviation of its layer's output: one pair of rates then fits every layer of
        every network. Rates rise in the first tenth of the steps, then fall to 0 along half a cosine.

    Kernels keep their frozen scales. Weights in the cells of recurrent layers stay.

    Args:
        teacher: float network.
        model: its quantized form, calibrated, kernels frozen.
        x: inputs, ``(samples, ...)``, one array for each of the network's; labels are not needed.
        steps: of Adam.
        rates: largest ones, of kernels in LSBs and of biases in standard deviations.
        batch_size: inputs in a step.
        seed: of the batches.
        line: is moved on by one over all steps.

    Reference:
        Distillation without labels: Hinton et al., arXiv 1503.02531. Centring: :mod:`po2quant.training.centring`.
    """
    graph = read_graph(model)
    arrays = input_arrays(graph, x)
    targets = keras.tree.flatten(teacher.predict(arrays, batch_size=MEASURED, verbose=0))
    variances = [max(float(np.var(target)), keras.config.epsilon()) for target in targets]
    measured = [array[:MEASURED] for array in arrays]
    with centred(model, measured):
        groups = _in_own_units(model, measured)
        optimizers = [keras.optimizers.Adam(rate) for rate in rates]
        for optimizer, group in zip(optimizers, groups, strict=True):
            optimizer.build([part.units for part in group])

        @tf.function
        def step(batch: list[tf.Tensor], expected: list[tf.Tensor]) -> None:
            with tf.GradientTape() as tape:
                values = evaluate(graph, batch, Node.infer)
                losses = [
                    tf.reduce_mean(tf.math.squared_difference(values[node], target)) / variance
                    for node, target, variance in zip(graph.outputs, expected, variances, strict=True)
                ]
                loss = tf.add_n(losses)
            gradients = tape.gradient(loss, [[part.variable.value for part in group] for group in groups])
            for optimizer, group, of_group in zip(optimizers, groups, gradients, strict=True):
                scaled = [gradient * part.unit for gradient, part in zip(of_group, group, strict=True)]
                optimizer.apply(scaled, [part.units for part in group])
                for part in group:
                    part.variable.assign(part.units * part.unit)

        rng = np.random.default_rng(seed)
        for number in range(steps):
            for optimizer, rate in zip(optimizers, rates, strict=True):
                optimizer.learning_rate = rate * RATE((number + 0.5) / steps)
            chosen = rng.integers(len(arrays[0]), size=min(batch_size, len(arrays[0])))
            step(*[[tf.constant(array[chosen]) for array in of_all] for of_all in (arrays, targets)])
            line.advance(1.0 / steps)


@dataclasses.dataclass(frozen=True)
class _Part:
    """A variable, the unit of its values, and how many units they are."""

    variable: keras.Variable
    unit: np.ndarray
    units: keras.Variable

    @classmethod
    def of(cls, variable: keras.Variable, unit: np.ndarray) -> _Part:
        """Return a variable in units."""
        return cls(variable, unit, keras.Variable(variable.value / unit))


def _in_own_units(model: keras.Model, x: Arrays) -> tuple[list[_Part], list[_Part]]:
    """Return the kernels in LSBs, and the biases in standard deviations of what their layers give."""
    weights = {weight.layer.name: weight for weight in weight_quantizers(model) if weight.part == "kernel"}
    kernels, biases = [], []
    for node, inputs in walk(model, x):
        weight = weights.pop(node.layer.name, None)
        if weight is not None:
            scale = np.broadcast_to(weight.quantizer.frozen_scale, weight.variable.shape)
            deviation = tf.math.reduce_std(node.infer(inputs)).numpy() + np.float32(keras.config.epsilon())
            kernels.append(_Part.of(weight.variable, scale))
            biases.append(_Part.of(weight.layer.bias, deviation))
    return kernels, biases
