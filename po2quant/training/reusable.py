"""One compiled network for many bit configurations."""

from __future__ import annotations

import keras
import numpy as np

from po2quant.benchmark import Recipe
from po2quant.bit_config import BitConfig
from po2quant.network import calibrate, set_bits
from po2quant.quantizers import Quantizer
from po2quant.training.fit import compile_model


class ReusableNetwork:
    """A quantized network that configurations use in turn, each as if the network were newly built.

    Widths are variables, so its graphs are compiled once.

    Args:
        model: quantized network with the weights that every use starts from.
        recipe: its loss and metrics; the rates of other recipes with the same ones may be used.
    """

    def __init__(self, model: keras.Model, recipe: Recipe) -> None:
        compile_model(model, recipe)
        self.model = model
        quantizers = {
            id(variable)
            for layer in model._flatten_layers()
            if isinstance(layer, Quantizer)
            for variable in layer.variables
        }
        own = [variable for variable in model.variables if id(variable) not in quantizers]
        self._variables = [*own, *model.optimizer.variables]
        self._initial = [variable.numpy() for variable in self._variables]

    def reset(self, config: BitConfig, calibration_inputs: np.ndarray) -> None:
        """Give the network the widths of ``config``, its first weights, a fresh optimizer and new activation ranges.

        Raises:
            ValueError: for a configuration with other kinds of scales, which need a network of their own.
        """
        for variable, value in zip(self._variables, self._initial, strict=True):
            variable.assign(value)
        set_bits(self.model, config)
        calibrate(self.model, calibration_inputs)
