"""Channels of 0 bits: they are taken out of the float network, so that all that follows knows a smaller network.

Widths, costs, search, training and every format of export then need no mask, and no backend a rule for zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from po2quant.network.folding import FoldedNetwork
from po2quant.network.graph import Graph, Node, rebuild
from po2quant.network.kinds import Form, Role, function_of, is_weighted, kernel_facts, kernel_of, kind_of
from po2quant.network.walk import Arrays, walk

_BY_CHANNEL = (Role.SUM, Role.JOIN, Role.POOLING, Role.TRANSPARENT)
"""What gives each channel from the same channel of every input; of joins along the channels more is said below."""


def prune(network: FoldedNetwork, channels: Mapping[str, Sequence[int]]) -> keras.Model:
    """Return the network without some output channels of its layers, and without the weights that read them.

    It computes what the whole network would, were the weights that read these channels zero. A channel that meets
    another in an addition, a product or a depthwise convolution goes with it: naming one of the layers is enough.

    Args:
        network: folded network, with weights; it is left alone.
        channels: output channels that go, by the name of a layer with a kernel.

    Returns:
        A float model of core kinds, with the names and the remaining weights of ``network.model``.

    Raises:
        ValueError: for an unknown layer or channel, all channels of a layer, and a channel that must stay, since it
            reaches an output or what has no narrower form.

    Example:
        >>> from po2quant.network import fold
        >>> hidden, dense = keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2, name="dense")
        >>> network = fold(keras.Sequential([keras.Input((4,), name="x"), hidden, dense]))
        >>> tuple(prune(network, {"hidden": [0, 5]}).get_layer("dense").kernel.shape)
        (6, 2)
    """
    found = _Channels(network.graph)
    removed = np.zeros(found.count, bool)
    for name, places in channels.items():
        removed[found.named(name, places)] = True
    if full := next((node for node in found.weighted if np.all(removed[found.ids[node]])), None):
        raise ValueError(
            f"layer {full.layer.name!r} must keep one of its {len(found.ids[full])} channels. Received: none"
        )
    return found.without(removed)


def weakest_channels(network: FoldedNetwork, x: Arrays, keep: float) -> dict[str, list[int]]:
    """Return the channels whose absence costs the next layers the least for each weight that goes, for :func:`prune`.

    Equation:
        loss_c = sum over the layers l that read c of e_lc / sum_d e_ld,  e_lc = |W_lc|^2 mean(x_c^2),
        the share of c in the energy of a layer's products; channels go in the order of loss_c per weight.

    Args:
        network: folded network, with trained weights.
        x: inputs, ``(samples, ...)``, one array for each input of the network.
        keep: share of the kernel weights that is left at most, in (0, 1].

    Raises:
        ValueError: for a share out of range, or one that needs all channels of a layer.
    """
    if not 0.0 < keep <= 1.0:
        raise ValueError(f"keep must be in (0, 1]. Received: keep={keep}")
    found = _Channels(network.graph)
    worth = found.losses(network.model, x) / np.maximum(found.weights_by_channel(), 1)
    removed = np.zeros(found.count, bool)
    limit = keep * found.weights_left(removed)
    for channel in np.argsort(worth, kind="stable"):
        if found.weights_left(removed) <= limit:
            break
        if not found.fixed[channel]:
            removed[channel] = True
            removed[channel] = not any(np.all(removed[found.ids[node]]) for node in found.weighted)
    if found.weights_left(removed) > limit:
        raise ValueError(f"keep must leave a channel in each layer. Received: keep={keep}")
    places = {node.layer.name: np.flatnonzero(removed[found.ids[node]]).tolist() for node in found.weighted}
    return {name: own for name, own in places.items() if own}


class _Channels:
    """The channels of a network, numbered: two that can only go together have one number.

    Args:
        graph: lowered network.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph, self._parents = graph, list[int]()
        self._made: dict[str, np.ndarray] = {}
        self._read: dict[str, np.ndarray] = {}
        self._staying: list[np.ndarray] = []
        self._grouped: set[str] = set()
        numbers: dict[Node, np.ndarray] = {}
        for node in graph.nodes:
            numbers[node] = self._of(node, [numbers[parent] for parent in node.inputs])
        self._staying += [numbers[node] for node in graph.outputs]
        roots = np.array([self._root(channel) for channel in range(len(self._parents))], int)
        self.ids = {node: roots[own] for node, own in numbers.items()}
        self.count = len(roots)
        self.fixed = np.zeros(self.count, bool)
        self.fixed[roots[np.concatenate(self._staying)]] = True
        self.weighted = list({node.layer.name: node for node in graph.nodes if is_weighted(node.layer)}.values())

    def _root(self, channel: int) -> int:
        while self._parents[channel] != channel:
            channel = self._parents[channel]
        return channel

    def _new(self, count: int) -> np.ndarray:
        channels = np.arange(len(self._parents), len(self._parents) + count)
        self._parents += channels.tolist()
        return channels

    def _join(self, one: np.ndarray, other: np.ndarray) -> None:
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            self._parents[self._root(a)] = self._root(b)

    def _of(self, node: Node, inputs: list[np.ndarray]) -> np.ndarray:
        """Return the channels of a call's output."""
        layer, count = node.layer, node.fixed_shape[-1]
        if is_weighted(layer):
            return self._of_weighted(node, inputs[0])
        if isinstance(layer, keras.layers.Flatten):
            return np.tile(inputs[0], count // len(inputs[0]))
        if kind_of(layer).role is Role.JOIN and sum(map(len, inputs)) == count:  # side by side
            return np.concatenate(inputs)
        if inputs and _is_by_channel(layer) and all(len(own) == count for own in inputs):
            for own in inputs[1:]:
                self._join(own, inputs[0])
            return inputs[0]
        own = self._new(count)
        self._staying += [*inputs, own]
        return own

    def _of_weighted(self, node: Node, x: np.ndarray) -> np.ndarray:
        layer, count = node.layer, node.fixed_shape[-1]
        if layer.name in self._read:
            self._join(x, self._read[layer.name])
        self._read[layer.name] = x
        if kernel_facts(layer).is_depthwise:
            return np.repeat(x, count // len(x))
        if layer.name not in self._made:
            self._made[layer.name] = self._new(count)
        if getattr(layer, "groups", 1) > 1:
            self._grouped.add(layer.name)
            self._staying += [x, self._made[layer.name]]
        return self._made[layer.name]

    def named(self, name: str, places: Sequence[int]) -> np.ndarray:
        """Return the numbers of output channels of a layer, or raise ValueError where they are not there or stay."""
        node = next((node for node in self.weighted if node.layer.name == name), None)
        if node is None:
            names = ", ".join(node.layer.name for node in self.weighted)
            raise ValueError(f"a pruned layer must be one of {names}. Received: {name!r}")
        own = self.ids[node]
        for place in places:
            if type(place) is bool or not isinstance(place, (int, np.integer)) or not 0 <= place < len(own):
                raise ValueError(f"channels of {name!r} must be integers from 0 to {len(own) - 1}. Received: {place!r}")
            if self.fixed[own[place]]:
                raise ValueError(
                    f"channels of {name!r} must stay, as they reach an output or a layer that has no narrower form. "
                    f"Received: {place}"
                )
        return own[np.asarray(places, int)]

    def kept(self, node: Node, removed: np.ndarray) -> np.ndarray:
        """Return the places of a call's output channels that are left."""
        return np.flatnonzero(~removed[self.ids[node]])

    def _read_by(self, node: Node, removed: np.ndarray) -> np.ndarray:
        """Return the rows of a layer's kernel for one output channel that are left."""
        if kernel_facts(node.layer).is_depthwise:
            return np.zeros(1, int)
        if node.layer.name in self._grouped:
            return np.arange(kernel_of(node.layer).shape[-2])
        return self.kept(node.inputs[0], removed)

    def _mixes(self, layer: keras.layers.Layer) -> bool:
        """Return whether each output channel of a layer reads all input channels."""
        return not kernel_facts(layer).is_depthwise and layer.name not in self._grouped

    def weights_left(self, removed: np.ndarray) -> int:
        """Return how many weights the kernels have without some channels."""
        total = 0
        for node in self.weighted:
            taps, out = math.prod(kernel_of(node.layer).shape[:-2]), self.kept(node, removed).size
            total += taps * out * len(self._read_by(node, removed))
        return total

    def weights_by_channel(self) -> np.ndarray:
        """Return how many weights make or read each channel."""
        weights = np.zeros(self.count)
        for node in self.weighted:
            out, size = self.ids[node], math.prod(kernel_of(node.layer).shape)
            np.add.at(weights, out, size / len(out))
            if self._mixes(node.layer):
                np.add.at(weights, self.ids[node.inputs[0]], size / len(self.ids[node.inputs[0]]))
        return weights

    def losses(self, model: keras.Model, x: Arrays) -> np.ndarray:
        """Return the share of each channel in the energy of the products that it is part of."""
        losses = np.zeros(self.count)
        for node, inputs in walk(model, x):
            if node in self.ids and is_weighted(node.layer) and self._mixes(node.layer):
                read = np.asarray(inputs[0], np.float64)
                power = np.mean(np.square(read), axis=tuple(range(read.ndim - 1)))
                kernel = np.asarray(kernel_of(node.layer), np.float64)
                energy = power * np.sum(np.square(kernel), axis=(*range(kernel.ndim - 2), -1))
                np.add.at(losses, self.ids[node.inputs[0]], energy / max(energy.sum(), np.finfo(float).tiny))
        return losses

    def without(self, removed: np.ndarray) -> keras.Model:
        """Return the network without some channels."""
        copies: dict[str, keras.layers.Layer] = {}

        def narrower(node: Node, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
            layer = node.layer
            if isinstance(layer, keras.layers.InputLayer):
                return inputs[0]
            if layer.name not in copies:
                units = kernel_facts(layer).units if is_weighted(layer) else None
                count = {} if units is None else {units: self.kept(node, removed).size}
                copies[layer.name] = type(layer).from_config(layer.get_config() | count)
            return node.call(copies[layer.name], inputs)

        model = rebuild(self._graph, narrower)
        for node in self._graph.nodes:
            if is_weighted(node.layer):
                self._copy_weights(node, copies[node.layer.name], removed)
            elif node.layer.weights:
                copies[node.layer.name].set_weights(node.layer.get_weights())
        return model

    def _copy_weights(self, node: Node, copy: keras.layers.Layer, removed: np.ndarray) -> None:
        layer, y = node.layer, self.kept(node, removed)
        kernel = np.asarray(kernel_of(layer))
        if kernel_facts(layer).is_depthwise:
            kernel = kernel[..., self.kept(node.inputs[0], removed), :]
        else:
            kernel = kernel[..., self._read_by(node, removed), :][..., y]
        kernel_of(copy).assign(kernel)
        copy.bias.assign(np.asarray(layer.bias)[y])


def _is_by_channel(layer: keras.layers.Layer) -> bool:
    """Return whether each output channel depends on the same channel of every input alone."""
    role, function = kind_of(layer).role, function_of(layer)
    if function is not None:
        return function.form is not Form.HOST
    return role in _BY_CHANNEL or isinstance(layer, keras.layers.ZeroPadding2D)
