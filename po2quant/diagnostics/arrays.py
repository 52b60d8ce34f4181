"""What a weight file alone tells: ranges, zeros, levels."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from po2quant.diagnostics.measurement import BIAS, KERNEL, QuantizedTensor
from po2quant.diagnostics.tensors import quantize, zero_ratio
from po2quant.fixed_point import integer_range
from po2quant.weight_files import BIT_WIDTH, FROZEN, FROZEN_SCALE, WeightFile

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
class FileSummary:
    """The contents of a weight file.

    Args:
        arrays: every weight, in network order where that is known.
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


def summarize(file: WeightFile, layer_order: Sequence[str] = ()) -> FileSummary:
    """Return what the weights in a file are like; optimizer state is left out.

    Args:
        file: read by :func:`~po2quant.weight_files.read_weight_file`.
        layer_order: layer names in network order, for files that do not tell it.

    Raises:
        ValueError: where a stored scale does not fit its weights.
    """
    layers = _keras2_layers(file) if file.is_keras2 else _keras3_layers(file)
    order = {name: index for index, name in enumerate(file.layer_order or layer_order)}
    layers.sort(key=lambda layer: order.get(layer.name, len(order)))
    return FileSummary(
        tuple(_summary(layer.name, name, values) for layer in layers for name, values in layer.arrays.items()),
        tuple(_tensor(layer, part) for layer in layers for part in layer.arrays if part in layer.quantizers),
    )


def _keras2_layers(file: WeightFile) -> list[_Layer]:
    layers = []
    for layer, arrays in file.groups.items():
        short = [name.split("/")[-1].split(":")[0] for name in arrays]
        names = short if len(set(short)) == len(short) else list(arrays)
        names = [KERNEL if name == "depthwise_kernel" else name for name in names]
        layers.append(_Layer(layer, dict(zip(names, arrays.values(), strict=True))))
    return layers


def _keras3_layers(file: WeightFile) -> list[_Layer]:
    """Return the layers of a Keras 3 file, which groups variables by class and number."""
    layers: dict[str, _Layer] = {}
    for place in sorted(file.groups, key=_natural_order):
        group = file.groups[place]
        if place.split("/")[0] != "optimizer" and BIT_WIDTH not in group:
            arrays = [group[key] for key in sorted(group, key=_natural_order)]
            name = file.names.get(place, place.split("/")[-1])
            layers[place] = _Layer(name, dict(zip(_array_names(arrays), arrays, strict=True)))
    for place, group in file.groups.items():
        owner, _, role = place.rpartition("/")
        part = QUANTIZER_GROUPS.get(role)
        if owner in layers and part in layers[owner].arrays and FROZEN_SCALE in group and group.get(FROZEN):
            if BIT_WIDTH not in group:
                raise ValueError(
                    f"frozen scales must have their {BIT_WIDTH} beside them. Received: {place} in {file.path}"
                )
            _check_fits(file.path, layers[owner], part, group[FROZEN_SCALE])
            layers[owner].quantizers[part] = int(group[BIT_WIDTH]), group[FROZEN_SCALE]
    return list(layers.values())


def _check_fits(path: Path, layer: _Layer, part: str, scales: np.ndarray) -> None:
    """Raise ValueError unless scales broadcast to their weights' own shape."""
    shape = layer.arrays[part].shape
    padded = (1,) * (len(shape) - scales.ndim) + scales.shape
    if len(padded) != len(shape) or any(size not in (1, whole) for size, whole in zip(padded, shape, strict=True)):
        raise ValueError(
            f"scales of the {part} of {layer.name!r} must fit its shape {shape}. Received: {scales.shape} in {path}"
        )


def _array_names(arrays: Sequence[np.ndarray]) -> list[str]:
    """Name a layer's variables: a matrix or filter comes first and is the kernel, a vector after it the bias."""
    names = [str(index) for index in range(len(arrays))]
    if arrays[0].ndim >= 2:
        names[:2] = [KERNEL, BIAS][: len(arrays)]
    return names


def _natural_order(text: str) -> list[tuple[bool, int, str]]:
    """Sort ``conv2d_2`` before ``conv2d_10``."""
    parts = re.split(r"([0-9]+)", text)
    return [(index % 2 == 0, len(part) * (index % 2), part) for index, part in enumerate(parts)]


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
