"""What the rules that replace layers share: names, copies of layers and weights, tensors as images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from po2quant.network.graph import Graph, Node


class Context:
    """A network that is rebuilt of other layers.

    Vectors ``(C,)`` and sequences ``(steps, C)`` are computed as images ``(1, 1, C)`` and ``(steps, 1, C)``. The
    context remembers which image a tensor was made of, so that a chain of layers stays an image and is reshaped once.

    Args:
        graph: the network as it was; layers of models inside it may have equal names.

    Attributes:
        transfers: what copies weights into the new network, as they are when it is called.
        softmaxes: input and name of each softmax, by the number of its output.
    """

    def __init__(self, graph: Graph) -> None:
        self.transfers: list[Callable[[], None]] = []
        self.softmaxes: dict[int, tuple[Any, str]] = {}
        self._graph = graph
        self._taken: set[str] = set()
        self._names: dict[int, str] = {}
        for layer in (*graph.inputs, *(node.layer for node in graph.every_node)):
            if id(layer) not in self._names:
                self._names[id(layer)] = self.free_name(layer.name)
        self._unused = set(self._names)
        self._made: dict[int, Any] = {}
        self._images: dict[int, tuple[keras.KerasTensor, keras.KerasTensor]] = {}

    def free_name(self, name: str) -> str:
        """Return the name, or the first of ``<name>_1``, ``<name>_2``, ... that no layer has, and take it."""
        candidates = itertools.chain((name,), (f"{name}_{number}" for number in itertools.count(1)))
        free = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(free)
        return free

    def name(self, layer: Any, part: str | None = None) -> str:
        """Return a free name for what stands for a layer: the layer's own the first time.

        Args:
            layer: of the network as it was.
            part: what of the layer it is, for a name beside the layer's own.
        """
        own = self._names[id(layer)]
        if part is not None:
            return self.free_name(f"{own}_{part}")
        if id(layer) in self._unused:
            self._unused.remove(id(layer))
            return own
        return self.free_name(own)

    def once(self, layer: Any, make: Callable[[], Any]) -> Any:
        """Return what stands for a layer, made on its first call."""
        if id(layer) not in self._made:
            self._made[id(layer)] = make()
        return self._made[id(layer)]

    def copied(self, layer: keras.layers.Layer, **changes: Any) -> keras.layers.Layer:
        """Return a copy of a layer under its own name, with its weights."""

        def make() -> keras.layers.Layer:
            copy = type(layer).from_config(layer.get_config() | {"name": self.name(layer)} | changes)
            if layer.weights:
                self.transfers.append(lambda: copy.set_weights(layer.get_weights()))
            return copy

        return self.once(layer, make)

    def add(
        self,
        layer_class: Callable[..., Any],
        node: Node,
        x: Any,
        *arguments: Any,
        part: str | None = None,
        **options: Any,
    ) -> Any:
        """Apply a new layer without weights, which is named after the one that it is for."""
        return layer_class(*arguments, **options, name=self.name(node.layer, part))(x)

    def weighted(
        self,
        node: Node,
        layer_class: Callable[..., Any],
        weights: Callable[[], Mapping[str, np.ndarray]],
        **options: Any,
    ) -> Any:
        """Return a layer with weights, made on the node's first call and filled once the network is built.

        Args:
            node: what it is for, and named after.
            layer_class: of the core.
            weights: returns its arrays by attribute.
            options: its constructor arguments.
        """

        def make() -> keras.layers.Layer:
            new = layer_class(**options, name=self.name(node.layer))

            def fill() -> None:
                for attribute, values in weights().items():
                    getattr(new, attribute).assign(values.reshape(getattr(new, attribute).shape))

            self.transfers.append(fill)
            return new

        return self.once(node.layer, make)

    def image(self, x: keras.KerasTensor, node: Node) -> keras.KerasTensor:
        """Return a tensor of at most three axes as an image ``(rows, columns, channels)``.

        Raises:
            ValueError: for more axes.
        """
        if self.has_image(x):
            return self._images[id(x)][0]
        shape = tuple(x.shape[1:])
        if len(shape) > 3:
            raise ValueError(f"tensors must have at most rows, columns and channels. Received: shape {shape}")
        if len(shape) == 3:
            return x
        image_shape = (*shape[:-1], *(1,) * (3 - len(shape)), shape[-1])
        return self.add(keras.layers.Reshape, node, x, image_shape, part="image")

    def of_image(self, image: keras.KerasTensor, node: Node) -> keras.KerasTensor:
        """Return an image in the shape of the node's output, and remember that it was one."""
        if tuple(image.shape[1:]) == node.shape:
            return image
        if id(image) in self.softmaxes:  # it comes last
            before, name = self.softmaxes[id(image)]
            return self.softmax(name, self.add(keras.layers.Reshape, node, before, node.shape, part="reshaped"))
        x = self.add(keras.layers.Reshape, node, image, node.shape, part="reshaped")
        self._images[id(x)] = image, x
        return x

    def has_image(self, x: keras.KerasTensor) -> bool:
        """Return whether a tensor was made of an image by :meth:`of_image`."""
        return id(x) in self._images

    def softmax(self, name: str, x: keras.KerasTensor, axis: int = -1) -> keras.KerasTensor:
        """Apply a softmax, and remember what it read."""
        y = keras.layers.Softmax(axis, name=name)(x)
        self.softmaxes[id(y)] = x, name
        return y

    def reshaped(self, node: Node, x: keras.KerasTensor) -> keras.KerasTensor:
        """Return a tensor in the shape of the node's output.

        A softmax over the last axis changes places with a change of shape that keeps that axis, so that it comes last.
        """
        known = self.softmaxes.get(id(x))
        if known is None or x.shape[-1] != node.shape[-1]:
            return self.add(keras.layers.Reshape, node, x, node.shape)
        before, name = known
        is_replaced = self._graph.only_reader(node.inputs[0]) is not None
        reshaped = self.add(keras.layers.Reshape, node, before, node.shape)
        return self.softmax(name if is_replaced else self.free_name(name), reshaped)

    def activated(self, x: keras.KerasTensor, activation: Any, node: Node) -> keras.KerasTensor:
        """Apply the activation function, or activation layer, that a layer has inside."""
        if activation is None or activation is keras.activations.linear:
            return x
        if activation is keras.activations.softmax:
            return self.softmax(self.name(node.layer, "softmax"), x)
        name = self.name(node.layer, "activation")
        if isinstance(activation, keras.layers.Layer):
            return type(activation).from_config(activation.get_config() | {"name": name})(x)
        return keras.layers.Activation(activation, name=name)(x)
