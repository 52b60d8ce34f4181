"""Files as Keras 2 writes them, made without it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras

FLOAT16 = {"class_name": "Policy", "config": {"name": "mixed_float16"}}


def write_keras2(
    path: Path,
    model: keras.Model,
    under: str | None = "model_weights",
    description: Any = None,
    names: Mapping[str, str] = {},
) -> None:
    """Write the layout of Keras 2's HDF5 files.

    Args:
        path: of the file.
        model: has the weights.
        under: group of them, None for a file of weights alone.
        description: of the model, where the file tells it.
        names: what Keras 2 called layers, by their names in ``model``.
    """
    with h5py.File(path, "w") as file:
        if description is not None:
            file.attrs["model_config"] = json.dumps(description).encode()
        root = file.create_group(under) if under else file
        layers = {names.get(layer.name, layer.name): layer for layer in model.layers}
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for name, layer in layers.items():
            weights = layer.trainable_weights + layer.non_trainable_weights
            stored = [f"{name}/{index}/{weight.name}:0" for index, weight in enumerate(weights)]
            group = root.create_group(name)
            group.attrs["weight_names"] = [text.encode() for text in stored]
            for text, weight in zip(stored, weights, strict=True):
                group[text] = weight.numpy()


def layer(class_name: str, name: str, *inputs: str | tuple[str, int], **config: Any) -> dict[str, Any]:
    """Return Keras 2's description of a layer and of its one call, with other layers' outputs as inputs."""
    calls = [[end, 0, 0, {}] if isinstance(end, str) else [*end, 0, {}] for end in inputs]
    return {
        "class_name": class_name,
        "name": name,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
        "inbound_nodes": [calls] if calls else [],
    }


def functional(layers: Sequence[dict[str, Any]], name: str = "model") -> dict[str, Any]:
    """Return Keras 2's description of a model from its first layer to its last one."""
    ends = {"input_layers": [[layers[0]["name"], 0, 0]], "output_layers": [[layers[-1]["name"], 0, 0]]}
    return {"class_name": "Model", "config": {"name": name, "layers": list(layers), **ends}, "keras_version": "2.15.0"}


def sequential(layers: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return Keras 2's description of a Sequential."""
    parts = [{"class_name": part["class_name"], "config": part["config"]} for part in layers]
    return {"class_name": "Sequential", "config": {"name": name, "layers": parts}}
