"""The search space: a choice of widths for every kernel, bias and activation quantizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras_tuner

from po2quant.bit_config import BitConfig, LayerBits
from po2quant.cost import ACTIVATION, WEIGHTS, LayerShape

PARTS = ("kernel", "bias", "activation")


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Widths in bits that each part may take; the defaults are the published study's.

    Args:
        kernel: widths of kernels.
        bias: widths of biases.
        activation: widths of activations.
    """

    kernel: tuple[int, ...] = (4, 8, 16)
    bias: tuple[int, ...] = (16, 31)
    activation: tuple[int, ...] = (4, 8, 16)

    def __post_init__(self) -> None:
        for part in PARTS:
            widths = getattr(self, part)
            if not widths or tuple(sorted(set(widths))) != tuple(widths):
                raise ValueError(f"widths of {part} must be ascending and not empty. Received: {widths}")

    def hyperparameters(self, layers: Sequence[LayerShape]) -> keras_tuner.HyperParameters:
        """Return one choice per kernel, bias and activation quantizer; the default is the widest."""
        choices = keras_tuner.HyperParameters()
        for layer in layers:
            for part in parts_of(layer):
                widths = list(getattr(self, part))
                choices.Choice(f"{layer.name}.{part}", widths, ordered=True, default=widths[-1])
        return choices

    def flat_values(self, layers: Sequence[LayerShape]) -> list[dict[str, int]]:
        """Return the flat configurations of the space as hyperparameter values, narrow to wide.

        Each gives all kernels one width, all activations the width of the same rank, and biases the narrowest.
        """
        flats = []
        for kernel, activation in zip(self.kernel, self.activation, strict=False):
            widths = {"kernel": kernel, "bias": self.bias[0], "activation": activation}
            flats.append({f"{layer.name}.{part}": widths[part] for layer in layers for part in parts_of(layer)})
        return flats


def parts_of(layer: LayerShape) -> tuple[str, ...]:
    """Return the parts of a layer that have a width."""
    return {WEIGHTS: ("kernel", "bias"), ACTIVATION: ("activation",)}.get(layer.kind, ())


def config_from_values(values: Mapping[str, int], layers: Sequence[LayerShape], name: str = "") -> BitConfig:
    """Return the configuration that hyperparameter values stand for."""
    return BitConfig(
        {
            layer.name: LayerBits(**{part: int(values[f"{layer.name}.{part}"]) for part in parts_of(layer)})
            for layer in layers
            if parts_of(layer)
        },
        name,
    )
