"""A Keras model as a list of layer calls: the only place that reads Keras' call history."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call of a layer.

    Args:
        layer: the layer.
        inputs: the calls that made its inputs, in order; empty for an input layer.
        takes_list: whether the layer is called with a list of tensors.
        kwargs: keyword arguments of the call, e.g. ``training``.
        shape: output shape without the batch.
    """

    layer: keras.layers.Layer
    inputs: tuple[Node, ...]
    takes_list: bool
    kwargs: dict[str, Any]
    shape: tuple[int | None, ...]

    def call(self, layer: Callable, inputs: Sequence[Any], **overrides: Any) -> Any:
        """Call ``layer`` as this node calls its own."""
        return layer(list(inputs) if self.takes_list else inputs[0], **(self.kwargs | overrides))


def output_nodes(model: keras.Model) -> list[Node]:
    """Return the calls that make the model's outputs."""
    return _read(model)[1]


def topological_nodes(model: keras.Model) -> list[Node]:
    """Return every layer call of a Sequential or functional model.

    The order is depth first from the outputs, a layer's inputs before itself and in their own
    order; so the main path of a residual block comes before its shortcut where ``Add`` names it first.

    Raises:
        ValueError: for a model without a static graph, a nested model or an operation that is no layer.
    """
    return _read(model)[0]


def _read(model: keras.Model) -> tuple[list[Node], list[Node]]:
    outputs = getattr(model, "outputs", None)
    if not outputs:
        raise ValueError(
            f"model {getattr(model, 'name', model)!r} must be a functional model or a built Sequential: "
            "a subclassed or unbuilt model has no graph to transform"
        )
    nodes: dict[int, Node] = {}
    keys = [_key(tensor) for tensor in outputs]
    stack = list(reversed(keys))
    while stack:
        key = stack[-1]
        operation, index = key
        call = operation._inbound_nodes[index]
        pending = [_key(tensor) for tensor in call.input_tensors]
        unread = [parent for parent in pending if _identity(parent) not in nodes]
        if unread:
            stack.extend(reversed(unread))
            continue
        stack.pop()
        if _identity(key) not in nodes:
            nodes[_identity(key)] = _node(call, operation, tuple(nodes[_identity(parent)] for parent in pending))
    return list(nodes.values()), [nodes[_identity(key)] for key in keys]


def _key(tensor: keras.KerasTensor) -> tuple[Any, int]:
    history = tensor._keras_history
    return history.operation, history.node_index


def _identity(key: tuple[Any, int]) -> tuple[int, int]:
    return id(key[0]), key[1]


def _node(call: Any, operation: Any, inputs: tuple[Node, ...]) -> Node:
    if isinstance(operation, keras.Model):
        raise ValueError(f"layer {operation.name!r} is a model inside the model: call its layers one by one instead")
    if not isinstance(operation, keras.layers.Layer):
        raise ValueError(
            f"operation {operation.name!r} ({type(operation).__name__}) is not a layer: "
            "use a Keras layer instead, e.g. keras.layers.Add for x + y"
        )
    if isinstance(operation, keras.layers.InputLayer):
        return Node(operation, (), False, {}, tuple(operation.output.shape[1:]))
    arguments = call.arguments
    takes_list = isinstance(arguments.args[0], (list, tuple)) if arguments.args else False
    in_first = list(arguments.args[0]) if takes_list else [arguments.args[0] if arguments.args else None]
    if len(arguments.args) != 1 or len(in_first) != len(inputs) or len(call.outputs) != 1:
        raise ValueError(
            f"layer {operation.name!r} must be called with one tensor or one list of tensors and return one tensor"
        )
    return Node(operation, inputs, takes_list, dict(arguments.kwargs), tuple(call.outputs[0].shape[1:]))


def consumers(nodes: Sequence[Node]) -> dict[Node, list[Node]]:
    """Return, for each node, the nodes that read its output."""
    result: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for parent in node.inputs:
            result[parent].append(node)
    return result


def call_counts(nodes: Sequence[Node]) -> Counter[str]:
    """Return how many times each layer is called."""
    return Counter(node.layer.name for node in nodes)


def rebuild(model: keras.Model, call: Callable[[Node, list[keras.KerasTensor]], keras.KerasTensor]) -> keras.Model:
    """Build a new functional model, one node at a time.

    Args:
        model: Sequential or functional model.
        call: given a node and its new input tensors (for an input layer: the new input itself),
            returns the new output tensor.
    """
    nodes, outputs = _read(model)
    tensors: dict[Node, keras.KerasTensor] = {}
    new_inputs: dict[str, keras.KerasTensor] = {}
    for node in nodes:
        if isinstance(node.layer, keras.layers.InputLayer):
            new_inputs[node.layer.name] = keras.Input(node.shape, dtype=node.layer.dtype, name=node.layer.name)
            tensors[node] = call(node, [new_inputs[node.layer.name]])
        else:
            tensors[node] = call(node, [tensors[parent] for parent in node.inputs])
    inputs = [new_inputs[tensor._keras_history.operation.name] for tensor in model.inputs]
    results = [tensors[node] for node in outputs]
    return keras.Model(
        inputs if len(inputs) > 1 else inputs[0], results if len(results) > 1 else results[0], name=model.name
    )


class LayerCloner:
    """Copies layers by configuration, one copy per layer however often it is called."""

    def __init__(self, rename: Callable[[str], str] = lambda name: name) -> None:
        self._rename = rename
        self._copies: dict[str, keras.layers.Layer] = {}

    def __call__(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return the copy of ``layer``."""
        if layer.name not in self._copies:
            config = layer.get_config() | {"name": self._rename(layer.name)}
            self._copies[layer.name] = type(layer).from_config(config)
        return self._copies[layer.name]
