"""The reader of weight files: nothing that they hold is run, and all of it is checked before it is used.

Known forms: Keras 3 ``.weights.h5`` and the one inside ``.keras``, and the ``.h5`` of Keras 2 (MLPerf
Tiny's reference networks). Only arrays are read. A model's description inside tells the order of its layers, and is
handed on as text.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from po2quant.archives import DAMAGES, memory_budget, open_zip, read_member, reason
from po2quant.files import one_line
from po2quant.fixed_point import MAX_SCALE_EXPONENT, check_bits, check_scales
from po2quant.hdf5 import Array, Group, Hdf5File

BEST_WEIGHTS = "best.weights.h5"
"""What stands for a run folder."""

FORMS = "a Keras .weights.h5, .keras or .h5 file, or a run folder"
LARGEST_DEPTH = 32
"""How deep groups lie in each other, at most."""

BIT_WIDTH, FROZEN, FROZEN_SCALE, MINIMUM, MAXIMUM = "bit_width", "frozen", "frozen_scale", "minimum", "maximum"
"""A quantizer's state."""

_WEIGHTS_MEMBER, _CONFIG_MEMBER, _METADATA_MEMBER = "model.weights.h5", "config.json", "metadata.json"
_CONFIG_ATTRIBUTE = "model_config"
_VARIABLES = "vars"


@dataclasses.dataclass(frozen=True, eq=False)
class WeightFile:
    """What a weight file holds: numbers, within a memory budget, and quantizer states that make sense.

    Args:
        path: the file.
        groups: arrays by group and name. A group of Keras 3 is a place in the network such as ``layers/dense``, and
            its arrays are numbered; one of Keras 2 is a layer, and its arrays have names such as ``dense/kernel:0``.
        names: names of layers by group, where they are another.
        layer_order: names of the layers in network order, where the file tells it.
        is_keras2: whether the form is that of Keras 2.
        description: JSON text that describes the model, where the file has one; it is not checked.
    """

    path: Path
    groups: Mapping[str, Mapping[str, np.ndarray]]
    names: Mapping[str, str]
    layer_order: tuple[str, ...] = ()
    is_keras2: bool = False
    description: str | None = None

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        return sum(array.size for arrays in self.groups.values() for array in arrays.values())

    @property
    def is_quantized(self) -> bool:
        """Whether it holds a quantized network's state rather than float weights."""
        return any(BIT_WIDTH in arrays for arrays in self.groups.values())

    def load_into(self, model: Any) -> None:
        """Give a Keras model of the same architecture, float or quantized, these weights.

        Raises:
            ValueError: where they are another network's, or NaN or infinity; the model is then as it was before.
        """
        optimizer = getattr(model, "optimizer", None)
        variables = [*model.variables, *(optimizer.variables if optimizer is not None else ())]
        before = [variable.numpy() for variable in variables]
        try:
            (_load_keras2 if self.is_keras2 else _load_keras3)(model, self)
            for variable in model.variables:
                if variable.dtype.startswith("float") and not np.all(np.isfinite(variable.numpy())):
                    raise ValueError(
                        f"weights must be finite numbers. Received: NaN or infinity in {variable.path} of {self.path}"
                    )
        except BaseException:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            raise


def read_weight_file(path: Path) -> WeightFile:
    """Return the contents of a weight file.

    Args:
        path: the file, or a run folder, which stands for its best weights.

    Raises:
        ValueError: in one line that names the file, where it is missing, damaged or something else, would take more
            memory than :func:`~po2quant.archives.memory_budget` allows, refers to other files, or holds anything but
            numbers or scales and widths that no quantizer has.
    """
    path = Path(path)
    if os.path.isdir(path):
        path = path / BEST_WEIGHTS
    if not os.path.isfile(path):
        raise ValueError(f"weights must be {FORMS}. There is no file {path}")
    try:
        is_archive = zipfile.is_zipfile(path)
        content, description = _read_archive(path) if is_archive else (None, None)
        layer_order = () if description is None else _layer_order(description)
        with open(path, "rb") if content is None else io.BytesIO(content) as opened:
            file = Hdf5File(opened, memory_budget(path))
            if _CONFIG_ATTRIBUTE in file.root.attributes:
                description = file.texts(file.root, _CONFIG_ATTRIBUTE)[0]
            root = _descend(file, file.root, ["model_weights"] if "model_weights" in file.root.members else [])
            if "layer_names" in root.attributes:
                return WeightFile(path, _keras2_groups(file, root), {}, layer_order, True, description)
            groups, names = _keras3_groups(file)
    except DAMAGES as error:
        raise ValueError(f"weights must be {FORMS}. {path} is damaged or something else: {reason(error)}") from None
    return WeightFile(path, groups, names, layer_order, description=description)


