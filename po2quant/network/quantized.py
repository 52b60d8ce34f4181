"""A quantized network: its quantizers, their widths, ranges and scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import qkeras
import tensorflow as tf

from po2quant.bit_config import POWERS_OF_TWO, BitConfig
from po2quant.fixed_point import MIN_SCALE_EXPONENT, scale_exponents
from po2quant.layers import Recurrent
from po2quant.network.graph import Node, read_graph
from po2quant.network.kinds import kernel_of
from po2quant.placement import Placement
from po2quant.quantizers import Quantizer
from po2quant.targets import Target

WEIGHT_QUANTIZERS = {
    "kernel_quantizer_internal": "kernel",
    "depthwise_quantizer_internal": "kernel",
    "bias_quantizer_internal": "bias",
}
"""Where QKeras' layers keep the quantizers of their kernel and bias."""


@dataclasses.dataclass(frozen=True)
class QuantizedWeight:
    """A kernel or bias and its quantizer."""

    layer: keras.layers.Layer
    part: str
    variable: keras.Variable
    quantizer: Quantizer


def weight_quantizers(model: keras.Model) -> Iterator[QuantizedWeight]:
    """Yield every quantized kernel and bias of a model, in network order; the graph of a float model is not read."""
    if not any(_quantizers_of(layer) or isinstance(layer, Recurrent) for layer in model.layers):
        return
    for layer in {node.layer.name: node.layer for node in read_graph(model).every_node}.values():
        for part, quantizer in _quantizers_of(layer).items():
            variable = layer.bias if part == "bias" else kernel_of(layer)
            yield QuantizedWeight(layer, part, variable, quantizer)


def _quantizers_of(layer: keras.layers.Layer) -> dict[str, Quantizer]:
    found = ((part, getattr(layer, name, None)) for name, part in WEIGHT_QUANTIZERS.items())
    return {part: quantizer for part, quantizer in found if isinstance(quantizer, Quantizer)}


def activation_quantizers(model: keras.Model) -> Iterator[tuple[str, Quantizer]]:
    """Yield name and quantizer of every activation quantizer of a model, in network order."""
    for node in read_graph(model).every_node:
        if isinstance(node.layer, qkeras.QActivation) and isinstance(node.layer.activation, Quantizer):
            yield node.layer.name, node.layer.activation


def slot_quantizers(model: keras.Model) -> dict[str, Quantizer]:
    """Return every quantizer of a model by the name of its slot, weights first."""
    weights = {f"{weight.layer.name}.{weight.part}": weight.quantizer for weight in weight_quantizers(model)}
    return weights | {f"{name}.activation": quantizer for name, quantizer in activation_quantizers(model)}


def set_bits(model: keras.Model, config: BitConfig) -> None:
    """Give a quantized model the widths of a configuration; compiled graphs stay valid.

    Weight scales are computed again, even where they were frozen. Static activation ranges belong to a width:
    calibrate again afterwards.

    Raises:
        ValueError: where the configuration does not fit the network, or gives a layer another kind of scales than the
            network has there, which no graph can change.
    """
    weights, activations = list(weight_quantizers(model)), dict(activation_quantizers(model))
    config.check_covers(dict.fromkeys(weight.layer.name for weight in weights), activations)
    for name, quantizer in [*((weight.layer.name, weight.quantizer) for weight in weights), *activations.items()]:
        alpha = config.layers[name].alpha
        if alpha not in (None, quantizer.alpha):
            raise ValueError(
                f"configuration {config.name!r} must keep alpha={quantizer.alpha!r} of layer {name!r}: quantize the "
                f"float model anew for another. Received: alpha={alpha!r}"
            )
    for weight in weights:
        bits = config.kernel_bits if weight.part == "kernel" else config.bias_bits
        weight.quantizer.bits = bits(weight.layer.name)
        weight.quantizer.unfreeze()
    for name, quantizer in activations.items():
        quantizer.bits = config.activation_bits(name)
        quantizer.calibration = config.layers[name].calibration or quantizer.calibration


