"""Bit accounting: what a configuration costs, and what AutoQKeras' score makes of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from po2quant.bit_config import BitConfig

BITS_PER_KIB = 8 * 1024

INPUT, WEIGHTS, ACTIVATION, SOFTMAX = "input", "weights", "activation", "softmax"
INPUT_BITS = OUTPUT_BITS = 8
FLOAT_BITS = 32
REFERENCE_KERNEL_BITS, REFERENCE_BIAS_BITS, REFERENCE_ACTIVATION_BITS = 16, 31, 16


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """What the accounting needs to know of one layer.

    Args:
        name: layer name.
        class_name: Keras class, e.g. ``"Dense"``.
        kind: ``"input"``, ``"weights"``, ``"activation"`` (a quantizer) or ``"softmax"``.
        shape: output shape without the batch.
        kernel_parameters: number of kernel weights.
        bias_parameters: number of biases.
        macs: multiply-accumulates per sample.
        units: output channels that QKeras prints, or None.
        unit_label: how it labels them: ``"f"`` for filters, ``"u"`` for units.
    """

    name: str
    class_name: str
    kind: str
    shape: tuple[int, ...]
    kernel_parameters: int = 0
    bias_parameters: int = 0
    macs: int = 0
    units: int | None = None
    unit_label: str = "f"

    @property
    def elements(self) -> int:
        """Number of output elements per sample."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Size:
    """Bits of a network, split into activations and parameters."""

    activation_bits: int
    parameter_bits: int

    @property
    def total_bits(self) -> int:
        """Activations and parameters."""
        return self.activation_bits + self.parameter_bits


def check_covers(config: BitConfig, layers: Sequence[LayerShape]) -> None:
    """Raise ValueError unless the configuration names exactly these layers."""
    config.check_covers(
        [layer.name for layer in layers if layer.kind == WEIGHTS],
        [layer.name for layer in layers if layer.kind == ACTIVATION],
    )


def reference_config(layers: Sequence[LayerShape]) -> BitConfig:
    """Return the reference of the score: 16-bit kernels and activations, 31-bit biases."""
    return BitConfig.flat(
        [layer.name for layer in layers if layer.kind == WEIGHTS],
        [layer.name for layer in layers if layer.kind == ACTIVATION],
        REFERENCE_KERNEL_BITS,
        REFERENCE_BIAS_BITS,
    )


def layer_size(layer: LayerShape, config: BitConfig) -> Size:
    """Return the bits of one layer.

    Kernel bits times kernel parameters plus bias bits times biases; activation bits times elements;
    8 bits per input element and per element of a final softmax activation.
    """
    if layer.kind == WEIGHTS:
        kernel = config.kernel_bits(layer.name) * layer.kernel_parameters
        return Size(0, kernel + config.bias_bits(layer.name) * layer.bias_parameters)
    if layer.kind == ACTIVATION:
        return Size(config.activation_bits(layer.name) * layer.elements, 0)
    return Size((INPUT_BITS if layer.kind == INPUT else OUTPUT_BITS) * layer.elements, 0)


def network_size(layers: Sequence[LayerShape], config: BitConfig | None) -> Size:
    """Return the bits of a network under a configuration; None: float, 32 bits everywhere. BatchNorm costs nothing."""
    if config is None:
        elements = sum(layer.elements for layer in layers if layer.kind != WEIGHTS)
        parameters = sum(layer.kernel_parameters + layer.bias_parameters for layer in layers)
        return Size(FLOAT_BITS * elements, FLOAT_BITS * parameters)
    sizes = [layer_size(layer, config) for layer in layers]
    return Size(sum(size.activation_bits for size in sizes), sum(size.parameter_bits for size in sizes))


@dataclasses.dataclass(frozen=True)
class AverageBits:
    """Mean widths over layers, parameters and activation elements; the input is not counted."""

    per_layer: float
    per_parameter: float
    per_activation: float


def average_bits(layers: Sequence[LayerShape], config: BitConfig) -> AverageBits:
    """Return the mean kernel width over layers, parameter width and activation width."""
    weighted = [layer for layer in layers if layer.kind == WEIGHTS]
    activations = [layer for layer in layers if layer.kind == ACTIVATION]
    parameters = sum(layer.kernel_parameters + layer.bias_parameters for layer in weighted)
    elements = sum(layer.elements for layer in activations)
    return AverageBits(
        sum(config.kernel_bits(layer.name) for layer in weighted) / len(weighted),
        sum(layer_size(layer, config).parameter_bits for layer in weighted) / parameters,
        sum(layer_size(layer, config).activation_bits for layer in activations) / elements,
    )


