"""Rebuild a float network with QKeras layers and activation quantizers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import keras
import qkeras

from po2quant.bit_config import POWERS_OF_TWO, BitConfig
from po2quant.layers import Recurrent
from po2quant.network.graph import Graph, LayerCloner, Node, read_graph, rebuild
from po2quant.network.kinds import Form, function_of, is_weighted, kernel_facts, kernel_of, kind_of
from po2quant.network.lowering.precision import full_precision
from po2quant.network.placement import PlacedSlot, Slot
from po2quant.network.quantized import weight_quantizers
from po2quant.quantizers import quantized_bits, quantized_bits_featuremap
from po2quant.ranges import MSE
from po2quant.targets import CHANNEL, GENERIC, Target

STATIC, PER_SAMPLE = "static", "per_sample"
ACTIVATION_SCALES = (STATIC, PER_SAMPLE)

SHARED_ARGUMENTS = ("name", "trainable", "use_bias", "bias_initializer", "bias_regularizer", "bias_constraint")
"""Constructor arguments that every layer with weights keeps."""


@full_precision()
def quantize_graph(
    graph: Graph,
    slots: Sequence[PlacedSlot],
    config: BitConfig,
    activation_scale: str = STATIC,
    scale_rule: str = "mse",
    target: Target = GENERIC,
) -> keras.Model:
    """Return the network with QKeras layers and activation quantizers, and the same weights.

    Args:
        graph: float network of core kinds.
        slots: where its activation quantizers go.
        config: widths and kinds of scales of every layer with weights and every slot.
        activation_scale: see :func:`~po2quant.network.quantize_model`.
        scale_rule: see :func:`~po2quant.network.quantize_model`.
        target: says how tensors are rounded, and where scales lie.

    Raises:
        ValueError: where the configuration does not fit the network or leaves kinds of scales open, and for a scale or
            rule that is not known.
    """
    if activation_scale not in ACTIVATION_SCALES:
        raise ValueError(
            f"activation_scale must be one of {', '.join(ACTIVATION_SCALES)}. Received: {activation_scale!r}"
        )
    config.check_covers(graph.weighted, [placed.slot.name for placed in slots])
    rewriter = _Rewriter(graph, config, slots, activation_scale, scale_rule, target)
    quantized = rebuild(graph, rewriter.call)
    for source in graph.weighted.values():
        layer = rewriter.weight_layer(source)
        kernel_of(layer).assign(kernel_of(source))
        layer.bias.assign(source.bias)
    for weight in weight_quantizers(quantized):
        weight.quantizer.build(tuple(weight.variable.shape))
    return quantized


class _Rewriter:
    """Replaces layers and inserts quantizers while a model is rebuilt."""

    def __init__(
        self,
        graph: Graph,
        config: BitConfig,
        slots: Sequence[PlacedSlot],
        activation_scale: str,
        scale_rule: str,
        target: Target,
    ) -> None:
        self._config, self._alphas, self._scale_rule, self._target = config, config.alphas(), scale_rule, target
        self._scale_axis = 0 if activation_scale == PER_SAMPLE else None
        self._slots = {(placed.node, placed.consumer): placed.slot for placed in slots}
        self._roundings = {placed.slot.name: target.rounding_of(self._operation_before(placed)) for placed in slots}
        self._slot_names = {slot.name for slot in self._slots.values()}
        self._taken = self._slot_names | {node.layer.name for node in graph.every_node}
        self._clone = LayerCloner(self._layer_name)
        self._weight_layers: dict[str, keras.layers.Layer] = {}

    def _operation_before(self, placed: PlacedSlot) -> str:
        """Return the class name of the integer operation that makes what a slot quantizes; empty for an input."""
        node, function = placed.node, function_of(placed.node.layer)
        is_clip = function is not None and function.form is Form.CLIP
        if placed.consumer is not None or (is_clip and (node.inputs[0], None) in self._slots):
            return "Requantize"
        return kind_of((node.inputs[0] if is_clip else node).layer).operation

    def _layer_name(self, name: str) -> str:
        """Return the name, or another one that is free, where a slot has it."""
        if name not in self._slot_names:
            return name
        base = f"{name}_function"
        candidates = itertools.chain((base,), (f"{base}_{number}" for number in itertools.count(1)))
        free = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(free)
        return free

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
            output = node.call(self._quantized_layer(layer), operands)
        return self._quantize(output, self._slots.get((node, None)))

    def _quantize(self, tensor: keras.KerasTensor, slot: Slot | None) -> keras.KerasTensor:
        if slot is None:
            return tensor
        bits, alpha = self._config.activation_bits(slot.name), self._alphas[slot.name]
        quantizer = quantized_bits_featuremap(
            bits,
            bits,
            1,
            slot.signed,
            alpha=alpha,
            scale_axis=self._scale_axis,
            calibration=self._config.layers[slot.name].calibration or MSE,
            rounding=self._roundings[slot.name],
            full_range=self._target.full_range and slot.signed and alpha in POWERS_OF_TWO,
        )
        return qkeras.QActivation(quantizer, name=slot.name)(tensor)

    def _quantized_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, Recurrent):
            return Recurrent(rebuild(read_graph(layer.cell), self.call), layer.return_sequences, name=layer.name)
        return self.weight_layer(layer) if is_weighted(layer) else self._clone(layer)

    def weight_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return what stands for a layer with weights."""
        if layer.name not in self._weight_layers:
            self._weight_layers[layer.name] = self._make_weight_layer(layer)
        return self._weight_layers[layer.name]

    def _make_weight_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        kernel, alpha = kernel_facts(layer), self._alphas[layer.name]
        axes: tuple[int, ...] = kernel.channel_axes if self._target.scales == CHANNEL else ()
        bias_axes = (0,) if self._target.bias_on_products else None
        # QKeras layers take the serialized form, so that saved and fresh models look alike to Keras.
        quantizers = {
            f"{kernel.prefix}_quantizer": self._weight_quantizer(self._config.kernel_bits(layer.name), alpha, axes),
            "bias_quantizer": self._weight_quantizer(self._config.bias_bits(layer.name), alpha, bias_axes),
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
