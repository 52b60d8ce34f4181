"""Layers outside the core as layers of the core and BatchNormalization: a family is a file, a layer a row in it.

Models inside the model are flattened and operators become layers. What comes out computes the same in float, up to
rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from po2quant.cost import SOFTMAX
from po2quant.files import one_line
from po2quant.network.graph import Graph, Node, connected, read_graph, replay
from po2quant.network.kinds import (
    Role,
    activation_name,
    activation_of,
    check_supported,
    find_kind,
    is_weighted,
)
from po2quant.network.lowering import (
    arithmetic,
    convolutions,
    functions,
    gone,
    published,
    rearranging,
    recurrent,
    sequences,
)
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.obstacles import LONGEST_REASON, Obstacle, check_node, check_norm
from po2quant.network.lowering.operators import OPERATORS, operator

Expansion = Callable[[Node, list[Any], Context], Any]
"""Given a call of a layer, its new inputs and the context, returns its new output."""

EXPANSIONS: dict[type, Expansion] = {
    **sequences.EXPANSIONS,
    **convolutions.EXPANSIONS,
    **rearranging.EXPANSIONS,
    **arithmetic.EXPANSIONS,
    **functions.EXPANSIONS,
    **recurrent.EXPANSIONS,
    **gone.EXPANSIONS,
    **published.EXPANSIONS,
}


def expand(graph: Graph) -> tuple[Graph, list[Callable[[], None]], list[Obstacle]]:
    """Return an equivalent network of core kinds and BatchNormalization, what fills it, and what stood in the way.

    A network that has nothing else comes back as it is, and so does one that cannot be expanded.
    """
    context = Context(graph)
    obstacles: dict[int, Obstacle] = {}

    def call(node: Node, inputs: list[Any], expansion: Expansion) -> Any:
        if any(None in parent.shape for parent in node.inputs):
            return keras.Input(node.shape)  # what made it so is the obstacle
        try:
            _check_operator(node)
            check_node(node)
            return expansion(node, inputs, context)
        except (ValueError, TypeError, NotImplementedError) as error:
            obstacles.setdefault(id(node.layer), Obstacle.of(node.layer, one_line(error, LONGEST_REASON)))
            return keras.Input(node.shape)  # stands for the output, so that those after it are checked as well

    if not graph.is_flattened and not any(is_outside(node, graph) for node in graph.nodes):
        for node in graph.nodes:
            call(node, [None], checked)
        return graph, [], list(obstacles.values())
    inputs, tensors = replay(graph, lambda node, inputs: call(node, inputs, expansion_of))
    if obstacles:
        return graph, [], list(obstacles.values())
    return read_graph(connected(graph, inputs, tensors)), context.transfers, []


def is_outside(node: Node, graph: Graph) -> bool:
    """Return whether something must be done about a layer call, beside folding."""
    layer, kind = node.layer, find_kind(node.layer)
    if kind is None:
        return type(layer) in EXPANSIONS or not isinstance(layer, keras.Layer)
    if kind.role in (Role.SUM, Role.JOIN):
        return len({len(parent.shape) for parent in node.inputs}) > 1
    if isinstance(layer, layers.Rescaling):
        return np.size(layer.scale) > 1 or np.size(layer.offset) > 1
    if is_weighted(layer) and isinstance(layer.activation, keras.Layer):
        return True
    is_softmax = _is_layer_or_softmax(layer.activation) if is_weighted(layer) else _is_softmax(layer)
    readers = [find_kind(reader.layer) for reader in graph.readers[node]]
    return is_softmax and any(reader is not None and reader.role is Role.MOVING for reader in readers)


def checked(node: Node, inputs: list[Any], context: Context) -> Any:
    """Raise ValueError, saying what to do, for a layer that is not of the core."""
    check_supported(node.layer)
    if isinstance(node.layer, layers.BatchNormalization):
        check_norm(node)
    if is_weighted(node.layer):
        activation_name(node.layer.activation, node.layer.name)
    return inputs[0]


def _check_operator(node: Node) -> None:
    """Raise ValueError for an operator that no layer stands for."""
    if not isinstance(node.layer, keras.Layer) and type(node.layer).__name__ not in OPERATORS:
        known = ", ".join(sorted(OPERATORS))
        raise ValueError(f"an operator must be one of {known}, or a Keras layer. Received: {node.layer.name!r}")


def expansion_of(node: Node, inputs: list[Any], context: Context) -> Any:
    """What the rule of a layer makes of its inputs."""
    if isinstance(node.layer, layers.InputLayer):
        return inputs[0]
    if not isinstance(node.layer, keras.Layer):
        return operator(node, inputs, context)
    if node.arguments is not None:
        raise ValueError(
            "it must be called with one tensor or one list of tensors, no states or masks, and return one tensor"
        )
    return EXPANSIONS.get(type(node.layer), kept)(node, inputs, context)


def kept(node: Node, inputs: list[Any], context: Context) -> Any:
    """A layer of the core, as it is; over an image where its input was made of one."""
    layer = node.layer
    inner = layer.activation if is_weighted(layer) and _is_layer_or_softmax(layer.activation) else None
    if inner is None:
        checked(node, inputs, context)
    else:
        check_supported(layer)
    if isinstance(layer, (layers.Flatten, layers.Reshape)) and id(inputs[0]) in context.softmaxes:
        return context.reshaped(node, inputs[0])
    if _is_softmax(layer):
        return context.softmax(context.name(layer), inputs[0], getattr(layer, "axis", -1))
    copy = context.copied(layer, **_last_axis(node), **({} if inner is None else {"activation": None}))
    if len(inputs) == 1 and context.has_image(inputs[0]):
        output = context.of_image(copy(context.image(inputs[0], node)), node)
    else:
        output = node.call(copy, inputs)
    return context.activated(output, inner, node)


def _last_axis(node: Node) -> dict[str, int]:
    """Return the argument that makes a BatchNormalization one over the last axis of whatever rank."""
    return {"axis": -1} if isinstance(node.layer, layers.BatchNormalization) else {}


def _is_layer_or_softmax(activation: Any) -> bool:
    return activation is keras.activations.softmax or isinstance(activation, keras.Layer)


def _is_softmax(layer: keras.Layer) -> bool:
    return isinstance(layer, (layers.Softmax, layers.Activation)) and activation_of(layer) == SOFTMAX
