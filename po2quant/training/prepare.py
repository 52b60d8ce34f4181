"""From names and files to a network that is ready to evaluate or train."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Score, Split
from po2quant.bit_config import FLOAT, BitConfig
from po2quant.cost import check_covers
from po2quant.fixed_point import integer_range
from po2quant.network import (
    FoldedNetwork,
    QuantizedWeight,
    activation_quantizers,
    calibrate,
    fold,
    set_bits,
    weight_quantizers,
)
from po2quant.quantizers import AUTO, AUTO_PO2
from po2quant.uniform import uniform_widths
from po2quant.weight_files import WeightFile, read_weight_file

CALIBRATION_SAMPLES = 256
EVALUATION_BATCH_SIZE = 128
SCALE_TOLERANCE = 1e-6
"""Relative: scales are float32 numbers."""


def resolve_config(name: str, spec: NetworkSpec, network: FoldedNetwork | None = None) -> BitConfig | None:
    """Return the configuration that a name or path stands for; None stands for float.

    Args:
        name: ``"float"``, ``"mpq"``, ``"flat8"``, ``"w4a8"`` or a file.
        spec: the network.
        network: its description; None: it is made here if it is needed.

    Raises:
        ValueError: for an unknown name, a width that it cannot have, a bad file or one of another network.
    """
    if name == FLOAT:
        return None
    widths = uniform_widths(name)
    if widths is not None:
        return (network or spec.fold()).uniform(widths, name)
    config = BitConfig.load(spec.config_file(name))
    check_covers(config, (network or spec.fold()).layers)
    return config


def calibration_inputs(
    dataset: Dataset, model: keras.Model, seed: int, count: int = CALIBRATION_SAMPLES
) -> tuple[np.ndarray, str]:
    """Return the inputs that calibrate activation ranges, and from which split they come.

    They are drawn from the training split; test-only archives lend their inputs, without labels.

    Args:
        dataset: what they are drawn from.
        model: what they are fed to.
        seed: of the draw.
        count: how many, or all where there are fewer.
    """
    split, source = (dataset.train, "train") if dataset.train is not None else (dataset.test, "test inputs")
    inputs_per_sample = len(network_inputs(split.inputs(slice(1)), model))
    order = np.random.default_rng(seed).permutation(len(split) * inputs_per_sample)
    chosen = np.sort(order[:count])
    samples, position = np.unique(chosen // inputs_per_sample, return_inverse=True)
    inputs = network_inputs(split.inputs(samples), model)
    return inputs[position * inputs_per_sample + chosen % inputs_per_sample], source


def seed_masks(model: keras.Model, seed: int) -> None:
    """Give each layer that draws at random, such as Dropout, a stream of its own.

    Keras seeds a layer by how many were made before it; here the seed and the layer's place in the network decide, so
    that a network draws the same masks however it was built.
    """
    drawing = [layer for layer in model.layers if getattr(layer, "seed_generator", None) is not None]
    for layer, stream in zip(drawing, np.random.SeedSequence(seed).spawn(len(drawing)), strict=True):
        state = layer.seed_generator.state
        state.assign(stream.generate_state(*state.shape))


def network_inputs(x: np.ndarray, model: keras.Model) -> np.ndarray:
    """Return ``x`` with one network input per row, e.g. a clip of windows as its windows."""
    return x.reshape(-1, *model.input_shape[1:])


def check_fits(dataset: Dataset, model: keras.Model) -> None:
    """Raise ValueError where the samples have not the shape of the network's input."""
    shape = tuple(model.input_shape[1:])
    if tuple(dataset.test.x.shape[-len(shape) :]) != shape:
        raise ValueError(
            f"{dataset.name} does not fit model {model.name!r}: "
            f"samples must have shape {shape}. Received: {tuple(dataset.test.x.shape[1:])}"
        )


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A network that is ready to evaluate.

    Args:
        model: float (folded) or quantized network.
        config: its widths, None for float.
        calibration: what calibrated it: ``"train"``, ``"test inputs"``, ``"weights file"`` or ``"none"``.
    """

    model: keras.Model
    config: BitConfig | None
    calibration: str


def prepare_network(
    network: FoldedNetwork,
    config: BitConfig | None,
    weights: Path | WeightFile | keras.Model,
    dataset: Dataset,
    seed: int = 0,
    scale_rule: str = "mse",
) -> Prepared:
    """Return a network with weights: float, or quantized and calibrated.

    Args:
        network: the float network.
        config: widths and kinds of scales of every layer, None for float.
        weights: a file, opened or not, of float weights, or of a quantized run of the same configuration, which brings
            its calibration along; or a float model.
        dataset: calibrates the activations.
        seed: of the calibration samples.
        scale_rule: how weights choose power-of-two exponents.

    Raises:
        ValueError: for weights of another network, a checkpoint of other widths or kinds of scales, or a configuration
            that leaves kinds of scales open.
    """
    if config is not None:
        config.alphas()  # raises where a kind of scales is open
    weights = _opened(weights)
    if isinstance(weights, WeightFile) and weights.is_quantized:
        path = weights.path
        if config is None:
            raise ValueError(f"{path} holds a quantized network: its configuration must be named, not float")
        model = _load_quantized(network, config, weights, dataset, scale_rule)
        _check_bits(model, config, path)
        _check_scales(model, path)
        return Prepared(model, config, "weights file")
    network = load_float_network(network, weights)
    check_fits(dataset, network.model)
    if config is None:
        return Prepared(network.model, None, "none")
    return _calibrated(network.quantize(config, scale_rule=scale_rule), config, dataset, seed)


def prepare_with_own_scales(
    network: FoldedNetwork, config: BitConfig, weights: Path | WeightFile | keras.Model, dataset: Dataset, seed: int = 0
) -> Prepared:
    """Return a calibrated network with float weights, or those of any quantized run whose scales are then left out.

    Args:
        network: the float network.
        config: widths and kinds of scales of every layer.
        weights: a float model, or float or quantized weights.
        dataset: calibrates the activations.
        seed: of the calibration samples.
    """
    weights = _opened(weights)
    if isinstance(weights, keras.Model) or not weights.is_quantized:
        return prepare_network(network, config, weights, dataset, seed)
    model = _load_quantized(network, config, weights, dataset)
    set_bits(model, config)
    return _calibrated(model, config, dataset, seed)


def _load_quantized(
    network: FoldedNetwork, config: BitConfig, weights: WeightFile, dataset: Dataset, scale_rule: str = "mse"
) -> keras.Model:
    model = network.quantize(config, scale_rule=scale_rule)
    check_fits(dataset, model)
    weights.load_into(model)
    return model


def _opened(weights: Path | WeightFile | keras.Model) -> WeightFile | keras.Model:
    return weights if isinstance(weights, (WeightFile, keras.Model)) else read_weight_file(weights)


def _calibrated(model: keras.Model, config: BitConfig, dataset: Dataset, seed: int) -> Prepared:
    x, source = calibration_inputs(dataset, model, seed)
    calibrate(model, x)
    return Prepared(model, config, source)


def load_float_network(network: FoldedNetwork, weights: Path | WeightFile | keras.Model) -> FoldedNetwork:
    """Return the network itself, with the weights of a file, or the description of a float model in its place."""
    weights = _opened(weights)
    if weights is network.source:
        return network
    if isinstance(weights, keras.Model):
        return fold(weights, network.placement)
    weights.load_into(network.source)
    network.take_weights()
    return network


def _check_bits(model: keras.Model, config: BitConfig, path: Path) -> None:
    for weight in weight_quantizers(model):
        bits = (config.kernel_bits if weight.part == "kernel" else config.bias_bits)(weight.layer.name)
        _check_layer_bits(path, f"{weight.part} of {weight.layer.name}", weight.quantizer.bits, bits)
    for name, quantizer in activation_quantizers(model):
        _check_layer_bits(path, name, quantizer.bits, config.activation_bits(name))


def _check_layer_bits(path: Path, part: str, stored: int, configured: int) -> None:
    if stored != configured:
        raise ValueError(
            f"{path} holds other widths than the configuration: the {part} has {stored} bits, not {configured}"
        )


def _check_scales(model: keras.Model, path: Path) -> None:
    """Raise ValueError where a stored scale is of another kind than its quantizer's; a range only if that matters."""
    for weight in weight_quantizers(model):
        if weight.quantizer.frozen and not _scales_fit(weight):
            part = f"{weight.part} of {weight.layer.name}"
            _refuse_scales(path, part, weight.quantizer.alpha, _stored_scales(weight))
    for name, quantizer in activation_quantizers(model):
        if quantizer.frozen and quantizer.alpha == AUTO_PO2 and quantizer.range != (0.0, 0.0):
            _, largest_integer = integer_range(quantizer.bits, quantizer.signed, quantizer.narrow_range)
            if not _is_close(quantizer.range[1], largest_integer * quantizer.scale):
                _refuse_scales(path, name, quantizer.alpha, np.asarray(quantizer.range[1] / largest_integer))


