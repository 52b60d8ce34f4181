"""AutoQKeras' ``tune_filters``: the same network with other numbers of filters and units."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import keras

from po2quant.network.graph import read_graph

NETWORK_FILTERS = "network_filters"
FACTORS = (1.0, 0.5, 0.75, 1.5, 2.0)
"""What filters are multiplied by; the first is what first trials have."""


def filter_choices(names: Collection[str], tune_filters: str) -> dict[str, tuple[float, ...]]:
    """Return the choices of filters by name, as QKeras names them.

    Args:
        names: of the layers whose filters may change, see :func:`tuned_layers`.
        tune_filters: ``'block'``: one factor for all; ``'layer'``: one a layer.
    """
    if tune_filters == "layer":
        return {f"{NETWORK_FILTERS}_{name}": FACTORS for name in names}
    return {NETWORK_FILTERS: FACTORS} if names else {}


def tuned_layers(model: keras.Model, exceptions: re.Pattern[str] | None, searched: Collection[str]) -> list[str]:
    """Return the names of the layers whose filters may change; the one that makes the output keeps its.

    Args:
        model: float model.
        exceptions: finds the names of layers that keep their filters.
        searched: names of the layers whose widths are searched.
    """
    layers = [layer for layer in model.layers if _has_filters(layer) and layer.name in searched]
    ends = {_last_weighted(node) for node in read_graph(model).outputs}
    return [
        layer.name
        for layer in layers
        if layer.name not in ends and not (exceptions is not None and exceptions.search(layer.name))
    ]


def _has_filters(layer: keras.layers.Layer) -> bool:
    return hasattr(layer, "filters") or isinstance(layer, keras.layers.Dense)


def _last_weighted(node: Any) -> str:
    while node.inputs and not _has_filters(node.layer):
        node = node.inputs[0]
    return node.layer.name


def with_filters(model: keras.Model, factors: Mapping[str, float]) -> keras.Model:
    """Return a copy of a model whose layers have so many times their filters or units, at least 1.

    A layer keeps its weights where their shapes are the same, as QKeras does; others are new.

    Args:
        model: float model.
        factors: by name of a layer.
    """

    def changed(layer: keras.layers.Layer) -> keras.layers.Layer:
        config, factor = layer.get_config(), factors.get(layer.name, 1.0)
        for size in ("filters", "units"):
            if size in config:
                config[size] = max(int(config[size] * factor), 1)
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=changed)
    for old, new in zip(model.layers, copy.layers, strict=True):
        weights = old.get_weights()
        if [w.shape for w in weights] == [w.shape for w in new.get_weights()]:
            new.set_weights(weights)
    return copy


def factors_of(values: Mapping[str, Any], names: Collection[str]) -> dict[str, float]:
    """Return the factor of each tuned layer that the values of a trial stand for."""
    shared = float(values.get(NETWORK_FILTERS, 1.0))
    return {name: float(values.get(f"{NETWORK_FILTERS}_{name}", shared)) for name in names}
