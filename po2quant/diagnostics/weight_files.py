"""What a weight file alone tells: ranges, zeros, levels. Arrays are read; nothing in the file is run or unpickled."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from po2quant.diagnostics.measurement import BIAS, KERNEL, QuantizedTensor
from po2quant.diagnostics.tensors import quantize, zero_ratio
from po2quant.fixed_point import integer_range

FORMS = "a Keras .weights.h5, .keras or .h5 file"
WEIGHTS_IN_ARCHIVE, CONFIG_IN_ARCHIVE = "model.weights.h5", "config.json"
QUANTIZER_GROUPS = {
    "kernel_quantizer_internal": KERNEL,
    "depthwise_quantizer_internal": KERNEL,
    "bias_quantizer_internal": BIAS,
}


@dataclasses.dataclass(frozen=True)
class ArraySummary:
    """One array of a weight file.

    Args:
        layer: name of its layer.
        array: ``"kernel"``, ``"bias"``, or its name or number in the file.
        shape: its shape.
        minimum: smallest value.
        maximum: largest value.
        mean_abs: mean absolute value.
        zero_ratio: share of values that are exactly zero.
        levels: how many different values it has.
        is_finite: whether every value is a number; where not, the statistics are those of the others.
    """

    layer: str
    array: str
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    mean_abs: float
    zero_ratio: float
    levels: int
    is_finite: bool = True

    @property
    def values(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def effective_bits(self) -> float:
        """Base-2 logarithm of the number of levels."""
        return math.log2(max(self.levels, 1))


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """The contents of a weight file.

    Args:
        arrays: every weight, in network order where the file tells it.
        tensors: kernels and biases with the frozen scales of a quantized network; empty for a float one.
    """

    arrays: tuple[ArraySummary, ...]
    tensors: tuple[QuantizedTensor, ...]


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Arrays of a layer by name; frozen width and scale by the part that they belong to."""

    name: str
    arrays: dict[str, np.ndarray]
    quantizers: dict[str, tuple[int, np.ndarray]] = dataclasses.field(default_factory=dict)


def read_weight_file(path: Path, layer_order: Sequence[str] = ()) -> WeightFile:
    """Return what a weight file holds; optimizer state is left out.

    Args:
        path: Keras 3 ``.weights.h5`` or ``.keras``, or ``.h5`` of Keras 2.
        layer_order: layer names in network order, for files that do not tell it.

    Raises:
        ValueError: where the file is missing, damaged or something else.
    """
    if not path.is_file():
        raise ValueError(f"weights must be {FORMS}. There is no file {path}")
    try:
        with _open(path) as (file, own_order):
            root = file.get("model_weights", file)
            layers = _legacy_layers(root) if "layer_names" in root.attrs else _keras3_layers(file)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"weights must be {FORMS}. {path} is damaged or something else: {reason}") from None
    order = {name: index for index, name in enumerate(own_order or layer_order)}
    layers.sort(key=lambda layer: order.get(layer.name, len(order)))
    return WeightFile(
        tuple(_summary(layer.name, name, values) for layer in layers for name, values in layer.arrays.items()),
        tuple(_tensor(layer, part) for layer in layers for part in layer.arrays if part in layer.quantizers),
    )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[h5py.File, list[str]]]:
    """Open a weight file; the second value is the order of layers, where the file is an archive that tells it."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file, []
        return
    with zipfile.ZipFile(path) as archive:
        order = _layer_names(json.loads(archive.read(CONFIG_IN_ARCHIVE)))
        weights = io.BytesIO(archive.read(WEIGHTS_IN_ARCHIVE))
    with h5py.File(weights, "r") as file:
        yield file, order


def _layer_names(model_config: Any) -> list[str]:
    """Return the names of a model's layers in order; none for a model that is no list of layers."""
    try:
        return [str(layer["config"]["name"]) for layer in model_config["config"]["layers"]]
    except (KeyError, TypeError):
        return []


def _legacy_layers(root: h5py.Group) -> list[_Layer]:
    layers = []
    for name in map(_text, root.attrs["layer_names"]):
        weights = map(_text, root[name].attrs["weight_names"])
        arrays = {weight.split("/")[-1].split(":")[0]: _read(root[name][weight]) for weight in weights}
        layers.append(_Layer(name, {KERNEL if key == "depthwise_kernel" else key: arrays[key] for key in arrays}))
    return layers


def _keras3_layers(file: h5py.File) -> list[_Layer]:
    """Return the layers of a Keras 3 file, which groups variables by class and number; their names are attributes."""
    groups: dict[str, h5py.Group] = {}
    file.visititems(lambda name, item: groups.update({name: item}) if name.endswith("/vars") else None)
    layers: dict[str, _Layer] = {}
    for path in sorted(groups, key=_natural_order):
        group, owner = groups[path], path.removesuffix("/vars")
        if not path.startswith("optimizer/") and "bit_width" not in group and len(group):
            arrays = [_read(group[key]) for key in sorted(group, key=_natural_order)]
            name = _text(group.attrs.get("name", owner.split("/")[-1]))
            layers[owner] = _Layer(name, dict(zip(_array_names(arrays), arrays, strict=True)))
    for path, group in groups.items():
        owner, _, role = path.removesuffix("/vars").rpartition("/")
        if role in QUANTIZER_GROUPS and owner in layers and "frozen_scale" in group and group["frozen"][()]:
            quantizer = int(group["bit_width"][()]), _read(group["frozen_scale"])
            layers[owner].quantizers[QUANTIZER_GROUPS[role]] = quantizer
    return list(layers.values())


def _array_names(arrays: Sequence[np.ndarray]) -> list[str]:
    """Name a layer's variables: a matrix or filter comes first and is the kernel, a vector after it the bias."""
    names = [str(index) for index in range(len(arrays))]
    if arrays[0].ndim >= 2:
        names[:2] = [KERNEL, BIAS][: len(arrays)]
    return names


def _natural_order(text: str) -> list[tuple[bool, int, str]]:
    """Sort ``conv2d_2`` before ``conv2d_10``."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", text)]


def _read(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.size and not dataset.id.get_storage_size():
        raise ValueError(f"{dataset.name} has no data")
    return np.asarray(dataset[()])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _summary(layer: str, name: str, values: np.ndarray) -> ArraySummary:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ArraySummary(layer, name, values.shape, math.nan, math.nan, math.nan, 0.0, 0, not values.size)
    return ArraySummary(
        layer,
        name,
        values.shape,
        float(finite.min()),
        float(finite.max()),
        float(np.abs(finite).mean(dtype=np.float64)),
        zero_ratio(finite),
        len(np.unique(finite)),
        finite.size == values.size,
    )


def _tensor(layer: _Layer, part: str) -> QuantizedTensor:
    """Quantize a kernel or bias as the network does: signed, symmetric, ties to even."""
    values, (bits, scale) = layer.arrays[part], layer.quantizers[part]
    low, high = integer_range(bits, narrow_range=True)
    quantized = quantize(values, scale, low, high)
    is_power_of_two = bool(np.all(np.frexp(scale)[0] == 0.5))
    return QuantizedTensor(layer.name, part, "", bits, values, quantized, scale, low, high, is_power_of_two)
