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
from po2quant.transform.graph import Node, consumers, topological_nodes
from po2quant.transform.layers import (
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


def place_quantizers(model: keras.Model, placement: Placement = Placement()) -> list[Slot]:
    """Return the places of a folded model's activation quantizers, in network order.

    Args:
        model: the result of :func:`~po2quant.transform.fold_batch_norm`.
        placement: what the rules leave open.

    Raises:
        ValueError: for an unsupported layer, or BatchNormalization that is not folded.
    """
    return [entry for entry in _walk(model, placement) if isinstance(entry, Slot)]


def network_layers(model: keras.Model, placement: Placement = Placement()) -> list[LayerShape]:
    """Return input, weight layers, activation quantizers and softmax of a folded model, in order."""
    return [
        LayerShape(entry.name, "Activation", ACTIVATION, entry.shape) if isinstance(entry, Slot) else _shape(entry)
        for entry in _walk(model, placement)
        if isinstance(entry, Slot) or _is_counted(entry.layer)
    ]


def _walk(model: keras.Model, placement: Placement) -> list[Node | Slot]:
    """Return the nodes in order, each followed by the slots on its output."""
    nodes = topological_nodes(model)
    readers = consumers(nodes)
    signed: dict[Node, bool] = {}
    entries: list[Node | Slot] = []

    def add_slot(node: Node, consumer: str | None = None) -> None:
        count = sum(isinstance(entry, Slot) for entry in entries)
        name = f"activation_{count}" if count else "activation"
        entries.append(Slot(name, node.layer.name, consumer, signed[node], node.shape))

    for node in nodes:
        check_supported(node.layer)
        signed[node] = _is_signed(node, signed, placement)
        if isinstance(node.layer, keras.layers.Add) and placement.requantize_shortcuts:
            for parent in node.inputs:
                if len(readers[parent]) > 1:
                    add_slot(parent, consumer=node.layer.name)
        entries.append(node)
        if _is_quantized(node, readers[node]):
            add_slot(node)
    return entries


def _is_quantized(node: Node, readers: list[Node]) -> bool:
    layer = node.layer
    if isinstance(layer, keras.layers.BatchNormalization):
        raise ValueError(f"BatchNormalization {layer.name!r} must be folded first: use fold_batch_norm")
    if isinstance(layer, PASSING_LAYERS) or activation_of(layer) in ("softmax", "linear"):
        return False
    if isinstance(layer, (*WEIGHT_LAYERS, keras.layers.Add)):
        return not (len(readers) == 1 and is_relu(readers[0].layer))
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


def _shape(node: Node) -> LayerShape:
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
        kernel_parameters,
        math.prod(layer.bias.shape),
        kernel_parameters * positions,
        getattr(layer, "filters", getattr(layer, "units", None)),
    )
