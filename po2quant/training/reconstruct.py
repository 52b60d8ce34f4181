"""Quantize a trained network so that it computes what it did, from a few hundred inputs without labels.

Layer by layer, in the order of the network, each on what the quantized layers before it really give:

1. exponents of the kernel are chosen by the error of the layer's output, channel by channel;
2. the bias takes up the mean of the error that is left;
3. the rounding of every weight is learned, so that the output after the layer's quantizer comes close to that of the
   float network (:class:`~po2quant.training.rounding.LearnedRounding`);
4. the ranges of activations are calibrated on the outputs that come of it.

Where the outputs are farther from the float network's then than those of the network as it was calibrated, it is kept
like that: what each layer learns behind the noise of many activations may do harm in the end.

Then, where it is asked for, all layers learn at once (:func:`~po2quant.training.jointly.learn_jointly`).

All scales are frozen in the end: the network can be exported, or fine-tuned from there. Weights in the cells of
recurrent layers are rounded to the nearest, and their activations calibrated before the rest is learned.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import qkeras
import tensorflow as tf

from po2quant.archives import read_npz
from po2quant.bit_config import POWERS_OF_TWO, BitConfig
from po2quant.files import replaced_whole
from po2quant.network import FoldedNetwork, calibrate, calibrate_one, freeze_scales
from po2quant.network.graph import Graph, Node, read_graph
from po2quant.network.quantized import WEIGHT_QUANTIZERS, QuantizedWeight, weight_quantizers
from po2quant.network.walk import Arrays
from po2quant.progress import SILENT, ProgressLine
from po2quant.training.jointly import learn_jointly
from po2quant.training.outputs import BATCH, Outputs, distance, in_batches, outputs_of
from po2quant.training.rounding import LearnedRounding

MOST_VALUES = 2**27
"""Of the largest activation over all samples: 512 MiB."""
LARGEST_HEADER = 4096
"""Bytes before the numbers of an array in a file."""
EXPONENTS = (-1, 0, 1)
"""Steps from the exponents of least squared error of the weights that are tried."""
SHARPNESS = (20.0, 2.0)
"""Of the indecision, when it begins to count and in the end."""


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """How much is learned of how many inputs.

    Args:
        samples: inputs of the network.
        steps: of Adam for each layer; 0 leaves every weight at the nearest integer.
        batch_size: inputs in a step.
        rate: of Adam for the rounding.
        bias_rate: of Adam for the bias, in standard deviations of the layer's output.
        indecision: weight of the mean indecision beside the error, relative to the variance of the output.
        warm_up: share of the steps before the indecision counts.
        joint_steps: of Adam for all layers at once, after the last one; 0: none.
        joint_rate: of Adam for kernels there, in LSBs.

    Raises:
        ValueError: for a number out of range.
    """

    samples: int = 1024
    steps: int = 500
    batch_size: int = 32
    rate: float = 0.03
    bias_rate: float = 0.001
    indecision: float = 0.1
    warm_up: float = 0.2
    joint_steps: int = 0
    joint_rate: float = 0.002

    def __post_init__(self) -> None:
        for name in (field.name for field in dataclasses.fields(self)):
            low = 1 if name in ("samples", "batch_size") else 0
            if not low <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least {low}. Received: {name}={getattr(self, name)}")


def reconstruct(
    network: FoldedNetwork,
    config: BitConfig,
    x: Arrays,
    settings: Reconstruction = Reconstruction(),
    seed: int = 0,
    folder: Path | None = None,
    line: ProgressLine = SILENT,
) -> keras.Model:
    """Return the network quantized, its weights rounded for the sake of its outputs and all scales frozen.

    Args:
        network: the float network, with trained weights.
        config: widths and kinds of scales of every layer; where a kind is left open, scales are powers of two.
        x: inputs, ``(samples, ...)``, one array for each input of the network; labels are not needed.
        settings: how much is learned.
        seed: of the batches.
        folder: keeps what each layer has learned until all have; a call with the same arguments goes on there.
        line: is moved on by one for each layer.

    Raises:
        ValueError: for a configuration that does not fit, another number of arrays than the network has inputs, inputs
            that are all zeros somewhere, or a folder with layers of another network.

    Example:
        >>> from po2quant.network import fold
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="dense")])
        >>> network = fold(model)
        >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> quantized = reconstruct(network, network.flat(4), x, Reconstruction(steps=50))

    Reference:
        Nagel et al., arXiv 2004.10568 (AdaRound); Nagel et al., arXiv 1906.04721 (bias correction); exponents by the
        output's error as in HPTQ, arXiv 2109.09113.
    """
    model = network.quantize(config)
    calibrate(model, x)
    reconstruct_in_place(network, model, x, settings, seed, folder, line)
    freeze_scales(model, network.placement)
    return model


def reconstruct_in_place(
    network: FoldedNetwork,
    model: keras.Model,
    x: Arrays,
    settings: Reconstruction = Reconstruction(),
    seed: int = 0,
    folder: Path | None = None,
    line: ProgressLine = SILENT,
) -> None:
    """Round the weights of a quantized network for the sake of its outputs, as :func:`reconstruct` does.

    The scales of kernels are frozen then, and the ranges of activations but for learned ones: it can be trained on.

    Args:
        network: the float network.
        model: its quantized form, with its weights, calibrated.
        x: as of :func:`reconstruct`, and so are the others.
        settings: how much is learned.
        seed: of the batches.
        folder: keeps what each layer has learned.
        line: is moved on by one for each layer.
    """
    expected, found = Outputs(network.graph, x), Outputs(read_graph(model), x)
    if found.graph.every_node != found.graph.nodes:
        calibrate(model, x)  # for the quantizers in the cells
    calibrated, calibrated_outputs = [variable.numpy() for variable in model.variables], outputs_of(found.graph, x)
    float_calls = {node.layer.name: node for node in reversed(network.graph.nodes)}
    float_slots = {placed.slot.name: placed.node for placed in network.slots}
    kernels = {weight.layer.name: weight for weight in weight_quantizers(model) if weight.part == "kernel"}
    order = {name: number for number, name in enumerate(kernels)}
    for node in found.graph.nodes:
        name = node.layer.name
        if name in kernels:
            line.update(order[name], name)
            unit = _Unit.of(found.graph, node, kernels.pop(name))
            target = _Target(expected.of(float_calls[name]), expected.of(float_slots[unit.slot.layer.name]))
            state = None if folder is None else folder / f"{order[name]}.npz"
            if state is not None and state.exists():
                unit.load(state)
            else:
                unit.learn(found.of(node.inputs[0]), target, settings, np.random.default_rng((seed, order[name])))
                if state is not None:
                    unit.save(state)
        elif isinstance(node.layer, qkeras.QActivation):
            calibrate_one(node.layer.activation, found.of(node.inputs[0]))
        found.of(node)
    targets = expected.of_network()
    if distance(calibrated_outputs, targets) < distance(found.of_network(), targets):
        for variable, value in zip(model.variables, calibrated, strict=True):
            variable.assign(value)
        for weight in weight_quantizers(model):
            if weight.part == "kernel":
                weight.quantizer.freeze(tf.convert_to_tensor(weight.variable))
        line.update(message="kept as it was calibrated, which is nearer")
    line.update(len(order), "all layers" if settings.joint_steps else None)
    if settings.joint_steps:
        rates = (settings.joint_rate, settings.bias_rate)
        learn_jointly(network.model, model, x, settings.joint_steps, rates, settings.batch_size, seed, line)


def input_count(network: FoldedNetwork, samples: int) -> int:
    """Return how many inputs a reconstruction takes: fewer of a network with large activations."""
    return min(samples, max(1, MOST_VALUES // max(math.prod(layer.shape) for layer in network.layers)))


@dataclasses.dataclass(frozen=True)
class _Target:
    """What the float network gives: a layer's output, and that after the function that its quantizer follows."""

    linear: tf.Tensor
    output: tf.Tensor


