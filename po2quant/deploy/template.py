"""The integer program that the costs of narrower widths are derived from."""

from __future__ import annotations

import numpy as np

from po2quant.bit_config import AUTO_PO2
from po2quant.deploy.from_keras import integer_program
from po2quant.integer.widths import WidthTemplate
from po2quant.network import FoldedNetwork, calibrate, freeze_scales

RANDOM_INPUTS = 8


def width_template(network: FoldedNetwork, inputs: np.ndarray | None = None) -> WidthTemplate:
    """Return the program of a float network at its widest widths, with scales that are powers of two.

    Args:
        network: the network, with the weights that it has.
        inputs: calibrate the activations; None: random numbers in [-1, 1] do, which is enough for sizes.

    Raises:
        ValueError: for a network that no integer program computes.
    """
    model = network.quantize(network.widest().with_alpha(AUTO_PO2))
    if inputs is None:
        shape = (RANDOM_INPUTS, *model.input_shape[1:])
        inputs = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
    calibrate(model, inputs)
    freeze_scales(model)
    return WidthTemplate(integer_program(model))
