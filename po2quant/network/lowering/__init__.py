"""Lowering: a float network becomes one of core kinds alone, those of :mod:`po2quant.network.kinds`.

A family of layers that are lowered is a file here and its entries in :data:`LOWERINGS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras

from po2quant.network.graph import Graph, Node, read_graph, rebuild
from po2quant.network.kinds import KINDS, Role, check_supported
from po2quant.network.lowering.batch_norm import drop_batch_norm
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.obstacles import Obstacle
from po2quant.network.lowering.weighted import lower_weighted

Lowering = Callable[[Node, list[keras.KerasTensor], Context], keras.KerasTensor]
"""Given a call of a layer, its new inputs and the context, returns its new output."""

LOWERINGS: dict[type[keras.layers.Layer], Lowering] = {
    **{kind.layer: lower_weighted for kind in KINDS if kind.role is Role.WEIGHTED},
    **{kind.layer: drop_batch_norm for kind in KINDS if kind.role is Role.NORMALIZATION},
}
"""What becomes of layers that are not in the core as they stand; all others are copied."""


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A network of core kinds.

    Args:
        model: the network.
        transfers: each copies weights from the network that was lowered, as they are when it is called.
    """

    model: keras.Model
    transfers: tuple[Callable[[], None], ...]


def lower(graph: Graph) -> Lowered:
    """Return an equivalent network of core kinds.

    Raises:
        ValueError: for a layer that is not supported, or weights that are not finite.
    """
    for node in graph.nodes:
        check_supported(node.layer)
    context = Context(graph)

    def call(node: Node, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        if isinstance(node.layer, keras.layers.InputLayer):
            return inputs[0]
        lowering = LOWERINGS.get(type(node.layer))
        return node.call(context.clone(node.layer), inputs) if lowering is None else lowering(node, inputs, context)

    model = rebuild(graph, call)
    for transfer in context.transfers:
        transfer()
    return Lowered(model, tuple(context.transfers))


def obstacles_of(model: keras.Model) -> list[Obstacle]:
    """Return why a model cannot be quantized, layer by layer; nothing where each of its layers can.

    Example:
        >>> model = keras.Sequential([keras.Input((4, 2)), keras.layers.LayerNormalization(name="norm")])
        >>> [obstacle.layer for obstacle in obstacles_of(model)]
        ['norm']
    """
    try:
        nodes = read_graph(model).nodes
    except ValueError as error:
        return [Obstacle.of(model, str(error))]
    obstacles = {}
    for node in nodes:
        try:
            check_supported(node.layer)
        except ValueError as error:
            obstacles[node.layer.name] = Obstacle.of(node.layer, str(error))
    return list(obstacles.values())


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return an equivalent model without BatchNormalization in which every activation is a layer.

    Equation:
        With g = gamma / sqrt(variance + epsilon) per channel:
        kernel' = kernel * g; bias' = (bias - mean) * g + beta; computed in float64.

    Every convolution and dense layer of the result has a bias. Layer names stay; an activation
    that a layer had inside becomes the layer ``<name>_<activation>``.

    Args:
        model: Sequential or functional model, with weights; it is left alone.

    Raises:
        ValueError: for an unsupported layer, a BatchNormalization that does not follow a convolution or dense layer, or
            weights that are not finite.

    Reference:
        Jacob et al., arXiv 1712.05877, section 3.2.
    """
    return lower(read_graph(model)).model
