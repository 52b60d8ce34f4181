"""What a power-of-two scale costs at each layer alone, and which few real scales win most of it back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.bit_config import AUTO, AUTO_PO2
from po2quant.diagnostics.forward import Weights, batches_of, loss_and_outputs, quantized_graph, run_network
from po2quant.diagnostics.tensors import quantize
from po2quant.fixed_point import integer_range
from po2quant.network import activation_quantizers, walk, weight_quantizers
from po2quant.network.graph import read_graph
from po2quant.quantizers import Quantizer, quantized_bits_featuremap

BATCH_SIZE = 128
KINDS = (AUTO, AUTO_PO2)

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What the kind of scales of one layer alone does to the loss.

    Args:
        layer: name of a layer with weights, whose kernel and bias go together, or of an activation quantizer.
        bits: widths of kernel and bias, e.g. ``"4/31"``, or of the activation.
        po2_cost: mean loss with powers of two here among real scales, less that of real scales everywhere; noise can
            make it negative.
        auto_gain: mean loss of powers of two everywhere, less that with real scales here.
        output_error: mean squared change of the outputs by powers of two here among real scales.
    """

    layer: str
    bits: str
    po2_cost: float
    auto_gain: float
    output_error: float

    @property
    def effect(self) -> float:
        """What powers of two cost here, averaged over the two kinds of surroundings."""
        return (self.po2_cost + self.auto_gain) / 2.0


