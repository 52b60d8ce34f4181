"""Whether a network can be quantized and deployed, before any work: every obstacle at once."""

from __future__ import annotations

import collections
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from po2quant.deploy.formats import FORMATS, check_format, write
from po2quant.deploy.from_keras import integer_program
from po2quant.files import one_line
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.integer.program import Program
from po2quant.network import FoldedNetwork, Placement, calibrate_one, fold, freeze_scales, weight_quantizers
from po2quant.network.graph import Node
from po2quant.network.kinds import Form, Role, function_of, kind_of
from po2quant.network.load import load_model
from po2quant.network.lowering import Obstacle, obstacles_of
from po2quant.network.walk import Arrays, walk
from po2quant.quantizers import quantized_bits_featuremap
from po2quant.targets import GENERIC, misfits
from po2quant.uniform import UniformWidths

TRIAL_BITS, TRIAL_INPUTS = 8, 4
LONGEST_REASON = 400

FOLDED, GONE = "weights of its neighbours", "nothing"
FORMS = {Form.CLIP: "limits", Form.TABLE: "LookUpTable", Form.HOST: "left to the host"}
"""What activation functions become, in a word."""


@dataclasses.dataclass(frozen=True)
class CheckedLayer:
    """A layer of a network, and what it becomes.

    Args:
        name: of the layer.
        class_name: its class.
        becomes: integer operations and what else stands for it; empty where it is an obstacle, or some other layer is.
    """

    name: str
    class_name: str
    becomes: str


@dataclasses.dataclass(frozen=True)
class Check:
    """What :func:`check` found.

    Args:
        model: name of the network.
        layers: its layers, in order.
        obstacles: why it cannot be quantized; empty where it can.
        formats: by name of an export format, why it cannot take the network; empty where it can. None are known where
            there are obstacles.
        target: what shall compute it.
        misfits: what of the network, quantized to a flat width, the target cannot compute.
    """

    model: str
    layers: tuple[CheckedLayer, ...]
    obstacles: tuple[Obstacle, ...]
    formats: dict[str, tuple[str, ...]]
    target: str = GENERIC.name
    misfits: tuple[str, ...] = ()

    @property
    def is_supported(self) -> bool:
        """Whether the network can be quantized and becomes an integer program that the target computes."""
        return not self.obstacles and not self.misfits

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return dataclasses.asdict(self) | {"is_supported": self.is_supported}


def check(model: keras.Model | str | os.PathLike, placement: Placement = Placement(), is_tried: bool = True) -> Check:
    """Return all that keeps a float network from being quantized and deployed, and what each layer becomes.

    Where no layer is an obstacle, the network is tried: quantized to 8 bits, calibrated on random inputs, frozen,
    lowered to integers, run by the interpreter and written in each format. What fails there is an obstacle too.

    Args:
        model: float model, which is left alone, or a file of one, see :func:`~po2quant.network.load.load_model`.
        placement: what the placement rules leave open.
        is_tried: whether to take it through all stages; otherwise its structure alone is looked at, and no formats are
            known.

    Raises:
        ValueError: for a file that cannot be loaded.

    Example:
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, "relu", name="dense")])
        >>> found = check(model)
        >>> found.is_supported, found.layers[-1].becomes, found.formats["c"]
        (True, 'Dense, limits', ())
    """
    if isinstance(model, str | os.PathLike):
        model = load_model(model)
    obstacles = _quantized_already(model) or obstacles_of(model)
    network = trial = None
    if not obstacles:
        try:
            network = fold(model, placement)
            trial = _Trial.of(network) if is_tried else None
        except Exception as error:  # whatever it is, the same would come after days of training
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            obstacles = [Obstacle.of(model, one_line(reason, LONGEST_REASON))]
    layers = _layers(model, None if obstacles else network)
    target = placement.target
    found = {} if trial is None else trial.formats()
    unfit = () if trial is None else tuple(misfits(trial.program, target))
    return Check(str(model.name), layers, tuple(obstacles), found, target.name, unfit)