def _stored_scales(weight: QuantizedWeight) -> np.ndarray:
    return np.asarray(weight.quantizer.frozen_scale)


def _scales_fit(weight: QuantizedWeight) -> bool:
    stored = _stored_scales(weight)
    is_power_of_two = bool(np.all(np.frexp(stored)[0] == 0.5))
    if weight.quantizer.alpha != AUTO:
        return is_power_of_two
    return not is_power_of_two or _is_close(stored, weight.quantizer.compute_scale(weight.variable))


def _is_close(a: np.ndarray | float, b: np.ndarray | float) -> bool:
    return np.allclose(a, b, rtol=SCALE_TOLERANCE, atol=0.0)


def _refuse_scales(path: Path, part: str, alpha: str | None, stored: np.ndarray) -> None:
    is_power_of_two = np.frexp(stored)[0] == 0.5
    kind, shown = ("powers of two", stored) if alpha == AUTO else ("real numbers", stored[~is_power_of_two])
    raise ValueError(
        f"{path} holds other scales than the configuration: those of the {part} are {kind}, not {alpha!r}. "
        f"Received: {shown.flat[0]:.9g}"
    )


def evaluate(benchmark: Benchmark, model: keras.Model, split: Split) -> Score:
    """Return the benchmark's score of a network on a split."""

    def predict(x: np.ndarray) -> np.ndarray:
        return model.predict(network_inputs(x, model), batch_size=EVALUATION_BATCH_SIZE, verbose=0)

    return benchmark.score(predict, split)