@dataclasses.dataclass(frozen=True)
class ForgivingFactor:
    """AutoQKeras' trade of score for size.

    Equation:
        factor = 1 + delta * log_rate(stress * reference / trial), with delta = delta_p where the
        trial is smaller than ``stress * reference``, else delta_n.

    Args:
        delta_p: share of the score that a network ``rate`` times smaller may lose.
        delta_n: share that a network ``rate`` times larger must gain.
        rate: the ratio of sizes that is worth one delta, above 1.
        stress: below 1 asks for more than the reference's size.

    Example:
        >>> round(ForgivingFactor()(trial_bits=1259512, reference_bits=4321016), 4)
        1.0889

    Reference:
        Coelho et al., arXiv 2006.10159, section "AutoQKeras".
    """

    delta_p: float = 0.05
    delta_n: float = 0.05
    rate: float = 2.0
    stress: float = 1.0

    def __post_init__(self) -> None:
        if not self.rate > 1.0 or not self.stress > 0.0:
            raise ValueError(
                f"rate must be above 1 and stress above 0. Received: rate={self.rate}, stress={self.stress}"
            )

    def delta(self, trial_bits: float, reference_bits: float) -> float:
        """Return the factor less 1."""
        if not trial_bits > 0 or not reference_bits > 0:
            raise ValueError(f"sizes must be above 0. Received: trial={trial_bits}, reference={reference_bits}")
        gain = math.log(self.stress * reference_bits / trial_bits, self.rate)
        return (self.delta_p if gain > 0 else self.delta_n) * gain

    def __call__(self, trial_bits: float, reference_bits: float) -> float:
        """Return the factor that multiplies the metric."""
        return 1.0 + self.delta(trial_bits, reference_bits)


def stats_block(
    layers: Sequence[LayerShape],
    config: BitConfig,
    forgiving_factor: ForgivingFactor | None = None,
) -> str:
    """Return the statistics in the form that AutoQKeras prints, then one row per layer.

    Args:
        layers: the network.
        config: its widths and kinds of scales.
        forgiving_factor: trade of score for size.
    """
    factor = forgiving_factor or ForgivingFactor()
    trial, reference = network_size(layers, config), network_size(layers, reference_config(layers))

    def ratio(label: str, part: str) -> str:
        t, r = getattr(trial, part), getattr(reference, part)
        return f"{label}={t}/{r} ({100 * (t - r) / r:.2f}%)"

    lines = [
        f"stats: delta_p={factor.delta_p} delta_n={factor.delta_n} rate={factor.rate} "
        f"trial_size={trial.total_bits} reference_size={reference.total_bits}",
        f"       delta={100 * factor.delta(trial.total_bits, reference.total_bits):.2f}%",
        f"       {ratio('a_bits', 'activation_bits')} {ratio('p_bits', 'parameter_bits')}",
        f"       {ratio('total', 'total_bits')}",
    ]
    rows = [layer for layer in layers if layer.kind in (WEIGHTS, ACTIVATION)]
    width = max(len(layer.name) for layer in rows)
    alphas = config.alphas()
    return "\n".join(
        lines + [f"       {layer.name:{width}} {_quantizers(layer, config, alphas[layer.name])}" for layer in rows]
    )


def _quantizers(layer: LayerShape, config: BitConfig, alpha: str) -> str:
    if layer.kind == ACTIVATION:
        bits = config.activation_bits(layer.name)
        return f"quantized_bits_featuremap({bits},{bits},1,1,alpha='{alpha}')"
    kernel, bias = config.kernel_bits(layer.name), config.bias_bits(layer.name)
    return (
        f"{layer.unit_label}={layer.units} quantized_bits({kernel},{kernel},1,alpha='{alpha}') "
        f"quantized_bits({bias},{bias},1,alpha='{alpha}')"
    )


SUMMARY_COLUMNS = ("layer", "class", "output", "bits", "parameters", "KiB", "MACs")


def summary_rows(layers: Sequence[LayerShape], config: BitConfig) -> list[tuple[str, ...]]:
    """Return the summary table: one row per layer and a total, as :data:`SUMMARY_COLUMNS`.

    Bits read kernel/bias for weights and one width for activations. KiB are those of the
    parameters, or of the activation's elements, at their width.
    """
    rows = []
    for layer in layers:
        if layer.kind == WEIGHTS:
            bits = f"{config.kernel_bits(layer.name)}/{config.bias_bits(layer.name)}"
        elif layer.kind == ACTIVATION:
            bits = str(config.activation_bits(layer.name))
        else:
            bits = str(INPUT_BITS if layer.kind == INPUT else OUTPUT_BITS)
        shape = "x".join(map(str, layer.shape))
        parameters = layer.kernel_parameters + layer.bias_parameters
        rows.append(
            (
                layer.name,
                layer.class_name,
                shape,
                bits,
                _count(parameters),
                _kib(layer_size(layer, config).total_bits),
                _count(layer.macs),
            )
        )
    parameters = sum(layer.kernel_parameters + layer.bias_parameters for layer in layers)
    total = network_size(layers, config).total_bits
    macs = sum(layer.macs for layer in layers)
    return [*rows, ("total", "", "", "", _count(parameters), _kib(total), _count(macs))]


def _kib(bits: int) -> str:
    return f"{bits / BITS_PER_KIB:.2f}"


def _count(number: int) -> str:
    return str(number) if number else ""
