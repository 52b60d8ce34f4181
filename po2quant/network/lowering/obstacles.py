"""Why a network cannot be quantized: all reasons at once, a sentence a layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from po2quant.network.graph import Graph, Node
from po2quant.network.kinds import Form, Role, function_of, kind_of

_STATISTICS = "it must be another layer: its mean and variance change with each input; use BatchNormalization"
_ATTENTION = "it must be another layer: products of two activations along an axis are not supported yet"
_CONVOLVED = "it must be another layer: convolutions within a step are not supported yet; use LSTM or GRU"
LONGEST_REASON = 800
"""Characters of a reason: the longest lists everything that is supported."""

REFUSED = {
    "LayerNormalization": _STATISTICS,
    "RMSNormalization": _STATISTICS,
    "GroupNormalization": _STATISTICS,
    "UnitNormalization": _STATISTICS,
    "Attention": _ATTENTION,
    "AdditiveAttention": _ATTENTION,
    "MultiHeadAttention": _ATTENTION,
    "GroupedQueryAttention": _ATTENTION,
    "Dot": _ATTENTION,
    "Embedding": "it must be another layer: its input is an index; look the vectors up before the network",
    "Masking": "it must go: sequences must have one length; fill them up with zeros and train without a mask",
    "ConvLSTM1D": _CONVOLVED,
    "ConvLSTM2D": _CONVOLVED,
    "ConvLSTM3D": _CONVOLVED,
    "Lambda": "it must be another layer: what Python computes cannot be read; use Keras layers or keras.ops",
}
"""What is said of layers that no others stand for, by class."""

REFUSED_ARGUMENTS = {
    "stateful": "it must begin each sequence with zeros: use stateful=False and sequences as a whole",
    "return_state": "it must return its output alone: use return_state=False",
}
"""What is said of arguments of recurrent layers, where they are true."""


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """Why a layer cannot be quantized.

    Args:
        layer: its name.
        class_name: its class.
        reason: what is wrong, and what to do instead.
    """

    layer: str
    class_name: str
    reason: str

    def __str__(self) -> str:
        is_named = repr(self.layer) in self.reason
        return self.reason if is_named else f"layer {self.layer!r} ({self.class_name}): {self.reason}"

    @classmethod
    def of(cls, layer: Any, reason: str) -> Obstacle:
        """Return the obstacle that a layer or operator is."""
        return cls(layer.name, type(layer).__name__, reason)


def raise_for(obstacles: Iterable[Obstacle]) -> None:
    """Raise one ValueError that says all obstacles, where there are any."""
    sentences = [str(obstacle) for obstacle in obstacles]
    if len(sentences) == 1:
        raise ValueError(sentences[0])
    if sentences:
        raise ValueError(f"{len(sentences)} layers cannot be quantized: {'; '.join(sentences)}")


def check_node(node: Node) -> None:
    """Raise ValueError where no layers whatever can stand for a layer call."""
    if not node.fixed_shape:
        raise ValueError(f"layer {node.layer.name!r} must have an output of one axis or more. Received: a number")
    if getattr(node.layer, "data_format", None) == "channels_first":
        raise ValueError(
            f"layer {node.layer.name!r} must have its channels last. Received: data_format='channels_first'"
        )
    arguments = (reason for name, reason in REFUSED_ARGUMENTS.items() if getattr(node.layer, name, False) is True)
    reason = REFUSED.get(type(node.layer).__name__, next(arguments, None))
    if reason is not None:
        raise ValueError(f"layer {node.layer.name!r} ({type(node.layer).__name__}) cannot be quantized: {reason}")


def check_norm(node: Node) -> None:
    """Raise ValueError for a BatchNormalization over another axis than the last."""
    name, axis = node.layer.name, node.layer.axis
    if axis not in (-1, len(node.shape)):
        raise ValueError(f"BatchNormalization {name!r} must normalize the last axis. Received: axis={axis}")


def end_obstacles(graph: Graph) -> list[Obstacle]:
    """Return what stands in the way in a network of core kinds: a softmax that is not last."""
    obstacles = []
    for node in graph.nodes:
        function = function_of(node.layer)
        if function is None or function.form is not Form.HOST:
            continue
        axis = getattr(node.layer, "axis", -1)
        if axis not in (-1, len(node.shape)):
            reason = f"softmax {node.layer.name!r} must be over the last axis. Received: axis={axis}"
            obstacles.append(Obstacle.of(node.layer, reason))
        reader = _reader_that_computes(node, graph)
        if reader is not None:
            reason = (
                f"softmax {node.layer.name!r} must be the last layer, which is left to the host. "
                f"Received: {reader.layer.name!r} ({type(reader.layer).__name__}) after it"
            )
            obstacles.append(Obstacle.of(node.layer, reason))
    return obstacles


def _reader_that_computes(node: Node, graph: Graph) -> Node | None:
    for reader in graph.readers[node]:
        function = function_of(reader.layer)
        does_nothing = kind_of(reader.layer).role is Role.TRANSPARENT or (
            function is not None and function.form is Form.NOTHING
        )
        found = _reader_that_computes(reader, graph) if does_nothing else reader
        if found is not None:
            return found
    return None
