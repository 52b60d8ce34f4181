"""What the lowerings of one network share."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import keras

from po2quant.network.graph import Graph, LayerCloner
from po2quant.network.lowering.batch_norm import norms_by_source


class Context:
    """A network that is lowered.

    Args:
        graph: the network as it was.

    Attributes:
        clone: copies layers that stay as they are.
        norms: the BatchNormalization that folds into each layer, by the layer's name.
        transfers: what copies weights into the new network once it is built.
    """

    def __init__(self, graph: Graph) -> None:
        self.clone, self.norms = LayerCloner(), norms_by_source(graph)
        self.transfers: list[Callable[[], None]] = []
        self._taken = set(graph.calls)
        self._made: dict[str, keras.layers.Layer] = {}

    def free_name(self, name: str) -> str:
        """Return the name, or the first of ``<name>_1``, ``<name>_2``, ... that no layer has, and take it."""
        candidates = itertools.chain((name,), (f"{name}_{number}" for number in itertools.count(1)))
        free = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(free)
        return free

    def once(self, name: str, make: Callable[[], keras.layers.Layer]) -> keras.layers.Layer:
        """Return the layer that stands for a layer of this name, made on its first call."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]