def freeze_scales(model: keras.Model, placement: Placement = Placement()) -> None:
    """Store every scale that is not stored yet, so that neither further training nor inference computes one.

    A frozen model with powers of two is a fixed-point network: each tensor is integers and exponents. Where the target
    has biases in units of the products, they get their scales, as far as both are powers of two.

    Args:
        model: quantized model, calibrated or trained.
        placement: what it was quantized with.

    Raises:
        ValueError: for an activation that was neither calibrated nor trained, or saw nothing but zeros in training.
    """
    for weight in weight_quantizers(model):
        if not weight.quantizer.frozen:
            weight.quantizer.freeze(tf.convert_to_tensor(weight.variable))
    for name, quantizer in activation_quantizers(model):
        if quantizer.is_static and quantizer.range == (0.0, 0.0):
            raise ValueError(f"quantizer {name!r} must have a range: calibrate the model first. Received: [0, 0]")
        quantizer.frozen = True
    if placement.target.bias_on_products:
        _put_biases_on_products(model, placement.target)


def _put_biases_on_products(model: keras.Model, target: Target) -> None:
    """Give every bias the scale of its layer's products, as coarse as the bits of a bias make it.

    A kernel whose products are too fine for the bias, such as one that training has let decay, gets coarser scales.
    The tensors that a layer reads in several calls get one scale, since it has one bias.
    """
    weights = {(weight.layer.name, weight.part): weight for weight in weight_quantizers(model)}
    sources: dict[str, list[Quantizer]] = {}
    for node in read_graph(model).every_node:
        if (node.layer.name, "bias") in weights and (source := _quantizer_before(node)) is not None:
            sources.setdefault(node.layer.name, []).append(source)
    layers = [(weights[name, "kernel"], weights[name, "bias"], read) for name, read in sources.items()]
    layers = [
        (kernel, bias, read)
        for kernel, bias, read in layers
        if all(q.alpha in POWERS_OF_TWO for q in (kernel.quantizer, bias.quantizer, *read))
    ]
    _give_one_scale([read for _, _, read in layers])
    for kernel, bias, read in layers:
        bits = min(*(target.bias_bits[source.bits] for source in read), bias.quantizer.bits)
        _put_on_products(kernel, bias, read[0].scale, bits)


def _give_one_scale(groups: Sequence[Sequence[Quantizer]]) -> None:
    """Give the quantizers of each group the coarsest of their scales; one may be in several groups."""
    is_settled = False
    while not is_settled:
        is_settled = True
        for group in groups:
            coarsest = max(quantizer.scale for quantizer in group)
            for quantizer in group:
                if quantizer.scale < coarsest:
                    quantizer.set_range(*(end * coarsest / quantizer.scale for end in quantizer.range))
                    is_settled = False


def _quantizer_before(node: Node) -> Quantizer | None:
    """Return the quantizer of what a layer reads, perhaps moved; None where it is not in the same network."""
    while node.inputs:
        node = node.inputs[0]
        if isinstance(node.layer, qkeras.QActivation):
            return node.layer.activation
    return None


def _put_on_products(kernel: QuantizedWeight, bias: QuantizedWeight, scale: float, bits: int) -> None:
    shape = kernel.quantizer.frozen_scale.shape
    exponents = scale_exponents(kernel.quantizer.frozen_scale)
    by_channel = np.broadcast_to(exponents, kernel.variable.shape).reshape(-1, bias.variable.shape[0])[0]
    biases, unit = np.asarray(bias.variable, np.float64), int(scale_exponents(np.array(scale)))
    missing = np.frexp(biases)[1] - (bits - 1) - (by_channel + unit)  # |bias| < 2**frexp(bias)[1]
    missing = np.where(biases, missing, 0)
    weights = np.asarray(kernel.variable).reshape(-1, missing.size)
    missing = np.where(np.any(weights, axis=0), np.maximum(missing, 0), missing)  # of no weights any scale will do
    if exponents.size == 1:
        missing = np.full_like(missing, missing.max())
    by_channel = np.maximum(by_channel + missing, MIN_SCALE_EXPONENT - min(unit, 0))
    kernel.quantizer.frozen_scale = np.ldexp(1.0, by_channel if exponents.size > 1 else by_channel[:1]).reshape(shape)
    bias.quantizer.frozen_scale = np.ldexp(1.0, by_channel + unit)
