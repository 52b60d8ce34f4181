"""Turn a float model into a quantized one, change its widths, calibrate it and freeze its scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import qkeras
import tensorflow as tf

from po2quant.bit_config import BitConfig
from po2quant.network.graph import LayerCloner, Node, read_graph, rebuild
from po2quant.network.kinds import is_weighted, kernel_of, kind_of
from po2quant.network.lowering import fold_batch_norm
from po2quant.network.placement import PlacedSlot, Placement, Slot, place_in_graph, place_quantizers
from po2quant.network.walk import walk
from po2quant.quantizers import AUTO_PO2, Quantizer, check_alpha, quantized_bits, quantized_bits_featuremap

STATIC, PER_SAMPLE = "static", "per_sample"
ACTIVATION_SCALES = (STATIC, PER_SAMPLE)

SHARED_ARGUMENTS = ("name", "trainable", "use_bias", "bias_initializer", "bias_regularizer", "bias_constraint")
"""Constructor arguments that every layer with weights keeps."""


def quantize_model(
    model: keras.Model,
    config: BitConfig,
    alpha: str = AUTO_PO2,
    placement: Placement = Placement(),
    activation_scale: str = STATIC,
    scale_rule: str = "mse",
) -> keras.Model:
    """Return the model with QKeras layers and activation quantizers, and the same weights.

    Args:
        model: float Sequential or functional model; BatchNormalization is folded on the way.
        config: widths of every layer with weights and every slot of
            :func:`~po2quant.network.place_quantizers`, with the ``alpha`` of those that have one of their own.
        alpha: ``'auto'`` (real scales), ``'auto_po2'`` (powers of two) or ``'learned_po2'`` (trained powers of two).
        placement: what the placement rules leave open.
        activation_scale: ``'static'``, or ``'per_sample'``, which computes scales at run time.
        scale_rule: how weights choose power-of-two exponents: ``'mse'``, ``'max'``, ``'nearest'`` or ``'stock'``.

    Returns:
        Functional model; its quantizers are named like the slots. Calibrate it before use.

    Raises:
        ValueError: where the configuration does not fit the network, or a layer is not supported.

    Example:
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="dense")])
        >>> quantized = quantize_model(model, flat_config(model, 8))
        >>> [layer.name for layer in quantized.layers]
        ['x', 'activation', 'dense', 'activation_1']
    """
    check_alpha(alpha)
    if activation_scale not in ACTIVATION_SCALES:
        raise ValueError(
            f"activation_scale must be one of {', '.join(ACTIVATION_SCALES)}. Received: {activation_scale!r}"
        )
    folded = fold_batch_norm(model)
    graph = read_graph(folded)
    slots = [entry for entry in place_in_graph(graph, placement) if isinstance(entry, PlacedSlot)]
    config.check_covers(weight_layer_names(folded), [placed.slot.name for placed in slots])
    rewriter = _Rewriter(config, slots, alpha, activation_scale, scale_rule)
    quantized = rebuild(graph, rewriter.call)
    for source in folded.layers:
        if is_weighted(source):
            target = quantized.get_layer(source.name)
            kernel_of(target).assign(kernel_of(source))
            target.bias.assign(source.bias)
    for weight in weight_quantizers(quantized):
        weight.quantizer.build(tuple(weight.variable.shape))
    return quantized


def flat_config(model: keras.Model, bits: int, placement: Placement = Placement()) -> BitConfig:
    """Return the configuration that gives every kernel and activation of a float model ``bits`` bits."""
    folded = fold_batch_norm(model)
    slots = place_quantizers(folded, placement)
    return BitConfig.flat(weight_layer_names(folded), [slot.name for slot in slots], bits)


def weight_layer_names(model: keras.Model) -> list[str]:
    """Return the names of the layers that have a kernel, in network order."""
    return list(dict.fromkeys(node.layer.name for node in read_graph(model).nodes if is_weighted(node.layer)))


class _Rewriter:
    """Replaces layers and inserts quantizers while a model is rebuilt."""

    def __init__(
        self, config: BitConfig, slots: list[PlacedSlot], alpha: str, activation_scale: str, scale_rule: str
    ) -> None:
        self._config, self._alphas, self._scale_rule = config, config.alphas(alpha), scale_rule
        self._scale_axis = 0 if activation_scale == PER_SAMPLE else None
        self._slots = {(placed.node, placed.consumer): placed.slot for placed in slots}
        taken = {slot.name for slot in self._slots.values()}
        self._clone = LayerCloner(lambda name: f"{name}_function" if name in taken else name)
        self._weight_layers: dict[str, keras.layers.Layer] = {}

    def call(self, node: Node, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        layer = node.layer
        if isinstance(layer, keras.layers.InputLayer):
            output = inputs[0]
        else:
            requantized = {
                parent: self._quantize(tensor, self._slots.get((parent, node)))
                for parent, tensor in dict(zip(node.inputs, inputs, strict=True)).items()
            }
            operands = [requantized[parent] for parent in node.inputs]
            output = node.call(self._weight_layer(layer) if is_weighted(layer) else self._clone(layer), operands)
        return self._quantize(output, self._slots.get((node, None)))

    def _quantize(self, tensor: keras.KerasTensor, slot: Slot | None) -> keras.KerasTensor:
        if slot is None:
            return tensor
        bits = self._config.activation_bits(slot.name)
        quantizer = quantized_bits_featuremap(
            bits, bits, 1, slot.signed, alpha=self._alphas[slot.name], scale_axis=self._scale_axis
        )
        return qkeras.QActivation(quantizer, name=slot.name)(tensor)

    def _weight_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name not in self._weight_layers:
            self._weight_layers[layer.name] = self._make_weight_layer(layer)
        return self._weight_layers[layer.name]

    def _make_weight_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        kernel, alpha = kind_of(layer).kernel, self._alphas[layer.name]
        # QKeras layers take the serialized form, so that saved and fresh models look alike to Keras.
        quantizers = {
            f"{kernel.prefix}_quantizer": self._weight_quantizer(
                self._config.kernel_bits(layer.name), alpha, kernel.channel_axes
            ),
            "bias_quantizer": self._weight_quantizer(self._config.bias_bits(layer.name), alpha, None),
        }
        kept = [f"{kernel.prefix}_{part}" for part in ("initializer", "regularizer", "constraint")]
        config = layer.get_config()
        arguments = {name: config[name] for name in (*SHARED_ARGUMENTS, *kernel.arguments, *kept)}
        return kernel.quantized(**arguments, **quantizers)

    def _weight_quantizer(self, bits: int, alpha: str, scale_axis: tuple[int, ...] | None) -> dict:
        is_stock = self._scale_rule == "stock"
        return keras.saving.serialize_keras_object(
            quantized_bits(
                bits,
                bits,
                1,
                1,
                alpha=alpha,
                scale_axis=None if is_stock else scale_axis,
                scale_rule=self._scale_rule,
            )
        )


@dataclasses.dataclass(frozen=True)
class QuantizedWeight:
    """A kernel or bias and its quantizer."""

    layer: keras.layers.Layer
    part: str
    variable: keras.Variable
    quantizer: Quantizer


def weight_quantizers(model: keras.Model) -> Iterator[QuantizedWeight]:
    """Yield every quantized kernel and bias of a model, in network order."""
    for layer in {node.layer.name: node.layer for node in read_graph(model).nodes}.values():
        for part in ("kernel", "depthwise", "bias"):
            quantizer = getattr(layer, f"{part}_quantizer_internal", None)
            if isinstance(quantizer, Quantizer):
                variable = layer.bias if part == "bias" else kernel_of(layer)
                yield QuantizedWeight(layer, "bias" if part == "bias" else "kernel", variable, quantizer)


def activation_quantizers(model: keras.Model) -> Iterator[tuple[str, Quantizer]]:
    """Yield name and quantizer of every activation quantizer of a model, in network order."""
    for node in read_graph(model).nodes:
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


def calibrate(model: keras.Model, x: np.ndarray | Sequence[np.ndarray]) -> None:
    """Set the range of every static activation quantizer, in one pass over ``x``.

    Each quantizer gets the range of least squared error on what reaches it through the quantizers
    before it, and keeps it (it is frozen), unless its scale is learned, which starts from there.

    Args:
        model: quantized model.
        x: inputs, ``(samples, ...)``, one array for each model input; a few hundred samples do. Labels are not used.

    Raises:
        ValueError: for another number of arrays than the model has inputs.
    """
    for node, inputs in walk(model, x):
        quantizer = getattr(node.layer, "activation", None)
        if isinstance(quantizer, quantized_bits_featuremap):
            quantizer.calibrate(inputs[0])
            quantizer.frozen = not quantizer.is_learned


def freeze_scales(model: keras.Model) -> None:
    """Store every scale that is not stored yet, so that neither further training nor inference computes one.

    A frozen model with powers of two is a fixed-point network: each tensor is integers and exponents.

    Raises:
        ValueError: for an activation that was neither calibrated nor trained, or has seen nothing but zeros.
    """
    for weight in weight_quantizers(model):
        if not weight.quantizer.frozen:
            weight.quantizer.freeze(tf.convert_to_tensor(weight.variable))
    for name, quantizer in activation_quantizers(model):
        if quantizer.is_static and not quantizer.frozen and quantizer.range == (0.0, 0.0):
            raise ValueError(
                f"quantizer {name!r} has no range to freeze: calibrate or train the model, on values that are not all "
                "zeros there"
            )
        quantizer.frozen = True