def _quantized_already(model: Any) -> list[Obstacle]:
    if not isinstance(model, keras.Model) or next(weight_quantizers(model), None) is None:
        return []
    return [Obstacle.of(model, "it is quantized already: check its float network, or make its integer_program")]


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A network that went through all stages, trained on nothing."""

    network: FoldedNetwork
    quantized: keras.Model
    program: Program

    @classmethod
    def of(cls, network: FoldedNetwork) -> _Trial:
        """Take a network through all stages, at a flat width.

        Raises:
            ValueError: where one refuses it.
        """
        kernel, activation = (network.placement.target.nearest(part, TRIAL_BITS) for part in ("kernel", "activation"))
        quantized = network.quantize(network.uniform(UniformWidths(kernel, activation, activation), "trial"))
        random = np.random.default_rng(0)
        shapes = [(TRIAL_INPUTS, *tensor.shape[1:]) for tensor in quantized.inputs]
        x = [random.normal(size=shape).astype(np.float32) for shape in shapes]
        x = x if network.placement.signed_input else [np.abs(array) for array in x]
        give_ranges(quantized, x)
        freeze_scales(quantized, network.placement)
        program = integer_program(quantized)
        run(program, quantize_inputs(program, x))
        return cls(network, quantized, program)

    def formats(self) -> dict[str, tuple[str, ...]]:
        """Return why each format cannot take the network."""
        return {format: self._refusals(format) for format in FORMATS}

    def _refusals(self, format: str) -> tuple[str, ...]:
        operations = [operation for block in self.program.blocks for operation in block.operations]
        unknown = [operation for operation in operations if not FORMATS[format].takes(type(operation))]
        if unknown:
            return tuple(f"{step.name!r} becomes {type(step).__name__}, which it has not" for step in unknown)
        try:
            check_format(format)
            with tempfile.TemporaryDirectory() as folder:
                write(format, self.quantized, self.program, "network", Path(folder))
        except ValueError as error:
            return (one_line(error, LONGEST_REASON),)
        return ()


def give_ranges(model: keras.Model, x: Arrays) -> None:
    """Calibrate a model on random inputs.

    Args:
        model: quantized model.
        x: inputs, one array for each.
    """
    for node, inputs in walk(model, x):
        quantizer = getattr(node.layer, "activation", None)
        if isinstance(quantizer, quantized_bits_featuremap) and quantizer.is_static:
            calibrate_one(quantizer, inputs[0])


def _layers(model: keras.Model, network: FoldedNetwork | None) -> tuple[CheckedLayer, ...]:
    """Return the layers with what they become, where there is a network of core kinds."""
    sources = getattr(model, "operations", None) or getattr(model, "layers", [])
    owners = {name: layer.name for layer in sources for name in _names_in(layer)}
    parts: dict[str, list[Node]] = {layer.name: [] for layer in sources}
    for node in () if network is None else network.graph.nodes:
        name = node.layer.name
        found = [source for source in owners if name == source or name.startswith(f"{source}_")]
        if found:
            parts[owners[max(found, key=len)]].append(node)
    becomes = {layer.name: "" if network is None else _becomes(layer, parts[layer.name]) for layer in sources}
    return tuple(CheckedLayer(layer.name, type(layer).__name__, becomes[layer.name]) for layer in sources)


def _names_in(layer: Any) -> Iterator[str]:
    """Yield the names of a layer and of all inside it, where it is a model."""
    yield layer.name
    for inner in getattr(layer, "layers", ()):
        yield from _names_in(inner)


def _becomes(layer: keras.Layer, parts: Sequence[Node]) -> str:
    words = [_word(node) for node in parts]
    counts = collections.Counter(word for word in words if word)
    counted = [word if count == 1 else f"{count} {word}" for word, count in counts.items()]
    is_folded = isinstance(layer, keras.layers.BatchNormalization)
    return ", ".join(counted) or (FOLDED if is_folded else GONE)


def _word(node: Node) -> str:
    """Return what a layer of the core becomes, empty for nothing."""
    kind, function = kind_of(node.layer), function_of(node.layer)
    if function is not None:
        return FORMS.get(function.form, "")
    if kind is None:
        return ""
    return "input" if kind.role is Role.INPUT else kind.operation
