"""What a power-of-two scale costs at each quantizer alone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.diagnostics.forward import Weights, quantized_graph, run_network
from po2quant.diagnostics.measurement import ACTIVATION
from po2quant.diagnostics.tensors import quantize
from po2quant.fixed_point import integer_range
from po2quant.quantizers import ALPHAS, AUTO, AUTO_PO2, Quantizer, check_alpha, quantized_bits_featuremap
from po2quant.transform import activation_quantizers, walk, weight_quantizers

BATCH_SIZE = 128

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class ModeCost:
    """What happens when one quantizer alone has the other kind of scale.

    Args:
        slot: ``<layer>.kernel``, ``<layer>.bias`` or ``<layer>.activation``.
        bits: its width.
        others: kind of scale of all other quantizers, ``'auto'`` or ``'auto_po2'``; the slot has the other kind.
        loss_increase: mean loss less that of the network with ``others`` everywhere; noise can make it negative.
        output_error: mean squared difference from that network's output.
    """

    slot: str
    bits: int
    others: str
    loss_increase: float
    output_error: float


def mode_sweep(
    model: keras.Model,
    calibration_inputs: np.ndarray,
    samples: Split,
    loss: str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    others: str = AUTO,
    batch_size: int = BATCH_SIZE,
) -> list[ModeCost]:
    """Switch each quantizer in turn between a real scale and a power of two, all others staying as they are.

    Under ``others='auto'`` the sweep tells what a power of two costs at each place; under ``'auto_po2'`` what a real
    scale there would win back. One graph serves all measurements: weights are its inputs, and a range whose step is a
    power of two makes the real scale one.

    Args:
        model: quantized and calibrated network with ``alpha='auto'``; left as it was.
        calibration_inputs: network inputs, ``(samples, ...)``, which give activations their power-of-two ranges, of
            least squared error in the network as it is.
        samples: a few batches to measure on: network inputs and targets.
        loss: Keras loss, or its name.
        others: kind of scale of all quantizers but one.
        batch_size: samples per forward pass.

    Returns:
        One row per quantizer, weights first, in network order.

    Raises:
        ValueError: for a model whose quantizers do not have ``alpha='auto'`` and static symmetric ranges.

    Reference:
        The layer-wise mix of real and power-of-two scales that the study names as future work.
    """
    check_alpha(others)
    network = _Network(model, samples, keras.losses.get(loss), batch_size)
    weights, ranges = _weights_of_each_kind(model), _ranges_of_each_kind(model, calibration_inputs)
    switched = AUTO if others == AUTO_PO2 else AUTO_PO2
    rows = []
    with _ranges_restored(model):
        network.set_ranges(ranges[others])
        base_loss, base_outputs = network(weights[others])

        def cost(layer: str, part: str, bits: int, trial: Weights) -> ModeCost:
            mean_loss, outputs = network(trial)
            error = float(np.mean(np.square(outputs - base_outputs)))
            return ModeCost(f"{layer}.{part}", bits, others, mean_loss - base_loss, error)

        for weight in weight_quantizers(model):
            key = weight.layer.name, weight.part
            rows.append(cost(*key, weight.quantizer.bits, weights[others] | {key: weights[switched][key]}))
        for name, quantizer in activation_quantizers(model):
            network.set_ranges({name: ranges[switched][name]})
            rows.append(cost(name, ACTIVATION, quantizer.bits, weights[others]))
            network.set_ranges({name: ranges[others][name]})
    return rows


class _Network:
    """Runs the samples through the network with given weights and ranges."""

    def __init__(self, model: keras.Model, samples: Split, loss: Callable, batch_size: int) -> None:
        self._graph = quantized_graph(model)
        self._quantizers = dict(activation_quantizers(model))
        (output,) = self._graph.outputs
        x = samples.inputs()
        y = x if samples.y is None else samples.y
        starts = range(0, len(x), batch_size)
        self._batches = [
            (tf.constant(x[start : start + batch_size]), tf.constant(y[start : start + batch_size])) for start in starts
        ]

        @tf.function(autograph=False, reduce_retracing=True)
        def forward(inputs: tf.Tensor, targets: tf.Tensor, weights: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            by_name = dict(zip(self._names, weights, strict=True))
            outputs = run_network(self._graph, [inputs], by_name)[output]
            return tf.reduce_mean(loss(targets, outputs)), outputs

        self._forward = forward
        self._names = [(weight.layer.name, weight.part) for weight in weight_quantizers(model)]

    def set_ranges(self, ranges: dict[str, Range]) -> None:
        """Set the static range of some activation quantizers."""
        for name, static_range in ranges.items():
            self._quantizers[name].set_range(*static_range)

    def __call__(self, weights: Weights) -> tuple[float, np.ndarray]:
        """Return the mean loss and the outputs, float64 ``(samples, ...)``."""
        ordered = [weights[name] for name in self._names]
        losses, outputs = zip(*(self._forward(*batch, ordered) for batch in self._batches), strict=True)
        mean_loss = np.average(np.array(losses, np.float64), weights=[len(output) for output in outputs])
        return float(mean_loss), np.concatenate(outputs).astype(np.float64)


def _weights_of_each_kind(model: keras.Model) -> dict[str, Weights]:
    """Return every kernel and bias, quantized under each kind of scale."""
    weights: dict[str, Weights] = {alpha: {} for alpha in ALPHAS}
    for weight in weight_quantizers(model):
        _check_real(weight.layer.name, weight.quantizer)
        values = tf.convert_to_tensor(weight.variable)
        limits = integer_range(weight.quantizer.bits, weight.quantizer.signed, weight.quantizer.narrow_range)
        for alpha in ALPHAS:
            scale = _twin(weight.quantizer, alpha).compute_scale(values).numpy()
            quantized = quantize(values.numpy(), scale, *limits)
            weights[alpha][weight.layer.name, weight.part] = tf.constant(quantized)
    return weights


def _ranges_of_each_kind(model: keras.Model, x: np.ndarray) -> dict[str, dict[str, Range]]:
    """Return the range of every activation: as it is, and the power-of-two one of least squared error."""
    ranges: dict[str, dict[str, Range]] = {alpha: {} for alpha in ALPHAS}
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
    return type(quantizer).from_config(config | ({"post_training_scale": None} if "scale_rule" in config else {}))


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
