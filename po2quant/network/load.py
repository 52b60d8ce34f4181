"""Keras models from files of Keras 3 and Keras 2, nothing of which is executed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import keras

from po2quant.compat import without_values
from po2quant.files import JSON_BYTES, one_line, parse_json, read_json
from po2quant.network.architecture import checked_architecture, new_names
from po2quant.weight_files import WeightFile, read_weight_file

ARCHITECTURE_SUFFIX = ".json"
SAVED_MODEL_FILE = "saved_model.pb"


def load_model(path: str | os.PathLike, weights: str | os.PathLike | None = None) -> keras.Model:
    """Return the Keras model of a file, float or quantized, as a Keras 3 model that is not compiled.

    Known forms: ``.keras`` of Keras 3 and of TensorFlow 2.12 to 2.15, ``.h5`` of Keras 3 and 2, and the JSON of
    ``model.to_json`` with a file of weights. Classes are looked up by name among those of Keras and this package;
    nothing in a file is imported, evaluated or unpickled. Numbers of 16 bits are read as float32. A ``/`` in the name
    of a layer becomes ``_``. Initializers are left out, since the weights are known.

    Args:
        path: the model, or its architecture in JSON.
        weights: its weights, in any form that Keras writes: needed beside JSON, else taken from ``path``.

    Raises:
        ValueError: in one sentence that says what to do, for another kind of file or object, a damaged one, and for
            layers that are unknown or hold code, all of which it names.

    Example:
        >>> import tempfile
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.keras")
        ...     loaded = load_model(f"{folder}/model.keras")
        >>> bool((loaded.get_weights()[0] == model.get_weights()[0]).all())
        True
    """
    path = _path(path, "path")
    if path.suffix.lower() == ARCHITECTURE_SUFFIX:
        if weights is None:
            raise ValueError(
                f"{path} is an architecture alone: weights must name the file of its weights. Received: None"
            )
        description = read_json(path, "the architecture of a Keras model")
        source = read_weight_file(_path(weights, "weights"))
    else:
        own = read_weight_file(path)
        if own.description is None:
            raise ValueError(
                f"{path} holds weights alone: path must have the architecture too, as model.save writes it, or be the "
                "JSON of model.to_json, with weights beside it"
            )
        description, source = _parsed(own.description, path), own
        if weights is not None:
            source = read_weight_file(_path(weights, "weights"))
    return _model(description, source, path)


def _path(value: Any, argument: str) -> Path:
    """Return the path of a file, or raise ValueError for an object or a folder."""
    if isinstance(value, keras.Model):
        raise ValueError(f"{argument} must be a file. Received: a Keras model, which is loaded already")
    if not isinstance(value, str | os.PathLike):
        way_out = ": save it by model.save('model.h5'), and load that" if hasattr(value, "get_config") else ""
        received = f"{type(value).__module__.split('.')[0]}'s {type(value).__name__}"
        raise ValueError(f"{argument} must be a file. Received: {received}{way_out}")
    path = Path(value)
    if (path / SAVED_MODEL_FILE).exists():
        raise ValueError(
            f"{path} is a SavedModel, a graph without layers: load it by the Keras that made it, and save it as .keras "
            "or .h5"
        )
    if not path.is_file():
        raise ValueError(f"{argument} must be a .keras, .h5 or .json file. There is no file {path}")
    return path


def _parsed(text: str, path: Path) -> Any:
    try:
        if len(text) > JSON_BYTES:
            raise ValueError(f"more than {JSON_BYTES} characters")
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} must describe its model in JSON. Received: {one_line(error)}") from None


def _model(description: Any, weights: WeightFile, path: Path) -> keras.Model:
    try:
        checked = checked_architecture(description)
    except ValueError as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from None
    model = _built(checked, weights, path)
    names = new_names(description, checked)
    groups = {names.get(group, group): arrays for group, arrays in weights.groups.items()}
    dataclasses.replace(weights, groups=groups if weights.is_keras2 else weights.groups).load_into(model)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def _built(checked: dict[str, Any], weights: WeightFile, path: Path) -> keras.Model:
    """Return the model of a description whose weights are as many as a file has: they take memory only then."""
    try:
        with without_values() as give_values:
            model = keras.models.model_from_json(json.dumps(checked))
            needed = model.count_params()
            if needed <= weights.parameters:
                give_values()
    except Exception as error:  # whatever Keras has against it
        raise ValueError(f"{path} describes no model that Keras can build: {one_line(error, 300)}") from None
    if needed > weights.parameters:
        raise ValueError(
            f"{path} describes a model of {needed} weights. Received: {weights.parameters} in {weights.path}"
        )
    return model