def is_quantized_checkpoint(path: Path) -> bool:
    """Return whether a file holds a quantized network's state rather than float weights."""
    return read_weight_file(path).is_quantized


def load_weights(model: Any, path: Path) -> None:
    """Load a weight file into a Keras model of the same architecture.

    Args:
        model: float or quantized model.
        path: the file, or a run folder, which stands for its best weights.

    Raises:
        ValueError: where the file is missing, damaged, of another network, or holds NaN or infinity.
    """
    read_weight_file(path).load_into(model)


def write_checked_model(path: Path, target: Path) -> None:
    """Write a copy of a ``.keras`` file that holds the model's description and those arrays alone that were checked.

    Args:
        path: the file.
        target: where the copy goes, a name that ends in ``.keras``.

    Raises:
        ValueError: as :func:`read_weight_file` does.
    """
    weights = read_weight_file(path)
    try:
        with open_zip(path, memory_budget(path)) as archive:
            parts = {name: read_member(archive, name) for name in (_CONFIG_MEMBER, _METADATA_MEMBER)}
    except DAMAGES as error:
        raise ValueError(f"{path} must be a .keras file. Received: {reason(error)}") from None
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(target, "w") as archive:
        _write_arrays(weights, Path(folder) / _WEIGHTS_MEMBER)
        archive.write(Path(folder) / _WEIGHTS_MEMBER, _WEIGHTS_MEMBER)
        for name, content in parts.items():
            archive.writestr(name, content)


def _read_archive(path: Path) -> tuple[bytes, str]:
    """Return the weights in a ``.keras`` archive, and the text that describes its model."""
    with open_zip(path, memory_budget(path)) as archive:
        description = read_member(archive, _CONFIG_MEMBER).decode()
        return read_member(archive, _WEIGHTS_MEMBER), description


def _layer_order(model_config: str) -> tuple[str, ...]:
    """Return the names of a model's layers in order; none for a model that is no list of layers."""
    try:
        return tuple(str(layer["config"]["name"]) for layer in json.loads(model_config)["config"]["layers"])
    except (KeyError, TypeError):
        return ()
    except RecursionError:
        raise ValueError(f"{_CONFIG_MEMBER} is nested too deep") from None