@dataclasses.dataclass(frozen=True)
class _Unit:
    """A layer with weights and the calls after it up to the quantizer of its output.

    Args:
        layer: call of the layer.
        functions: calls between it and the quantizer.
        slot: call of the quantizer.
        weight: its kernel.
    """

    layer: Node
    functions: tuple[Node, ...]
    slot: Node
    weight: QuantizedWeight

    @classmethod
    def of(cls, graph: Graph, node: Node, weight: QuantizedWeight) -> _Unit:
        """Return the unit of a layer's call."""
        calls = [node]
        while not isinstance(calls[-1].layer, qkeras.QActivation):
            calls.append(graph.readers[calls[-1]][0])
        return cls(node, tuple(calls[1:-1]), calls[-1], weight)

    def linear(self, x: tf.Tensor) -> tf.Tensor:
        """Return the layer's output."""
        return self.layer.infer([x])

    def unquantized(self, x: tf.Tensor) -> tf.Tensor:
        """Return what the quantizer is given."""
        x = self.linear(x)
        for node in self.functions:
            x = node.infer([x])
        return x

    def output(self, x: tf.Tensor) -> tf.Tensor:
        """Return the quantized output."""
        return self.slot.infer([self.unquantized(x)])

    def learn(self, x: tf.Tensor, target: _Target, settings: Reconstruction, rng: np.random.Generator) -> None:
        """Round the kernel and correct the bias for the sake of the output."""
        kernel, quantizer = self.weight.variable, self.weight.quantizer
        weights = kernel.numpy()
        quantizer.freeze(tf.convert_to_tensor(weights))
        if quantizer.alpha in POWERS_OF_TWO:
            self._choose_exponents(weights, x, target)
        kernel.assign(quantizer(tf.convert_to_tensor(weights)))
        self._correct_bias(x, target)
        calibrate_one(self.slot.layer.activation, in_batches(lambda batch: self.unquantized(*batch), [x]))
        if settings.steps:
            rounding = LearnedRounding(weights, quantizer.frozen_scale, quantizer.bits)
            with _in_place(self.weight, rounding):
                self._optimize(rounding, x, target.output, settings, rng)
            kernel.assign(rounding.rounded())
            self._correct_bias(x, target)

    def _choose_exponents(self, weights: np.ndarray, x: tf.Tensor, target: _Target) -> None:
        """Give every channel the exponent, of the chosen one and its neighbours, whose output has the least error."""
        quantizer, chosen = self.weight.quantizer, self.weight.quantizer.frozen_scale
        x, linear = x[:BATCH], target.linear[:BATCH]
        errors = []
        for step in EXPONENTS:
            quantizer.frozen_scale = chosen * np.float32(2.0**step)
            errors.append(_by_channel(tf.math.squared_difference(self.linear(x), linear)))
        steps = np.asarray(EXPONENTS)[np.argmin(errors, axis=0)]
        quantizer.frozen_scale = chosen * np.exp2(steps).astype(np.float32).reshape(chosen.shape)

    def _correct_bias(self, x: tf.Tensor, target: _Target) -> None:
        error = in_batches(lambda batch: batch[1] - self.linear(batch[0]), [x, target.linear])
        self.weight.layer.bias.assign_add(_by_channel(error))

    def _optimize(
        self, rounding: LearnedRounding, x: tf.Tensor, target: tf.Tensor, settings: Reconstruction, rng: Any
    ) -> None:
        """Learn the rounding, and the bias with it."""
        bias = self.weight.layer.bias
        variance = tf.math.reduce_variance(target) * target.shape[-1] + keras.config.epsilon()
        deviation = float(tf.math.reduce_std(target))
        learned = [rounding.variable, bias]
        optimizers = [keras.optimizers.Adam(rate) for rate in (settings.rate, settings.bias_rate * deviation)]
        for optimizer, variable in zip(optimizers, learned, strict=True):
            optimizer.build([variable])

        @tf.function
        def step(batch: tf.Tensor, expected: tf.Tensor, weight: tf.Tensor, sharpness: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                error = tf.math.squared_difference(self.output(batch), expected)
                loss = tf.reduce_mean(tf.reduce_sum(error, -1)) / variance
                loss += weight * rounding.indecision(sharpness)
            gradients = tape.gradient(loss, [rounding.variable, bias.value])
            for optimizer, variable, gradient in zip(optimizers, learned, gradients, strict=True):
                optimizer.apply_gradients([(gradient, variable)])

        begin = settings.warm_up * settings.steps
        for number in range(settings.steps):
            samples = rng.integers(len(x), size=min(settings.batch_size, len(x)))
            progress = max(0.0, (number - begin) / max(settings.steps - begin, 1))
            sharpness = SHARPNESS[0] + (SHARPNESS[1] - SHARPNESS[0]) * progress
            weight = settings.indecision if number >= begin else 0.0
            # not within the step, whose graph, which TensorFlow never frees, would keep all inputs and targets
            batch, expected = tf.gather(x, samples), tf.gather(target, samples)
            step(batch, expected, tf.constant(weight, tf.float32), tf.constant(sharpness, tf.float32))

    def _state(self) -> dict[str, Any]:
        return {
            "kernel": self.weight.variable.numpy(),
            "bias": self.weight.layer.bias.numpy(),
            "scale": self.weight.quantizer.frozen_scale,
        }

    def save(self, path: Path) -> None:
        """Write what was learned; the file is there as a whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_whole(path) as temporary:
            np.savez(temporary, **self._state())

    def load(self, path: Path) -> None:
        """Take up what was learned before.

        Raises:
            ValueError: for a file that is none of this layer's.
        """
        kernel, bias = self.weight.variable, self.weight.layer.bias
        self.weight.quantizer.freeze(tf.convert_to_tensor(kernel))
        known = self._state()

        def check(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
            if name not in known or (shape, dtype) != (known[name].shape, known[name].dtype):
                raise ValueError(f"{name!r} does not belong to layer {self.weight.layer.name!r}")

        what = f"{path} is damaged or of another network"
        budget = sum(array.nbytes + LARGEST_HEADER for array in known.values())
        stored = read_npz(path, check, budget, what)
        if set(stored) != set(known) or not all(np.all(np.isfinite(array)) for array in stored.values()):
            raise ValueError(
                f"{what}: it must hold {', '.join(known)} as finite numbers. Received: {', '.join(stored)}"
            )
        kernel.assign(stored["kernel"])
        bias.assign(stored["bias"])
        self.weight.quantizer.frozen_scale = stored["scale"]


def _by_channel(values: tf.Tensor) -> np.ndarray:
    """Return the mean of values for each channel, their last axis."""
    return tf.reduce_mean(tf.reshape(values, (-1, values.shape[-1])), 0).numpy()


@contextmanager
def _in_place(weight: QuantizedWeight, stand_in: LearnedRounding) -> Iterator[None]:
    """Put something else in the place of a kernel's quantizer."""
    layer = weight.layer
    name = next(name for name in WEIGHT_QUANTIZERS if getattr(layer, name, None) is weight.quantizer)
    object.__setattr__(layer, name, stand_in)  # Keras would take it for a part of the layer
    try:
        yield
    finally:
        object.__setattr__(layer, name, weight.quantizer)
