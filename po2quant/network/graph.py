"""A Keras model as a list of layer calls: the only place that reads Keras' call history."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras

from po2quant.layers import Recurrent
from po2quant.network.kinds import find_kind, is_weighted


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call of a layer.

    Args:
        layer: the layer.
        inputs: the calls that made its inputs, in order; empty for an input layer.
        takes_list: whether the layer is called with a list of tensors.
        kwargs: keyword arguments of the call, e.g. ``training``.
        shape: output shape without the batch.
        arguments: of an operator, or a layer that is called otherwise, what it is called with, as Keras keeps it:
            tensors and constants, by place and name.
        place: which output of an operator with several this is.
    """

    layer: keras.layers.Layer
    inputs: tuple[Node, ...]
    takes_list: bool
    kwargs: dict[str, Any]
    shape: tuple[int | None, ...]
    arguments: Any = None
    place: int = 0

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """The output shape, where it is fixed.

        Raises:
            ValueError: where it is not.
        """
        fixed = tuple(size for size in self.shape if size is not None)
        if len(fixed) != len(self.shape):
            raise ValueError(f"layer {self.layer.name!r} must have an output of fixed shape. Received: {self.shape}")
        return fixed

    def call(self, layer: Callable, inputs: Sequence[Any], **overrides: Any) -> Any:
        """Call ``layer`` as this node calls its own."""
        return layer(list(inputs) if self.takes_list else inputs[0], **(self.kwargs | overrides))

    def arguments_with(self, inputs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what an operator is called with, its tensors replaced by new ones."""
        old = self.arguments.keras_tensors
        return self.arguments.fill_in({id(tensor): new for tensor, new in zip(old, inputs, strict=True)})

    def infer(self, inputs: Sequence[Any], layer: keras.layers.Layer | None = None) -> Any:
        """Call the node's layer, or one that stands for it, as in inference."""
        takes_training = "training" in inspect.signature(self.layer.call).parameters
        return self.call(layer or self.layer, inputs, **({"training": False} if takes_training else {}))


@dataclasses.dataclass(frozen=True)
class Graph:
    """Every layer call of a model.

    The order is depth first from the outputs, a layer's inputs before itself and in their own order; so the main path
    of a residual block comes before its shortcut where ``Add`` names it first.

    Args:
        nodes: the calls in order.
        inputs: the input layers, in the model's order.
        outputs: the calls that make the model's outputs, in the model's order.
        name: name of the model.
        is_flattened: whether models inside the model stand with their own layers here.
        input_keys: of a model whose inputs are a dictionary, their keys in the order of ``inputs``; else None.
        output_keys: the same of its outputs.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[keras.layers.InputLayer, ...]
    outputs: tuple[Node, ...]
    name: str
    is_flattened: bool = False
    input_keys: tuple[str, ...] | None = None
    output_keys: tuple[str, ...] | None = None

    @functools.cached_property
    def every_node(self) -> tuple[Node, ...]:
        """The nodes, each call of a recurrent layer followed by the nodes of its cell."""
        nodes: list[Node] = []
        for node in self.nodes:
            nodes += [node, *(read_graph(node.layer.cell).every_node if isinstance(node.layer, Recurrent) else ())]
        return tuple(nodes)

    @functools.cached_property
    def steps(self) -> dict[Node, int]:
        """How many times a sample passes each node: in a cell as often as its sequence has steps, else once."""
        steps = dict.fromkeys(self.nodes, 1)
        for node in self.nodes:
            if isinstance(node.layer, Recurrent):
                steps |= dict.fromkeys(read_graph(node.layer.cell).every_node, node.inputs[0].fixed_shape[0])
        return steps

    @functools.cached_property
    def readers(self) -> dict[Node, list[Node]]:
        """The nodes that read each node's output."""
        readers: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for parent in node.inputs:
                readers[parent].append(node)
        return readers

    @functools.cached_property
    def calls(self) -> Counter[str]:
        """How many times each layer is called."""
        return Counter(node.layer.name for node in self.nodes)

    @functools.cached_property
    def weighted(self) -> dict[str, keras.layers.Layer]:
        """The layers with a kernel by name, in network order."""
        return {node.layer.name: node.layer for node in self.every_node if is_weighted(node.layer)}

    def only_reader(self, node: Node) -> Node | None:
        """Return the one node that reads a node's output, None where there are more or it is a model output."""
        readers = self.readers[node]
        return readers[0] if len(readers) == 1 and node not in self.outputs else None


_graphs: weakref.WeakKeyDictionary[keras.Model, tuple[list[keras.KerasTensor], Graph]] = weakref.WeakKeyDictionary()
"""The graph of each model that was read, and the outputs that it leads to, which change where a Sequential grows."""


def check_model(model: Any) -> None:
    """Raise ValueError for a model object that is not of this Keras."""
    if not isinstance(model, keras.Model):
        module = type(model).__module__
        advice = "save it as .h5 and load that with po2quant.load_model" if "keras" in module else "build one"
        raise ValueError(f"model must be a model of Keras {keras.__version__}: {advice}. Received: {module}")


def read_graph(model: keras.Model) -> Graph:
    """Return the layer calls of a Sequential or functional model, which are read once.

    Raises:
        ValueError: for an object of another Keras, a model without a static graph, or a nest of dictionaries of inputs
            or outputs.
    """
    check_model(model)
    outputs = getattr(model, "outputs", None)
    if not outputs:
        raise ValueError(
            f"model {getattr(model, 'name', model)!r} must be a functional model or a built Sequential: "
            "a subclassed or unbuilt model has no graph to read"
        )
    known_outputs, graph = _graphs.get(model, ([], None))
    if graph is None or [*map(id, known_outputs)] != [*map(id, outputs)]:
        graph = _read(model, outputs)
        _graphs[model] = list(outputs), graph
    return graph


Key = tuple[Any, int, int]
"""A tensor: the operation that made it, in which of its calls, and which of its outputs it is."""


def _read(model: keras.Model, outputs: Sequence[keras.KerasTensor]) -> Graph:
    nodes: dict[Key, Node] = {}
    flattened: list[Node] = []
    keys = [_key(tensor) for tensor in outputs]
    stack, is_flattened = list(reversed(keys)), False
    while stack:
        operation, index, place = stack[-1]
        call = operation._inbound_nodes[index]
        parents = [_key(tensor) for tensor in call.input_tensors]
        unread = [parent for parent in parents if _identity(parent) not in nodes]
        if unread:
            stack.extend(reversed(unread))
            continue
        key = _identity(stack.pop())
        if key in nodes:
            continue
        inputs = tuple(nodes[_identity(parent)] for parent in parents)
        if isinstance(operation, keras.Model):
            is_flattened = True
            inner, ends = _inlined(operation, inputs)
            flattened += inner
            nodes |= {(*key[:2], end): node for end, node in enumerate(ends)}
        else:
            nodes[key] = _node(call, operation, inputs, place)
            flattened.append(nodes[key])
    return Graph(
        tuple(flattened),
        tuple(_key(tensor)[0] for tensor in model.inputs),
        tuple(nodes[_identity(key)] for key in keys),
        model.name,
        is_flattened,
        _dictionary_keys(model, "inputs"),
        _dictionary_keys(model, "outputs"),
    )


def _dictionary_keys(model: keras.Model, ends: str) -> tuple[str, ...] | None:
    """Return the keys of a model's inputs or outputs, where they are a dictionary."""
    structure = getattr(model, f"_{ends}_struct", None)
    if not isinstance(structure, dict):
        return None
    if not all(isinstance(end, keras.KerasTensor) for end in structure.values()):
        raise ValueError(f"{ends} of model {model.name!r} must be tensors, lists or one dictionary, not a nest of them")
    return tuple(sorted(structure))


def _inlined(model: keras.Model, inputs: tuple[Node, ...]) -> tuple[list[Node], list[Node]]:
    """Return the calls of a model inside a model, with its inputs replaced, and those that make its outputs."""
    graph = read_graph(model)
    if len(graph.inputs) != len(inputs):
        raise ValueError(
            f"model {model.name!r} inside the model must be called with {len(graph.inputs)} tensors. "
            f"Received: {len(inputs)}"
        )
    fed = dict(zip((id(layer) for layer in graph.inputs), inputs, strict=True))
    copies: dict[Node, Node] = {}
    for node in graph.nodes:
        if isinstance(node.layer, keras.layers.InputLayer):
            copies[node] = fed[id(node.layer)]
        else:
            copies[node] = dataclasses.replace(node, inputs=tuple(copies[parent] for parent in node.inputs))
    inner = [copies[node] for node in graph.nodes if not isinstance(node.layer, keras.layers.InputLayer)]
    return inner, [copies[node] for node in graph.outputs]


def _key(tensor: keras.KerasTensor) -> Key:
    history = tensor._keras_history
    return history.operation, history.node_index, history.tensor_index


def _identity(key: Key) -> Key:
    return id(key[0]), *key[1:]


def _node(call: Any, operation: Any, inputs: tuple[Node, ...], place: int) -> Node:
    if isinstance(operation, keras.layers.InputLayer):
        return Node(operation, (), False, {}, tuple(operation.output.shape[1:]))
    arguments, shape = call.arguments, tuple(call.outputs[place].shape[1:])
    if not isinstance(operation, keras.layers.Layer):
        return Node(operation, inputs, False, {}, shape, arguments, place)
    takes_list = isinstance(arguments.args[0], (list, tuple)) if arguments.args else False
    in_first = list(arguments.args[0]) if takes_list else [arguments.args[0] if arguments.args else None]
    if len(arguments.args) != 1 or len(in_first) != len(inputs) or len(call.outputs) != 1:
        if find_kind(operation) is None:
            return Node(operation, inputs, False, {}, shape, arguments, place)
        raise ValueError(
            f"layer {operation.name!r} must be called with one tensor or one list of tensors and return one tensor"
        )
    # Inference is meant: a layer that is always to behave as in training does not here.
    kwargs = {name: value for name, value in arguments.kwargs.items() if name != "training" or not value}
    return Node(operation, inputs, takes_list, kwargs, shape)


def evaluate(graph: Graph, inputs: Sequence[Any], call: Callable[[Node, list[Any]], Any]) -> dict[Node, Any]:
    """Return what ``call`` makes of each node.

    Args:
        graph: the network.
        inputs: a value for each of its inputs.
        call: given a node that is no input, and the values of its inputs, returns its own.
    """
    fed = {layer.name: value for layer, value in zip(graph.inputs, inputs, strict=True)}
    values: dict[Node, Any] = {}
    for node in graph.nodes:
        is_input = isinstance(node.layer, keras.layers.InputLayer)
        values[node] = fed[node.layer.name] if is_input else call(node, [values[parent] for parent in node.inputs])
    return values


Call = Callable[[Node, list[keras.KerasTensor]], keras.KerasTensor]
"""Given a node and its new input tensors (for an input layer: the new input itself), returns the new output tensor."""


def rebuild(graph: Graph, call: Call) -> keras.Model:
    """Build a new functional model, one node at a time."""
    return connected(graph, *replay(graph, call))


def replay(graph: Graph, call: Call) -> tuple[list[keras.KerasTensor], dict[Node, keras.KerasTensor]]:
    """Return new inputs of a graph, and what ``call`` makes of each node."""
    inputs = {
        layer.name: keras.Input(layer.output.shape[1:], dtype=layer.dtype, name=layer.name) for layer in graph.inputs
    }
    tensors: dict[Node, keras.KerasTensor] = {}
    for node in graph.nodes:
        is_input = isinstance(node.layer, keras.layers.InputLayer)
        arguments = [inputs[node.layer.name]] if is_input else [tensors[parent] for parent in node.inputs]
        tensors[node] = call(node, arguments)
    return list(inputs.values()), tensors


def connected(graph: Graph, inputs: list[keras.KerasTensor], tensors: dict[Node, keras.KerasTensor]) -> keras.Model:
    """Return the model of new inputs and of what was made of each node."""
    outputs = [tensors[node] for node in graph.outputs]
    return keras.Model(_as_given(inputs, graph.input_keys), _as_given(outputs, graph.output_keys), name=graph.name)


def _as_given(tensors: list[keras.KerasTensor], keys: tuple[str, ...] | None) -> Any:
    """Return tensors in a dictionary where there are keys, one alone as it is."""
    if keys is not None:
        return dict(zip(keys, tensors, strict=True))
    return tensors if len(tensors) > 1 else tensors[0]


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