@dataclasses.dataclass(frozen=True)
class ModeSweep:
    """The cost of powers of two at every layer, and the losses of mixes.

    Args:
        costs: one row per layer with weights and activation quantizer, in network order.
        mix_losses: mean loss with real scales at the first 0, 1, 2, ... layers of the ranking and powers of two
            elsewhere.
        samples: how many samples it was measured on.
    """

    costs: tuple[LayerCost, ...]
    mix_losses: tuple[float, ...]
    samples: int

    @property
    def ranking(self) -> list[str]:
        """The layers, those first where powers of two cost most."""
        return _ranking(self.costs)

    @property
    def po2_loss(self) -> float:
        """Mean loss with powers of two everywhere."""
        return self.mix_losses[0]

    @property
    def auto_loss(self) -> float:
        """Mean loss with real scales everywhere."""
        return self.mix_losses[-1]

    @property
    def best_loss(self) -> float:
        """Least mean loss of a mix."""
        return min(self.mix_losses)

    def real_layers(self, share: float, most: int | None = None) -> list[str]:
        """Return the layers that a mix gives real scales, those first where powers of two cost most.

        They are the fewest first layers of the ranking with which the measured loss exceeds that of the best mix by at
        most ``share`` of what powers of two everywhere exceed it by; where ``most`` layers are too few for that, those
        of lowest loss. None, where no mix is better than powers of two everywhere.

        Args:
            share: in [0, 1].
            most: number of layers.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share must be in [0, 1]. Received: {share}")
        if most is not None and most < 0:
            raise ValueError(f"the number of layers must be 0 or above. Received: {most}")
        losses = self.mix_losses if most is None else self.mix_losses[: most + 1]
        limit = self.best_loss + share * (self.po2_loss - self.best_loss)
        count = next((count for count, loss in enumerate(losses) if loss <= limit), int(np.argmin(losses)))
        return self.ranking[:count]


def mode_sweep(
    model: keras.Model,
    calibration_inputs: np.ndarray,
    samples: Split,
    loss: str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    batch_size: int = BATCH_SIZE,
    advance: Callable[[], None] = lambda: None,
) -> ModeSweep:
    """Switch each layer in turn between real scales and powers of two; then add real scales, the best first.

    One graph serves all measurements: weights are its inputs, and a range whose step is a power of two makes the real
    scale one.

    Args:
        model: quantized and calibrated network with ``alpha='auto'``; left as it was.
        calibration_inputs: network inputs, ``(samples, ...)``, which give activations their power-of-two ranges, of
            least squared error in the network as it is.
        samples: a few batches to measure on: network inputs and targets.
        loss: Keras loss, or its name.
        batch_size: samples per forward pass.
        advance: called twice per layer and activation quantizer, to show progress.

    Raises:
        ValueError: for a model whose quantizers do not have ``alpha='auto'`` and static symmetric ranges.

    Reference:
        The layer-wise mix of real and power-of-two scales that the study names as future work.
    """
    network = _Network(model, calibration_inputs, samples, keras.losses.get(loss), batch_size)
    widths = _widths(model)
    real, shifts = dict.fromkeys(widths, AUTO), dict.fromkeys(widths, AUTO_PO2)
    with _ranges_restored(model):
        auto_loss, auto_outputs = network(real)
        po2_loss, _ = network(shifts)
        costs = []
        for layer, bits in widths.items():
            with_po2, outputs = network(real | {layer: AUTO_PO2})
            with_auto, _ = network(shifts | {layer: AUTO})
            error = float(np.mean(np.square(outputs - auto_outputs)))
            costs.append(LayerCost(layer, bits, with_po2 - auto_loss, po2_loss - with_auto, error))
            advance()
        mix_losses, mix = [po2_loss], shifts
        for layer in _ranking(costs):
            mix = mix | {layer: AUTO}
            mix_losses.append(network(mix)[0])
            advance()
    return ModeSweep(tuple(costs), tuple(mix_losses), len(samples))


def _ranking(costs: list[LayerCost] | tuple[LayerCost, ...]) -> list[str]:
    return [cost.layer for cost in sorted(costs, key=lambda cost: -cost.effect)]


class _Network:
    """Runs the samples through the network with the given kind of scales at each layer."""

    def __init__(
        self, model: keras.Model, calibration_inputs: np.ndarray, samples: Split, loss: Callable, batch_size: int
    ) -> None:
        self._graph = quantized_graph(model)
        self._quantizers = dict(activation_quantizers(model))
        self._weights, self._ranges = _weights_of_each_kind(model), _ranges_of_each_kind(model, calibration_inputs)
        self._names = list(self._weights[AUTO])
        if len(self._graph.outputs) != 1:
            raise ValueError(f"a mode sweep needs a model of one output. Received: {len(self._graph.outputs)}")
        (output,) = self._graph.outputs
        self._batches = batches_of(samples, batch_size)

        @tf.function(autograph=False, reduce_retracing=True)
        def forward(weights: list[tf.Tensor], inputs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_name = dict(zip(self._names, weights, strict=True))
            outputs = run_network(self._graph, [inputs], by_name)[output]
            return tf.reduce_mean(loss(targets, outputs)), outputs

        self._forward = forward

    def __call__(self, alphas: Mapping[str, str]) -> tuple[float, np.ndarray]:
        """Return the mean loss and the outputs, float64 ``(samples, ...)``."""
        for name, quantizer in self._quantizers.items():
            quantizer.set_range(*self._ranges[alphas[name]][name])
        weights = [self._weights[alphas[layer]][layer, part] for layer, part in self._names]
        return loss_and_outputs(functools.partial(self._forward, weights), self._batches)


def _widths(model: keras.Model) -> dict[str, str]:
    """Return the widths of every layer with weights and activation quantizer, in network order."""
    widths = {name: str(quantizer.bits) for name, quantizer in activation_quantizers(model)}
    for weight in weight_quantizers(model):
        name, bits = weight.layer.name, str(weight.quantizer.bits)
        widths[name] = f"{widths[name]}/{bits}" if name in widths else bits
    order = dict.fromkeys(node.layer.name for node in read_graph(model).every_node)
    return {name: widths[name] for name in order if name in widths}


def _weights_of_each_kind(model: keras.Model) -> dict[str, Weights]:
    """Return every kernel and bias, quantized under each kind of scale."""
    weights: dict[str, Weights] = {alpha: {} for alpha in KINDS}
    for weight in weight_quantizers(model):
        _check_real(weight.layer.name, weight.quantizer)
        values = tf.convert_to_tensor(weight.variable)
        limits = integer_range(weight.quantizer.bits, weight.quantizer.signed, weight.quantizer.narrow_range)
        for alpha in KINDS:
            scale = _twin(weight.quantizer, alpha).compute_scale(values).numpy()
            quantized = quantize(values.numpy(), scale, *limits)
            weights[alpha][weight.layer.name, weight.part] = tf.constant(quantized)
    return weights


def _ranges_of_each_kind(model: keras.Model, x: np.ndarray) -> dict[str, dict[str, Range]]:
    """Return the range of every activation: as it is, and the power-of-two one of least squared error."""
    ranges: dict[str, dict[str, Range]] = {alpha: {} for alpha in KINDS}
    for node, inputs in walk(model, x):
        quantizer = getattr(node.layer, "activation", None)
        if isinstance(quantizer, quantized_bits_featuremap):
            _check_real(node.layer.name, quantizer)
            twin = _twin(quantizer, AUTO_PO2)
            twin.calibrate(inputs[0])
            ranges[AUTO][node.layer.name], ranges[AUTO_PO2][node.layer.name] = quantizer.range, twin.range
    return ranges


def _twin(quantizer: Quantizer, alpha: str) -> Quantizer:
    """Return a quantizer like another, but for its kind of scale."""
    config = quantizer.get_config() | {"alpha": alpha}
    return type(quantizer).from_config(config | ({"frozen_scale": None} if "scale_rule" in config else {}))


def _check_real(name: str, quantizer: Quantizer) -> None:
    is_static = not isinstance(quantizer, quantized_bits_featuremap) or quantizer.is_static
    if quantizer.alpha != AUTO or not quantizer.symmetric or not is_static:
        raise ValueError(
            f"a mode sweep needs alpha='auto' and static symmetric ranges everywhere. Received: {quantizer} in {name!r}"
        )


@contextlib.contextmanager
def _ranges_restored(model: keras.Model) -> Iterator[None]:
    ranges = {name: quantizer.range for name, quantizer in activation_quantizers(model)}
    try:
        yield
    finally:
        for name, quantizer in activation_quantizers(model):
            quantizer.set_range(*ranges[name])