def _keras3_groups(file: Hdf5File) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
    """Return the arrays of a Keras 3 file, and the names of layers, which are attributes of its groups."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    names: dict[str, str] = {}
    waiting = [file.root]
    while waiting:
        group = waiting.pop()
        place = group.name.strip("/")
        if place.count("/") >= LARGEST_DEPTH:
            raise ValueError(f"groups lie more than {LARGEST_DEPTH} deep in each other")
        for name in group.members:
            member = file.open(group, name)
            if isinstance(member, Array):
                raise ValueError(f"{member.name!r} is an array where a group must be")
            if name != _VARIABLES:
                waiting.append(member)
            elif member.members:
                groups[place] = {key: _read(file, member, key) for key in member.members}
                if "name" in member.attributes:
                    names[place] = file.texts(member, "name")[0]
    if not groups:
        raise ValueError("it holds no weights")
    for place, arrays in groups.items():
        if BIT_WIDTH in arrays:
            _check_quantizer(place, arrays)
    return groups, names


def _keras2_groups(file: Hdf5File, root: Group) -> dict[str, dict[str, np.ndarray]]:
    groups: dict[str, dict[str, np.ndarray]] = {}
    for layer in file.texts(root, "layer_names"):
        if layer in groups:
            raise ValueError(f"layer {layer!r} is in it twice")
        group = _descend(file, root, layer.split("/"))
        names = file.texts(group, "weight_names")
        groups[layer] = {}
        for name in names:
            *parents, key = name.split("/")
            groups[layer][name] = _read(file, _descend(file, group, parents), key)
        if len(groups[layer]) != len(names):
            raise ValueError(f"an array of layer {layer!r} is in it twice")
    return groups


def _descend(file: Hdf5File, group: Group, names: Iterable[str]) -> Group:
    for name in names:
        member = file.open(group, name)
        if isinstance(member, Array):
            raise ValueError(f"{member.name!r} is an array where a group must be")
        group = member
    return group


def _read(file: Hdf5File, group: Group, name: str) -> np.ndarray:
    member = file.open(group, name)
    if isinstance(member, Group):
        raise ValueError(f"{member.name!r} must be an array. Received: a group")
    return file.read(member)


def _check_quantizer(place: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError where a quantizer's state is none that one of ours has."""
    kinds = {BIT_WIDTH: "iu", FROZEN: "biu", MINIMUM: "f", MAXIMUM: "f"}
    for name in kinds.keys() & arrays.keys():
        if arrays[name].shape or arrays[name].dtype.kind not in kinds[name]:
            raise ValueError(f"{name} of {place!r} must be one number. Received: {one_line(arrays[name])}")
    try:
        check_bits(int(arrays[BIT_WIDTH]), signed=False)
        if arrays.get(FROZEN) and FROZEN_SCALE in arrays:
            check_scales(arrays[FROZEN_SCALE])
    except ValueError as error:
        raise ValueError(f"{place!r}: {error}") from None
    low, high = (float(arrays.get(name, 0.0)) for name in (MINIMUM, MAXIMUM))
    limit = 2.0**MAX_SCALE_EXPONENT
    if not -limit <= low <= 0.0 <= high <= limit:
        raise ValueError(
            f"the range of {place!r} must contain 0 and lie within 2**{MAX_SCALE_EXPONENT}. "
            f"Received: [{low:.9g}, {high:.9g}]"
        )


def _load_keras3(model: Any, weights: WeightFile) -> None:
    """Let Keras read a file of those arrays alone that were checked."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _WEIGHTS_MEMBER
        _write_arrays(weights, path)
        try:
            model.load_weights(path)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise _misfit(model, weights, _why_not_loaded(error)) from None


def _write_arrays(weights: WeightFile, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for place, arrays in weights.groups.items():
            group = file.create_group(f"{place}/{_VARIABLES}" if place else _VARIABLES)
            for name, values in arrays.items():
                group[name] = values


def _why_not_loaded(error: Exception) -> str:
    """Return the first object that Keras could not load and why, from among how many there were and their list."""
    first, *parts = str(error).split("\n\n")
    if len(parts) < 2:
        return one_line(error)
    why, _, _ = parts[0].partition(" Target variable:")  # with all its values
    return one_line(f"{first.rpartition('message for object ')[2]} {why}", 300)


def _load_keras2(model: Any, weights: WeightFile) -> None:
    stored = {layer: list(arrays.values()) for layer, arrays in weights.groups.items() if arrays}
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if set(layers) != set(stored):
        raise _misfit(
            model,
            weights,
            f"the model's layers {_names(set(layers) - set(stored))} are not in it, "
            f"its layers {_names(set(stored) - set(layers))} are not in the model",
        )
    for name, arrays in stored.items():
        shapes, expected = [array.shape for array in arrays], [tuple(weight.shape) for weight in _weights(layers[name])]
        if expected != shapes:
            raise _misfit(model, weights, f"layer {name!r} has shapes {one_line(shapes)}, the model's has {expected}")
    for name, arrays in stored.items():
        for weight, values in zip(_weights(layers[name]), arrays, strict=True):
            weight.assign(values)


def _weights(layer: Any) -> list[Any]:
    """Return the weights of a layer, or of a model inside the model, in the order of Keras 2's files."""
    return layer.trainable_weights + layer.non_trainable_weights


def _misfit(model: Any, weights: WeightFile, why: str) -> ValueError:
    return ValueError(f"{weights.path} does not fit model {model.name!r}: {why}")


def _names(names: set[str]) -> str:
    return one_line(", ".join(sorted(names)) or "(none)")
