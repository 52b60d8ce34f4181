"""Lowering: a float network becomes one of core kinds alone, those of :mod:`po2quant.network.kinds`, in two stages.

:mod:`~po2quant.network.lowering.expansion` replaces layers outside the core, a family a file.
:mod:`~po2quant.network.lowering.batch_norm` folds BatchNormalization, and gives each layer with weights a bias and its
activation a layer of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from po2quant.files import one_line
from po2quant.network.graph import Graph, check_model, read_graph
from po2quant.network.lowering.batch_norm import fold_norms
from po2quant.network.lowering.expansion import expand
from po2quant.network.lowering.obstacles import LONGEST_REASON, Obstacle, end_obstacles, raise_for
from po2quant.network.lowering.precision import full_precision, in_float32


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A network of core kinds.

    Args:
        model: the network.
        transfers: each copies weights from the network that was lowered, as they are when it is called; in order.
    """

    model: keras.Model
    transfers: tuple[Callable[[], None], ...]


@full_precision()
def lower(model: keras.Model) -> Lowered:
    """Return an equivalent network of core kinds.

    Raises:
        ValueError: for layers that are not supported, all of them at once, or weights that are not finite.
    """
    check_model(model)
    model, transfers = in_float32(model)
    for transfer in transfers:
        transfer()
    graph, expansions, obstacles = _expanded(read_graph(model))
    raise_for(obstacles)
    lowered, folds = fold_norms(graph)
    for transfer in (*expansions, *folds):
        transfer()
    return Lowered(lowered, (*transfers, *expansions, *folds))


@full_precision()
def obstacles_of(model: Any) -> list[Obstacle]:
    """Return why a model cannot be quantized, layer by layer; nothing where it can.

    Args:
        model: Sequential or functional model.

    Example:
        >>> model = keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3, name="lstm")])
        >>> [obstacle.layer for obstacle in obstacles_of(model)]
        ['lstm']
    """
    try:
        check_model(model)
        graph = read_graph(in_float32(model)[0])
    except ValueError as error:
        name = getattr(model, "name", type(model).__name__)
        return [Obstacle(str(name), type(model).__name__, one_line(error, LONGEST_REASON))]
    return _expanded(graph)[2]


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return an equivalent model of core kinds without BatchNormalization in which every activation is a layer.

    Equation:
        With g = gamma / sqrt(variance + epsilon) per channel:
        kernel' = kernel * g; bias' = (bias - mean) * g + beta; computed in float64.

    Every convolution and dense layer of the result has a bias. Layer names stay; an activation
    that a layer had inside becomes the layer ``<name>_<activation>``. BatchNormalization folds into the layer before
    it, else into the one after it where that is exact, else it becomes a depthwise 1x1 convolution.

    Args:
        model: Sequential or functional model, with weights; it is left alone.

    Raises:
        ValueError: for unsupported layers, or weights that are not finite.

    Reference:
        Jacob et al., arXiv 1712.05877, section 3.2.
    """
    return lower(model).model


def _expanded(graph: Graph) -> tuple[Graph, list[Callable[[], None]], list[Obstacle]]:
    """Return the network of core kinds and BatchNormalization, what fills it, and what stands in the way."""
    expanded, transfers, obstacles = expand(graph)
    return expanded, transfers, obstacles or end_obstacles(expanded)
