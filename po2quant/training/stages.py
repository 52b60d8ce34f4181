"""Widths that fall in stages: a network of few bits starts from one of more, which training has brought near."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from po2quant.bit_config import BitConfig, LayerBits
from po2quant.network import calibrate, set_bits
from po2quant.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Stage:
    """Epochs under one configuration.

    Args:
        config: widths.
        epochs: how many, at least one.
        bits: least width; None in the last stage, whose widths are those that were asked for.
    """

    config: BitConfig
    epochs: int
    bits: int | None = None


def stages_of(config: BitConfig, recipe: Recipe, epochs: int) -> list[Stage]:
    """Return the stages of a training, the last of them under ``config`` itself.

    Args:
        config: widths in the end.
        recipe: says the widths of the stages before, and their share of the epochs, which they have in equal parts.
        epochs: in all; where a stage would have none, there is none.

    Example:
        >>> recipe = Recipe("mse", 10, 0, 8, lambda epoch: 0.01, staged_bits=(8, 6), staged_share=0.4)
        >>> config = BitConfig({"dense": LayerBits(4, 16)})
        >>> [(stage.config.kernel_bits("dense"), stage.epochs) for stage in stages_of(config, recipe, 10)]
        [(8, 2), (6, 2), (4, 6)]
    """
    each = int(epochs * recipe.staged_share / max(len(recipe.staged_bits), 1))
    wider = [Stage(_at_least(config, bits), each, bits) for bits in recipe.staged_bits if each]
    return [*wider, Stage(config, epochs - each * len(wider))]


def _at_least(config: BitConfig, bits: int) -> BitConfig:
    def widened(layer: LayerBits) -> LayerBits:
        widths = {part: getattr(layer, part) for part in ("kernel", "activation")}
        return dataclasses.replace(
            layer, **{part: max(width, bits) for part, width in widths.items() if width is not None}
        )

    return dataclasses.replace(config, layers={name: widened(layer) for name, layer in config.layers.items()})


def enter(model: keras.Model, stage: Stage, inputs: np.ndarray) -> None:
    """Give a compiled network the widths of a stage, new ranges of activations and a fresh optimizer.

    Args:
        model: quantized network.
        stage: what begins.
        inputs: calibrate the ranges.
    """
    set_bits(model, stage.config)
    calibrate(model, inputs)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
