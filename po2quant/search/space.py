"""The search space: a choice of widths for every kernel, bias and activation quantizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner

from po2quant.bit_config import BitConfig, LayerBits, check_widths
from po2quant.cost import ACTIVATION, WEIGHTS, LayerShape, network_size

PARTS = ("kernel", "bias", "activation")
BETWEEN_SLOTS = "/"
"""Keras allows it in no layer name."""


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Widths in bits that each slot may take; the defaults are the published study's.

    A slot is a quantizer of the network: ``<layer>.kernel``, ``<layer>.bias`` or ``<layer>.activation``.

    Args:
        kernel: widths of kernels.
        bias: widths of biases.
        activation: widths of activations.
        slots: widths of single slots, instead of their part's.
        groups: group of a slot, by any name; the slots of one group share a choice. Others choose alone.
        extra: values of further choices, which are no widths, by name, the first being what first trials have.

    Raises:
        ValueError: for widths that are empty, do not ascend or lie outside [2, 32].

    Example:
        >>> space = SearchSpace(slots={"dense.kernel": (8, 16)})
        >>> layers = [LayerShape("dense", "Dense", "weights", (2,), 8, 2)]
        >>> space.choices(layers)
        {'dense.kernel': (8, 16), 'dense.bias': (16, 31)}
    """

    kernel: tuple[int, ...] = (4, 8, 16)
    bias: tuple[int, ...] = (16, 31)
    activation: tuple[int, ...] = (4, 8, 16)
    slots: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, widths in {**{part: getattr(self, part) for part in PARTS}, **self.slots}.items():
            check_widths(name, widths)

    def choices(self, layers: Sequence[LayerShape]) -> dict[str, tuple[int, ...]]:
        """Return the widths of every slot, in network order.

        Raises:
            ValueError: where the space names a slot that the network has not.
        """
        choices = {
            f"{layer.name}.{part}": tuple(self.slots.get(f"{layer.name}.{part}", getattr(self, part)))
            for layer in layers
            for part in parts_of(layer)
        }
        unknown = [slot for slot in (*self.slots, *self.groups) if slot not in choices]
        if unknown:
            raise ValueError(f"slots must be among {', '.join(choices)}. Received: {', '.join(dict.fromkeys(unknown))}")
        return choices

    def hyperparameters(self, layers: Sequence[LayerShape]) -> keras_tuner.HyperParameters:
        """Return one choice per slot or group, named after its slots; the default is the widest.

        A slot with one width alone is no choice: it is fixed.

        Raises:
            ValueError: where the slots of a group have not the same widths.
        """
        choices, hyperparameters = self.choices(layers), keras_tuner.HyperParameters()
        for slots in self._sharing(choices):
            widths = choices[slots[0]]
            if any(choices[slot] != widths for slot in slots):
                received = ", ".join(f"{slot} {choices[slot]}" for slot in slots)
                raise ValueError(f"slots of a group must have the same widths. Received: {received}")
            name = BETWEEN_SLOTS.join(slots)
            if len(widths) == 1:
                hyperparameters.Fixed(name, widths[0])
            else:
                hyperparameters.Choice(name, list(widths), ordered=True, default=widths[-1])
        for name, values in self.extra.items():
            hyperparameters.Choice(name, sorted(values), ordered=True, default=values[0])
        return hyperparameters

    def values_of(self, widths: Mapping[str, int], layers: Sequence[LayerShape]) -> dict[str, Any]:
        """Return widths by slot as hyperparameter values; a group takes the width of its first slot."""
        shared: dict[str, Any] = {
            BETWEEN_SLOTS.join(slots): widths[slots[0]] for slots in self._sharing(self.choices(layers))
        }
        return shared | {name: values[0] for name, values in self.extra.items()}

    def values_of_config(self, config: BitConfig, layers: Sequence[LayerShape]) -> dict[str, int] | None:
        """Return a configuration as hyperparameter values, None where the space does not contain it."""
        choices, widths = self.choices(layers), {}
        for slot in choices:
            layer, _, part = slot.rpartition(".")
            widths[slot] = getattr(config.layers[layer], part)
        values = self.values_of(widths, layers)
        is_contained = all(widths[slot] in choices[slot] for slot in choices)
        return values if is_contained and config_from_values(values, layers).layers == config.layers else None

    def flat_values(self, layers: Sequence[LayerShape]) -> list[dict[str, int]]:
        """Return the flat configurations of the space as hyperparameter values, narrow to wide.

        Each gives all kernels one width, all activations the width of the same rank, and biases the narrowest. A slot
        that has not this width takes its next narrower one, or its narrowest.
        """
        choices, flats = self.choices(layers), []
        for kernel, activation in zip(self.kernel, self.activation, strict=False):
            wanted = {"kernel": kernel, "bias": self.bias[0], "activation": activation}
            widths = {
                slot: max((bits for bits in own if bits <= wanted[slot.rpartition(".")[2]]), default=own[0])
                for slot, own in choices.items()
            }
            values = self.values_of(widths, layers)
            if values not in flats:
                flats.append(values)
        return flats

    def _sharing(self, slots: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
        """Return the slots that share a choice, in network order."""
        sharing: dict[tuple[bool, str], list[str]] = {}
        for slot in slots:
            sharing.setdefault((slot in self.groups, self.groups.get(slot, slot)), []).append(slot)
        return list(sharing.values())


def parts_of(layer: LayerShape) -> tuple[str, ...]:
    """Return the parts of a layer that have a width."""
    return {WEIGHTS: ("kernel", "bias"), ACTIVATION: ("activation",)}.get(layer.kind, ())


def widths_of(values: Mapping[str, int]) -> dict[str, int]:
    """Return the width of every slot that hyperparameter values stand for."""
    return {slot: bits for name, bits in values.items() for slot in name.split(BETWEEN_SLOTS)}


def config_from_values(values: Mapping[str, int], layers: Sequence[LayerShape], name: str = "") -> BitConfig:
    """Return the configuration that hyperparameter values stand for."""
    widths = widths_of(values)
    return BitConfig({layer.name: _layer_bits(layer, widths) for layer in layers if parts_of(layer)}, name)


def _layer_bits(layer: LayerShape, widths: Mapping[str, int]) -> LayerBits:
    own = parts_of(layer)
    kernel, bias, activation = (int(widths[f"{layer.name}.{part}"]) if part in own else None for part in PARTS)
    return LayerBits(kernel, bias, activation)


def elements_by_slot(layers: Sequence[LayerShape]) -> dict[str, int]:
    """Return how many numbers each slot quantizes, over all calls of its layer."""
    elements: dict[str, int] = {}
    for layer in layers:
        for part in parts_of(layer):
            size = layer.elements if part == "activation" else getattr(layer, f"{part}_parameters")
            slot = f"{layer.name}.{part}"
            elements[slot] = elements.get(slot, 0) + size
    return elements


def widths_of_config(config: BitConfig) -> dict[str, int]:
    """Return the width of every slot of a configuration."""
    parts = ((name, part, getattr(bits, part)) for name, bits in config.layers.items() for part in PARTS)
    return {f"{name}.{part}": bits for name, part, bits in parts if bits is not None}


def size_of_values(values: Mapping[str, int], layers: Sequence[LayerShape]) -> int:
    """Return the size in bits of the network that hyperparameter values stand for."""
    return network_size(layers, config_from_values(values, layers)).total_bits
