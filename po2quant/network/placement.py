"""Where activation quantizers go, by rule, and what the network then looks like to the accounting.

The rules (Politecnico di Torino study; they make its printed totals come out):

1. on the model input;
2. on the output of every Conv2D, DepthwiseConv2D and Dense after BatchNorm: after its ReLU where one
   follows, else directly;
3. before and after swish and sigmoid;
4. after every pooling, Multiply and Concatenate, and after every Add (after its ReLU where one follows);
5. both operands of an Add are quantized; ``requantize_shortcuts`` gives the shortcut a quantizer of
   its own although its source has one (MobileNetV2);
6. on the last Dense or Conv2D; softmax is never quantized.
"""

from __future__ import annotations

import dataclasses
import math

import keras

from po2quant.cost import ACTIVATION, INPUT, SOFTMAX, WEIGHTS, LayerShape
from po2quant.network.graph import Graph, Node, check_fixed_shape, read_graph
from po2quant.network.layers import (
    NONNEGATIVE_ACTIVATIONS,
    PASSING_LAYERS,
    POOLING_LAYERS,
    WEIGHT_LAYERS,
    activation_of,
    check_supported,
    is_relu,
    kernel_of,
)


@dataclasses.dataclass(frozen=True)
class Placement:
    """What the rules leave open.

    Args:
        signed_input: whether the model input has negative values; an unsigned one keeps a level more.
        requantize_shortcuts: rule 5.
    """

    signed_input: bool = True
    requantize_shortcuts: bool = False


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place for an activation quantizer.

    Args:
        name: ``activation``, ``activation_1``, ... in the order of the network.
        layer: the layer whose output is quantized.
        consumer: the Add that alone reads the quantized tensor, or None for every reader.
        signed: whether the tensor has negative values.
        shape: shape of the tensor without the batch.
    """

    name: str
    layer: str
    consumer: str | None
    signed: bool
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class PlacedSlot:
    """A slot and the calls that it stands between; ``consumer`` None means every reader."""

    slot: Slot
    node: Node
    consumer: Node | None


def place_quantizers(model: keras.Model, placement: Placement = Placement()) -> list[Slot]:
    """Return the places of a folded model's activation quantizers, in network order.

    Args:
        model: the result of :func:`~po2quant.network.fold_batch_norm`.
        placement: what the rules leave open.

    Raises:
        ValueError: for an unsupported layer, BatchNormalization that is not folded, or a layer that is called like a
            quantizer.
    """
    return [placed.slot for placed in place_in_graph(read_graph(model), placement)]


def place_in_graph(graph: Graph, placement: Placement) -> list[PlacedSlot]:
    """Return the slots of a folded model's graph with the calls that they belong to."""
    return [entry for entry in _walk(graph, placement) if isinstance(entry, PlacedSlot)]


def network_layers(model: keras.Model, placement: Placement = Placement()) -> list[LayerShape]:
    """Return input, weight layers, activation quantizers and softmax of a folded model, in order.

    A layer that is called again has no parameters of its own there.

    Raises:
        ValueError: as :func:`place_quantizers`, and for a layer whose output has no fixed shape.
    """
    layers: list[LayerShape] = []
    for entry in _walk(read_graph(model), placement):
        node = entry.node if isinstance(entry, PlacedSlot) else entry
        check_fixed_shape(node)
        if isinstance(entry, PlacedSlot):
            layers.append(LayerShape(entry.slot.name, "Activation", ACTIVATION, entry.slot.shape))
        elif _is_counted(entry.layer):
            is_repeated = any(layer.name == entry.layer.name for layer in layers)
            layers.append(_shape(entry, is_repeated))
    return layers


def _walk(graph: Graph, placement: Placement) -> list[Node | PlacedSlot]:
    """Return the nodes in order, each followed by the slots on its output."""
    signed: dict[Node, bool] = {}
    entries: list[Node | PlacedSlot] = []

    def add_slot(node: Node, consumer: Node | None = None) -> None:
        count = sum(isinstance(entry, PlacedSlot) for entry in entries)
        name = f"activation_{count}" if count else "activation"
        reader = None if consumer is None else consumer.layer.name
        entries.append(PlacedSlot(Slot(name, node.layer.name, reader, signed[node], node.shape), node, consumer))

    for node in graph.nodes:
        check_supported(node.layer)
        signed[node] = _is_signed(node, signed, placement)
        if isinstance(node.layer, keras.layers.Add) and placement.requantize_shortcuts:
            for parent in dict.fromkeys(node.inputs):
                if graph.only_reader(parent) is None:
                    add_slot(parent, consumer=node)
        entries.append(node)
        if _is_quantized(node, graph.only_reader(node)):
            add_slot(node)
    keep_their_names = (keras.layers.InputLayer, *WEIGHT_LAYERS)
    kept = {node.layer.name for node in graph.nodes if isinstance(node.layer, keep_their_names)}
    for entry in entries:
        if isinstance(entry, PlacedSlot) and entry.slot.name in kept:
            raise ValueError(f"layer {entry.slot.name!r} must have another name: an activation quantizer is called so")
    return entries


def _is_quantized(node: Node, only_reader: Node | None) -> bool:
    layer = node.layer
    if isinstance(layer, keras.layers.BatchNormalization):
        raise ValueError(f"BatchNormalization {layer.name!r} must be folded first: use fold_batch_norm")
    if isinstance(layer, PASSING_LAYERS) or activation_of(layer) in ("softmax", "linear"):
        return False
    if isinstance(layer, (*WEIGHT_LAYERS, keras.layers.Add)):
        return only_reader is None or not is_relu(only_reader.layer)
    return True


def _is_signed(node: Node, signed: dict[Node, bool], placement: Placement) -> bool:
    if isinstance(node.layer, keras.layers.InputLayer):
        return placement.signed_input
    if activation_of(node.layer) in NONNEGATIVE_ACTIVATIONS:
        return False
    joins = (keras.layers.Add, keras.layers.Multiply, keras.layers.Concatenate)
    keeps_sign = isinstance(node.layer, (*PASSING_LAYERS, *POOLING_LAYERS, *joins))
    if keeps_sign or activation_of(node.layer) == "linear":
        return any(signed[parent] for parent in node.inputs)
    return True


def _is_counted(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, (keras.layers.InputLayer, *WEIGHT_LAYERS)) or _is_charged_softmax(layer)


def _is_charged_softmax(layer: keras.layers.Layer) -> bool:
    """QKeras charges a softmax of class Activation, not one of class Softmax."""
    return isinstance(layer, keras.layers.Activation) and activation_of(layer) == "softmax"


def _shape(node: Node, is_repeated: bool) -> LayerShape:
    layer, class_name = node.layer, type(node.layer).__name__
    if isinstance(layer, keras.layers.InputLayer):
        return LayerShape(layer.name, class_name, INPUT, node.shape)
    if _is_charged_softmax(layer):
        return LayerShape(layer.name, class_name, SOFTMAX, node.shape)
    kernel_parameters = math.prod(kernel_of(layer).shape)
    positions = math.prod(node.shape[:-1])
    return LayerShape(
        layer.name,
        class_name,
        WEIGHTS,
        node.shape,
        0 if is_repeated else kernel_parameters,
        0 if is_repeated else math.prod(layer.bias.shape),
        kernel_parameters * positions,
        getattr(layer, "filters", getattr(layer, "units", None)),
    )
