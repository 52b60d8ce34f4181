"""The rules that networks are trained under: ours, the study's, and every mixture of the two.

The study's rule differs from ours in six things, the :data:`CAUSES`. A rule is the set of those that it has: none is
``exact``, all are ``stock``, and ``exact+floor`` or ``stock-floor`` switch one on or off alone.
"""

from __future__ import annotations

import dataclasses
import re

import keras
import qkeras

from po2quant.bit_config import BitConfig
from po2quant.network import Placement, QuantizedWeight, activation_quantizers, quantize_model, weight_quantizers
from po2quant.quantizers import AUTO_PO2, LEARNED_PO2

FLOOR, ROUNDING, DEPTHWISE = "floor", "rounding", "depthwise"
RELU, GRADIENT, PER_SAMPLE = "relu", "gradient", "per_sample"
CAUSES = {
    FLOOR: "epsilon = 1e-7 in the logarithm, of weights divided by 2^bits: no scale of a weight is below 2^(bits - 23)",
    ROUNDING: "the exponent nearest to log2(max / L), which may clip the largest weights, instead of the best one",
    DEPTHWISE: "one scale for a whole depthwise kernel instead of one for each channel",
    RELU: "signed levels for activations that are never negative: half of them stay unused",
    GRADIENT: "a gradient of 1 for clipped values too, which go on growing where nobody sees it",
    PER_SAMPLE: "activation scales from the largest value of each sample, at run time, instead of calibrated ones",
}
FLOAT, EXACT, STOCK, EACH_CAUSE = "float", "exact", "stock", "causes"
LEARNED, LEARNED_ACTIVATIONS = "learned", "learned_activations"

FLOOR_EXPONENT = -23
"""``round(log2(1e-7))``: the smallest exponent of QKeras' ``auto_po2``, before it multiplies by ``2**integer``."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a network is quantized.

    Args:
        name: as it stands on the command line.
        alpha: kind of scales; None for a float network.
        activation_alpha: kind of scales of activations.
        causes: what it shares with the study's rule, in the order of :data:`CAUSES`.
    """

    name: str
    alpha: str | None = AUTO_PO2
    activation_alpha: str | None = AUTO_PO2
    causes: tuple[str, ...] = ()

    @property
    def scale_rule(self) -> str:
        """The exponents of weights: qkeras' own code where they are both rounded and kept above the floor."""
        if ROUNDING not in self.causes:
            return "mse"
        return "stock" if FLOOR in self.causes else "nearest"


RULES = {
    FLOAT: Rule(FLOAT, None, None),
    EXACT: Rule(EXACT),
    STOCK: Rule(STOCK, causes=tuple(CAUSES)),
    LEARNED: Rule(LEARNED, LEARNED_PO2, LEARNED_PO2),
    LEARNED_ACTIVATIONS: Rule(LEARNED_ACTIVATIONS, AUTO_PO2, LEARNED_PO2),
}


def parse_rule(name: str) -> Rule:
    """Return the rule of a name: one of :data:`RULES`, or ``exact`` and ``stock`` with causes added and taken away.

    Example:
        >>> parse_rule("stock-floor-rounding").causes
        ('depthwise', 'relu', 'gradient', 'per_sample')
    """
    base, *changes = re.split(r"(?=[+-])", name)
    is_mixture = base in (EXACT, STOCK) and all(change[1:] in CAUSES for change in changes)
    if base not in RULES or (changes and not is_mixture):
        raise ValueError(
            f"a rule must be {', '.join(RULES)}, or exact or stock with +cause or -cause of {', '.join(CAUSES)}. "
            f"Received: {name!r}"
        )
    causes = set(RULES[base].causes)
    for change in changes:
        (causes.add if change[0] == "+" else causes.discard)(change[1:])
    return dataclasses.replace(RULES[base], name=name, causes=tuple(cause for cause in CAUSES if cause in causes))


def parse_rules(names: list[str]) -> list[Rule]:
    """Return the rules of several names; ``causes`` stands for each cause alone, and for all causes but one."""
    each = [f"{EXACT}+{cause}" for cause in CAUSES] + [f"{STOCK}-{cause}" for cause in CAUSES]
    expanded = [rule for name in names for rule in (each if name == EACH_CAUSE else [name])]
    return [parse_rule(name) for name in dict.fromkeys(expanded)]


def quantize_under(rule: Rule, model: keras.Model, config: BitConfig, placement: Placement) -> keras.Model:
    """Return a float network quantized under a rule, not yet calibrated.

    Scales of these networks cannot be frozen: their stored shape is that of another rule.
    """
    quantized = quantize_model(
        model,
        config.with_activation_alpha(rule.activation_alpha),
        rule.alpha,
        placement,
        activation_scale="per_sample" if PER_SAMPLE in rule.causes else "static",
        scale_rule=rule.scale_rule,
    )
    if rule.activation_alpha == LEARNED_PO2:
        return quantized
    for weight in weight_quantizers(quantized):
        _set_weight_rule(weight, rule)
    for _, quantizer in activation_quantizers(quantized):
        quantizer.keep_negative = quantizer.keep_negative or RELU in rule.causes
        quantizer.clipped_gradient = GRADIENT not in rule.causes
    return quantized


def _set_weight_rule(weight: QuantizedWeight, rule: Rule) -> None:
    quantizer = weight.quantizer
    quantizer.clipped_gradient = GRADIENT not in rule.causes
    if FLOOR in rule.causes and rule.scale_rule != "stock":
        quantizer.min_po2_exponent = quantizer.bits + FLOOR_EXPONENT
    if weight.part == "kernel" and isinstance(weight.layer, qkeras.QDepthwiseConv2D):
        quantizer.scale_axis = [3] if DEPTHWISE in rule.causes else [2, 3]
