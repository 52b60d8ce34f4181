"""Where activation quantizers go, by rule, and what the network then looks like to the accounting.

The rules (Politecnico di Torino study; they make its printed totals come out):

1. on the model input;
2. on the output of every convolution and dense layer after BatchNorm: after its ReLU where one follows, else directly;
3. before and after swish and sigmoid;
4. after every pooling and join (Multiply), and after every Add (after its ReLU where one follows);
5. both operands of an Add are quantized; ``requantize_shortcuts`` gives the shortcut a quantizer of
   its own although its source has one (MobileNetV2);
6. on the last convolution or dense layer; softmax is never quantized.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence

import keras

from po2quant.cost import ACTIVATION, SOFTMAX, WEIGHTS, LayerShape
from po2quant.layers import Recurrent
from po2quant.network.graph import Graph, Node, read_graph
from po2quant.network.kinds import Form, Kind, Role, activation_of, check_supported, function_of, kernel_of, kind_of
from po2quant.placement import Placement


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place for an activation quantizer.

    Args:
        name: ``activation``, ``activation_1``, ... in the order of the network, without names that inputs and layers
            with weights have.
        layer: the layer whose output is quantized.
        consumer: the Add that alone reads the quantized tensor, or None for every reader.
        signed: whether the tensor has negative values.
        shape: shape of the tensor without the batch; None where it is not fixed.
    """

    name: str
    layer: str
    consumer: str | None
    signed: bool
    shape: tuple[int | None, ...]


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
        ValueError: for an unsupported layer, or BatchNormalization that is not folded.
    """
    return [entry.slot for entry in place_in_graph(read_graph(model), placement) if isinstance(entry, PlacedSlot)]


def network_layers(model: keras.Model, placement: Placement = Placement()) -> list[LayerShape]:
    """Return input, weight layers, activation quantizers and softmax of a folded model, in order.

    A layer that is called again has no parameters of its own there.

    Raises:
        ValueError: as :func:`place_quantizers`, and for a layer whose output has no fixed shape.
    """
    return count_layers(place_in_graph(read_graph(model), placement))


def count_layers(entries: Sequence[Node | PlacedSlot]) -> list[LayerShape]:
    """Return what the accounting counts of a graph with its slots."""
    layers: list[LayerShape] = []
    steps: dict[Node, int] = {}
    for entry in entries:
        if isinstance(entry, PlacedSlot):
            shape = dataclasses.replace(entry.node, shape=entry.slot.shape).fixed_shape
            layers.append(LayerShape(entry.slot.name, "Activation", ACTIVATION, shape))
            continue
        if isinstance(entry.layer, Recurrent):
            steps |= dict.fromkeys(read_graph(entry.layer.cell).nodes, entry.inputs[0].fixed_shape[0])
        is_repeated = any(layer.name == entry.layer.name for layer in layers)
        layers += _counted(entry, kind_of(entry.layer), is_repeated, steps.get(entry, 1))
    return layers


def place_in_graph(graph: Graph, placement: Placement) -> list[Node | PlacedSlot]:
    """Return the calls of a folded model in order, each followed by the slots on its output.

    The call of a recurrent layer is followed by those of its cell.
    """
    for node in graph.every_node:
        check_supported(node.layer)
    kept = {node.layer.name for node in graph.every_node if kind_of(node.layer).role in (Role.INPUT, Role.WEIGHTED)}
    return _Placing(placement, kept).of(graph)


class _Placing:
    """Walks the calls of a network and collects them with the slots on their outputs, which leave out some names."""

    def __init__(self, placement: Placement, kept: Collection[str]) -> None:
        numbered = itertools.chain(("activation",), (f"activation_{number}" for number in itertools.count(1)))
        self._names = (name for name in numbered if name not in kept)
        self._placement = placement
        self._signed: dict[Node, bool] = {}
        self._entries: list[Node | PlacedSlot] = []

    def of(self, graph: Graph, sequences: Mapping[Node, Node] = {}) -> list[Node | PlacedSlot]:
        """Return the entries so far and those of a graph.

        Args:
            graph: a network, or the cell of a recurrent layer, whose inputs have signs already.
            sequences: calls whose outputs are stored for all steps, and the calls of that shape.
        """
        for node in graph.nodes:
            if node in self._signed:
                continue
            if isinstance(node.layer, Recurrent):
                self._recur(node)
                continue
            self._signed[node] = _is_signed(node, self._signed, self._placement)
            if kind_of(node.layer).role is Role.SUM and self._placement.requantize_shortcuts:
                for parent in dict.fromkeys(node.inputs):
                    if graph.only_reader(parent) is None:
                        self._add_slot(parent, parent.shape, node)
            self._entries.append(node)
            if _is_quantized(node, graph.only_reader(node)):
                self._add_slot(node, sequences.get(node, node).shape)
        return self._entries

    def _recur(self, node: Node) -> None:
        self._entries.append(node)
        cell = read_graph(node.layer.cell)
        self._signed |= _signs_of_inputs(cell, self._signed[node.inputs[0]], self._placement)
        result = cell.outputs[0]
        self.of(cell, {result: node} if node.layer.return_sequences else {})
        self._signed[node] = self._signed[result]

    def _add_slot(self, node: Node, shape: tuple[int | None, ...], consumer: Node | None = None) -> None:
        reader = None if consumer is None else consumer.layer.name
        slot = Slot(next(self._names), node.layer.name, reader, self._signed[node], shape)
        self._entries.append(PlacedSlot(slot, node, consumer))


def _signs_of_inputs(cell: Graph, is_signed: bool, placement: Placement) -> dict[Node, bool]:
    """Return which inputs of a cell have negative values: a state has where the cell makes some of what it read."""
    nodes = {node.layer.name: node for node in cell.nodes}
    now, *states = (nodes[layer.name] for layer in cell.inputs)
    signs = {now: is_signed} | dict.fromkeys(states, False)
    while True:
        signed = dict(signs)
        for node in cell.nodes:
            if node not in signed:
                signed[node] = _is_signed(node, signed, placement)
        made = {state: signed[output] for state, output in zip(states, cell.outputs, strict=True)}
        if signs == {now: is_signed} | made:
            return signs
        signs |= {state: signs[state] or made[state] for state in states}


def _is_quantized(node: Node, only_reader: Node | None) -> bool:
    layer, role, function = node.layer, kind_of(node.layer).role, function_of(node.layer)
    if role is Role.NORMALIZATION:
        raise ValueError(f"BatchNormalization {layer.name!r} must be folded first: use fold_batch_norm")
    if function is not None:
        return function.form in (Form.CLIP, Form.TABLE)
    if role in (Role.WEIGHTED, Role.SUM):
        return only_reader is None or not _is_clip(only_reader)
    return role not in (Role.MOVING, Role.TRANSPARENT, Role.RECURRENT)


def _is_clip(node: Node) -> bool:
    function = function_of(node.layer)
    return function is not None and function.form is Form.CLIP


def _is_signed(node: Node, signed: dict[Node, bool], placement: Placement) -> bool:
    kind, function = kind_of(node.layer), function_of(node.layer)
    if not placement.target.has_unsigned:
        return True
    if kind.role is Role.INPUT:
        return placement.signed_input
    if function is not None and function.form is not Form.NOTHING:
        keeps = function.keeps_sign and not any(signed[parent] for parent in node.inputs)
        return not function.is_nonnegative and not keeps
    return not kind.keeps_sign or any(signed[parent] for parent in node.inputs)


def _counted(node: Node, kind: Kind, is_repeated: bool, steps: int) -> list[LayerShape]:
    layer, class_name, shape = node.layer, type(node.layer).__name__, node.fixed_shape
    if kind.counted is None or (kind.counted == SOFTMAX and activation_of(layer) != SOFTMAX):
        return []
    if kind.kernel is None:
        return [LayerShape(layer.name, class_name, kind.counted, shape)]
    kernel_parameters, biases = math.prod(kernel_of(layer).shape), math.prod(layer.bias.shape)
    return [
        LayerShape(
            layer.name,
            class_name,
            WEIGHTS,
            shape,
            0 if is_repeated else kernel_parameters,
            0 if is_repeated else biases,
            kernel_parameters * math.prod(shape[:-1]) * steps,
            None if kind.kernel.units is None else getattr(layer, kind.kernel.units),
            kind.kernel.unit_label,
        )
    ]
