"""The network that is deployed, and inputs for it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from po2quant.benchmark import Dataset, NetworkSpec, Split
from po2quant.bit_config import AUTO_PO2, BitConfig
from po2quant.network import freeze_scales, weight_quantizers
from po2quant.training.prepare import network_inputs, prepare_network


def frozen_network(
    spec: NetworkSpec,
    config: BitConfig | None,
    weights: Path | None,
    dataset: Dataset | None,
    seed: int = 0,
    alpha: str = AUTO_PO2,
) -> keras.Model:
    """Return a network whose every scale is a stored power of two.

    Args:
        spec: the network.
        config: its widths.
        weights: float weights, which are calibrated, or the checkpoint of a quantized run; None: those that the network
            is built with.
        dataset: calibrates float weights; a checkpoint needs none.
        seed: of the calibration samples.
        alpha: kind of scales, powers of two.

    Raises:
        ValueError: for no widths, or weights that do not fit.
    """
    if config is None:
        raise ValueError("config must name bit widths: a float network has no integers. Received: 'float'")
    network = spec.fold()
    dataset = dataset or _no_data(network.source)
    model = prepare_network(network, config.with_alpha(alpha), weights or network.source, dataset, seed).model
    if not all(weight.quantizer.frozen for weight in weight_quantizers(model)):
        freeze_scales(model, spec.placement)
    return model


def _no_data(model: keras.Model) -> Dataset:
    """Return one sample of zeros, for a network that is calibrated already."""
    zeros = np.zeros((1, *model.input_shape[1:]), np.float32)
    return Dataset("no data", "synthetic", Split(zeros, None))


def spread_inputs(split: Split, model: keras.Model, samples: int) -> np.ndarray:
    """Return network inputs that are spread evenly over a split, or all of it where it has no more than ``samples``."""
    inputs_per_sample = len(network_inputs(split.inputs(slice(1)), model))
    total = len(split) * inputs_per_sample
    samples = min(samples, total)
    chosen = np.arange(samples) * total // samples
    rows, position = np.unique(chosen // inputs_per_sample, return_inverse=True)
    inputs = network_inputs(split.inputs(rows), model)
    return inputs[position * inputs_per_sample + chosen % inputs_per_sample]
