"""The description of a Keras model in somebody's file, checked and brought to the form of Keras 3.

A description names classes and modules. Keras imports what it names; here every name is looked up in the list of
:mod:`po2quant.network.vocabulary` instead, and what goes on to Keras has our own spelling of it. So no description can
import, call or unpickle anything, whatever it says.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import keras

from po2quant.files import one_line
from po2quant.network.vocabulary import RUNS_CODE, find_class, is_function, is_keras_layer, modernise

FUNCTIONAL, SEQUENTIAL = "Functional", "Sequential"
MODELS = {"Functional": FUNCTIONAL, "Model": FUNCTIONAL, "Sequential": SEQUENTIAL}
"""Classes of models by the names that Keras 2 and 3 give them."""

PLAIN_OBJECTS = ("__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__", "__tuple__")
"""What a description may hold beside classes: values, whose content Keras parses as data."""

KERAS_2_POLICIES = ("Policy", "PolicyV1")
DROPPED = ("build_config", "compile_config", "shared_object_id", "_initializer")
"""Endings of what a description is not asked for: weights come from a file, and no training goes on."""

MAX_LAYERS = 10_000
MAX_OBSTACLES_SHOWN = 8


def checked_architecture(description: Any) -> dict[str, Any]:
    """Return the description of a Sequential or functional model in Keras 3's form, all its names known.

    Args:
        description: what ``model.to_json`` or a saved file of Keras 2 or 3 has; it is left alone.

    Raises:
        ValueError: naming every layer that is unknown or runs code, with what to do instead.
    """
    checker = _Checker(_is_keras_2(description))
    description = checker.model(copy.deepcopy(description))
    if obstacles := checker.obstacles:
        more = len(obstacles) - MAX_OBSTACLES_SHOWN
        shown = obstacles[:MAX_OBSTACLES_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise ValueError("; ".join(shown))
    return description


def new_names(description: Any, checked: dict[str, Any]) -> dict[str, str]:
    """Return the names of a model's layers in :func:`checked_architecture`'s form, by those that they had."""
    old = description["config"] if isinstance(description["config"], list) else description["config"]["layers"]
    pairs = zip(old, checked["config"]["layers"], strict=True)
    return {_name_of(before): after["config"]["name"] for before, after in pairs}


def _is_keras_2(description: Any) -> bool:
    """Return whether Keras 2 wrote a description: it has another word for the shape of an input."""
    waiting = [description]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if "batch_input_shape" in item:
                return True
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return False


def _name_of(description: Any) -> str:
    inner = description.get("config") if isinstance(description, dict) else None
    name = description.get("name", inner.get("name")) if isinstance(inner, dict) else None
    if name is None and isinstance(inner, list):  # a Sequential before Keras 2.3
        name = SEQUENTIAL.lower()
    if not isinstance(name, str) or not name:
        raise ValueError(f"every layer of a model must have a name. Received: {one_line(repr(description))}")
    return name


class _Names:
    """New names of layers, and the numbers of their calls, as Keras 3 has them.

    Keras 3 allows no ``/`` in a name. Keras 2 counts the calls of a model inside a model from 1.

    Args:
        descriptions: of the layers of one model.
        is_keras_2: whether Keras 2 described them.
    """

    def __init__(self, descriptions: list[Any], is_keras_2: bool) -> None:
        old = [_name_of(description) for description in descriptions]
        taken = {name for name in old if "/" not in name}
        self._new: dict[str, str] = {}
        for name in old:
            plain = name.replace("/", "_")
            candidates = itertools.chain([plain], (f"{plain}_{number}" for number in itertools.count(1)))
            self._new[name] = name if "/" not in name else next(free for free in candidates if free not in taken)
            taken.add(self._new[name])
        self._counted_from_1 = {
            name
            for name, description in zip(old, descriptions, strict=True)
            if is_keras_2 and _starts_with_input(description)
        }

    def __getitem__(self, name: str) -> str:
        return self._new.get(name, name)

    def reference(self, reference: list[Any]) -> list[Any]:
        """Return ``[layer, call, output, ...]`` with new name and number."""
        name, call, *rest = reference
        return [self[name], call - (name in self._counted_from_1), *rest]

    def ends(self, ends: Any) -> Any:
        """Return ``[["input", 0, 0]]``, or a dictionary or nest of such, with new names.

        Calls of layers, ``["conv", 0, 0, {}]`` of Keras 2 and ``keras_history`` of Keras 3, are such nests.
        """
        if isinstance(ends, dict):
            return {key: self.ends(value) for key, value in ends.items()}
        if _is_reference(ends):
            return self.reference(ends)
        return [self.ends(end) for end in ends] if isinstance(ends, list) else ends


def _starts_with_input(description: dict[str, Any]) -> bool:
    """Return whether a layer is a model that knows its inputs."""
    kind, inner = MODELS.get(str(description.get("class_name"))), description["config"]
    inside = inner.get("layers") if isinstance(inner, dict) else inner
    if kind is None or not isinstance(inside, list) or not inside:
        return False
    first = inside[0].get("config") if isinstance(inside[0], dict) else None
    return kind == FUNCTIONAL or (isinstance(first, dict) and bool({"batch_shape", "batch_input_shape"} & first.keys()))


def _is_reference(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


class _Checker:
    """Checks a description, in place, and collects what stands in the way.

    Args:
        is_keras_2: whether Keras 2 wrote it.
    """

    def __init__(self, is_keras_2: bool) -> None:
        self.obstacles: list[str] = []
        self._is_keras_2 = is_keras_2
        self._layers_left = MAX_LAYERS

    def model(self, description: Any) -> dict[str, Any]:
        """Return the description of a model, nested ones included."""
        inner, is_dict = _settled_config(description), isinstance(description, dict)
        kind = MODELS.get(str(description.get("class_name"))) if is_dict else None
        if kind is None or not isinstance(inner, dict) or not isinstance(inner.get("layers"), list):
            name = description.get("class_name") if is_dict else description
            raise ValueError(
                "a model must be Sequential or functional, saved with its layers; make a functional one of a "
                f"subclassed one where its class is defined. Received: {one_line(repr(name))}"
            )
        self._layers_left -= len(inner["layers"])
        if self._layers_left < 0:
            raise ValueError(f"a model must have at most {MAX_LAYERS} layers")
        names = _Names(inner["layers"], self._is_keras_2)
        known: dict[str, Any] = {
            "name": str(inner.get("name", "model")).replace("/", "_"),
            "layers": [self._layer(layer, names) for layer in inner["layers"]],
        }
        if "trainable" in inner:
            known["trainable"] = bool(inner["trainable"])
        if kind == FUNCTIONAL:
            known |= {ends: names.ends(inner.get(ends)) for ends in ("input_layers", "output_layers")}
        elif inner.get("build_input_shape") and not any(map(_has_input_shape, known["layers"][:1])):
            known["build_input_shape"] = self._value(inner["build_input_shape"], "its input")
        outer = {"name": description["name"]} if "name" in description else {}
        module = "keras.src.models.functional" if kind == FUNCTIONAL else "keras"
        return {"module": module, "class_name": kind, "config": known, "registered_name": kind, **outer}

    def _layer(self, description: Any, names: _Names) -> dict[str, Any]:
        old_name = _name_of(description)
        place, calls = f"layer {old_name!r}", description.pop("inbound_nodes", None)
        if str(description.get("class_name")) in MODELS:
            description = self.model(description)
        else:
            description = self._value(description, place)
        if not isinstance(description, dict) or not isinstance(description.get("config"), dict):
            raise ValueError(f"{place} must have a class and its arguments")
        if calls is not None:
            description["inbound_nodes"] = names.ends(self._value(calls, place))
        if "name" in description:
            description["name"] = names[old_name]
        description["config"]["name"] = names[old_name]
        return description

    def _value(self, value: Any, place: str) -> Any:
        """Return a value in which every class is spelled as Keras knows it; collect those that are unknown."""
        if isinstance(value, list):
            return [self._value(item, place) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("type") == "ndarray" and "value" in value:  # how Keras 2.2 wrote a number of numpy
            return value["value"]
        if str(value.get("class_name")) in MODELS:
            return self.model(value)
        parts = {key: self._value(item, place) for key, item in value.items() if not key.endswith(DROPPED)}
        if "class_name" not in value or value["class_name"] in PLAIN_OBJECTS:
            return parts
        return self._object(parts, place)

    def _object(self, parts: dict[str, Any], place: str) -> Any:
        """Return the description of an object of a known class, or of a known function."""
        name, inner = str(parts["class_name"]), parts.get("config")
        if name in KERAS_2_POLICIES and isinstance(inner, dict):
            return str(inner.get("name", "float32"))
        if name == "function":
            if not is_function(inner):
                self._refuse(place, f"uses the function {one_line(repr(inner), 60)}, which Keras does not have")
            return {"module": "keras.activations", "class_name": name, "config": inner, "registered_name": name}
        cls, obstacle = find_class(parts), None
        if name in RUNS_CODE:
            obstacle = f"({name}) would run code or read files that the file names: {RUNS_CODE[name]}"
        elif cls is None:
            obstacle = f"has the class {_shown_class(parts)}, which is none of Keras: replace it by Keras layers"
        elif not isinstance(inner, dict):
            obstacle = f"must have its arguments in a dictionary. Received: {one_line(repr(inner), 60)}"
        elif issubclass(cls, keras.Layer):
            obstacle = modernise(inner, cls, self._is_keras_2)
            if is_keras_layer(cls) and isinstance(inner.get("name"), str):
                inner["name"] = inner["name"].replace("/", "_")
        if obstacle is not None or cls is None:
            self._refuse(place, obstacle or "")
            return parts | {"config": inner if isinstance(inner, dict) else {}}
        known = {"module": cls.__module__, "class_name": cls.__name__}
        return parts | known | {"registered_name": keras.saving.get_registered_name(cls)}

    def _refuse(self, place: str, obstacle: str) -> None:
        self.obstacles.append(f"{place} {obstacle}")


def _settled_config(description: Any) -> Any:
    """Return what a model is made of; before Keras 2.3 a Sequential was the list of its layers."""
    inner = description.get("config") if isinstance(description, dict) else None
    if isinstance(inner, list):
        inner = description["config"] = {"name": description.get("name", SEQUENTIAL.lower()), "layers": inner}
    return inner


def _has_input_shape(layer: dict[str, Any]) -> bool:
    return layer["class_name"] == "InputLayer" or "input_shape" in layer["config"]


def _shown_class(description: dict[str, Any]) -> str:
    return one_line(str(description.get("registered_name") or description["class_name"]), 60)
