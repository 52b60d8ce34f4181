"""What a run leaves in its folder so that a report can be made of it without TensorFlow and without its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from po2quant.cost import LayerShape
from po2quant.diagnostics.measurement import QuantizedTensor
from po2quant.files import one_line, read_csv, read_json, write_csv, write_json
from po2quant.runs.names import BEST_CONFIG, EXPORTS_CSV, HISTOGRAMS_FILE, LAYERS_CSV, MODEL_FILE

if TYPE_CHECKING:
    import keras

BINS = 64
"""Of a grid, or fewer."""
MARGIN_SHARE = 16
"""One bin of so many lies on each side of the grid, for what is clipped."""
CONSTANTS, PACKED, ARENA = "C, constants", "C, constants with packed weights", "C, memory for activations"


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How the values of a tensor lie on the grid of its quantizer.

    Args:
        layer: layer of a kernel or bias, name of the quantizer for an activation.
        part: ``"kernel"``, ``"bias"`` or ``"activation"``.
        bits: width.
        low: smallest level, in steps.
        high: the largest one.
        exponents: smallest and largest base-2 logarithm of the steps.
        before: counts of unquantized values over steps, from below the smallest level to above the largest one, in
            bins of equal width; what lies further out is in the first and last bin.
        after: the same of the quantized values.
    """

    layer: str
    part: str
    bits: int
    low: float
    high: float
    exponents: tuple[float, float]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins in steps, shape ``(bins + 1,)``."""
        return bin_edges(self.low, self.high)


def bin_edges(low: float, high: float) -> np.ndarray:
    """Return the edges of the bins of a grid, in steps: an odd number of bins for each of few levels, one for several.

    Args:
        low: smallest level.
        high: the largest one.
    """
    levels = high - low + 1
    for_each = BINS // int(levels)
    width = float(-(-levels // BINS)) if for_each < 3 else 1.0 / (for_each - 1 + for_each % 2)
    count = int(np.ceil(levels / width))
    outside = width * np.arange(count // MARGIN_SHARE + 2)
    inside = low - 0.5 + width * np.arange(count)
    return np.concatenate([low - 0.5 - outside[:0:-1], inside, high + 0.5 + outside])


def histogram_of(tensor: QuantizedTensor) -> Histogram | None:
    """Return how a tensor lies on its grid, None where each sample has a grid of its own."""
    if tensor.scale is None or tensor.exponents is None:
        return None
    edges, scale = bin_edges(tensor.low, tensor.high), tensor.scale

    def counts(values: np.ndarray) -> tuple[int, ...]:
        steps = np.asarray(values, np.float64) / scale
        inside = np.clip(steps, (edges[0] + edges[1]) / 2, (edges[-2] + edges[-1]) / 2)
        return tuple(int(count) for count in np.histogram(inside, edges)[0])

    exponents = float(np.min(tensor.exponents)), float(np.max(tensor.exponents))
    before, after = counts(tensor.values), counts(tensor.quantized)
    return Histogram(tensor.layer, tensor.part, tensor.bits, tensor.low, tensor.high, exponents, before, after)


def histograms_of(tensors: Iterable[QuantizedTensor]) -> list[Histogram]:
    """Return how tensors lie on their grids; those that have none are left out."""
    return [found for tensor in tensors if (found := histogram_of(tensor)) is not None]


def save_histograms(folder: Path, histograms: Sequence[Histogram]) -> None:
    """Write histograms into a run folder."""
    write_json(folder / HISTOGRAMS_FILE, {"histograms": [dataclasses.asdict(one) for one in histograms]})


def load_histograms(folder: Path) -> list[Histogram]:
    """Return the histograms of a run folder, none where it has none.

    Raises:
        ValueError: for a file that is damaged.
    """
    path = folder / HISTOGRAMS_FILE
    if not path.is_file():
        return []
    try:
        return [_histogram(entry) for entry in read_json(path, "histograms of a run")["histograms"]]
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} must hold histograms of a run. Received: {one_line(repr(error))}") from None


def _histogram(entry: Mapping[str, Any]) -> Histogram:
    first, last = map(float, entry["exponents"])
    low, high = float(entry["low"]), float(entry["high"])
    before, after = (tuple(map(int, entry[name])) for name in ("before", "after"))
    if not low <= high or not len(before) == len(after) == len(bin_edges(low, high)) - 1:
        raise TypeError(f"{len(before)} and {len(after)} bins for a grid from {low} to {high}")
    return Histogram(
        str(entry["layer"]), str(entry["part"]), int(entry["bits"]), low, high, (first, last), before, after
    )


def save_layers(folder: Path, layers: Sequence[LayerShape]) -> None:
    """Write what the accounting of sizes knows of a network into a run folder."""
    write_csv(
        folder / LAYERS_CSV,
        [dataclasses.asdict(layer) | {"shape": "x".join(map(str, layer.shape))} for layer in layers],
    )


def load_layers(folder: Path) -> list[LayerShape]:
    """Return the layers of a run folder, none where it does not name them.

    Raises:
        ValueError: for a file that is damaged.
    """
    path = folder / LAYERS_CSV
    try:
        return [_layer(row) for row in read_csv(path, missing_ok=True)]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} must hold the layers of a network. Received: {one_line(repr(error))}") from None


def _layer(row: Mapping[str, str]) -> LayerShape:
    return LayerShape(
        row["name"],
        row["class_name"],
        row["kind"],
        tuple(int(size) for size in row["shape"].split("x") if size),
        int(row["kernel_parameters"]),
        int(row["bias_parameters"]),
        int(row["macs"]),
        int(row["units"]) if row["units"] else None,
        row["unit_label"],
    )


def save_exports(folder: Path, sizes: Mapping[str, int]) -> None:
    """Write sizes of exported forms, in bytes, into a run folder, in the place of those with the same names."""
    known = {row["form"]: row["bytes"] for row in read_csv(folder / EXPORTS_CSV, missing_ok=True)}
    rows = known | {form: str(size) for form, size in sizes.items()}
    write_csv(folder / EXPORTS_CSV, [{"form": form, "bytes": size} for form, size in rows.items()])


def record_network(folder: Path, network: keras.Model, tensors: Iterable[QuantizedTensor]) -> None:
    """Write what a report says of a quantized network with frozen scales: its histograms, and what its C needs.

    Args:
        folder: the run folder.
        network: the network.
        tensors: what :class:`~po2quant.diagnostics.probe.Probe` sees in it.
    """
    save_histograms(folder, histograms_of(tensors))
    if sizes := c_sizes(network):
        save_exports(folder, sizes)


def record_saved_network(folder: Path, inputs: np.ndarray) -> None:
    """Do the same for the network that a run has saved, where it has; nothing where it is no quantized one.

    Args:
        folder: the run folder, written by this process.
        inputs: what it calibrates with, which its activations are measured on.
    """
    if not (folder / MODEL_FILE).is_file() or not (folder / BEST_CONFIG).is_file():
        return
    import keras

    from po2quant.diagnostics.probe import Probe

    network = keras.models.load_model(folder / MODEL_FILE)
    record_network(folder, network, Probe(network, inputs)())


def c_sizes(network: keras.Model) -> dict[str, int]:
    """Return what the C of a frozen network needs, in bytes; nothing for a network that has no integers.

    Args:
        network: a quantized network whose scales are frozen.
    """
    from po2quant.deploy.from_keras import integer_program
    from po2quant.export.c.source import memory_bytes

    try:
        program = integer_program(network)
    except ValueError:  # real scales, or what cannot be exported: export says which
        return {}
    (constants, arena), (packed, _) = memory_bytes(program, False), memory_bytes(program, True)
    return {CONSTANTS: constants, PACKED: packed, ARENA: arena}
