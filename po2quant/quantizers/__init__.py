"""Quantizers for weights and activations under QKeras' names.

====================== =====================================
QKeras (the boundary)  the field (inside)
====================== =====================================
``bits``               bit width
``keep_negative``      signed
``symmetric``          narrow range
``alpha``              how the scale is chosen
``scale_axis``         granularity of the scale
``integer``            binary point of a fixed-point format
====================== =====================================
"""

from po2quant.quantizers.base import ALPHAS, AUTO, AUTO_PO2, Quantizer
from po2quant.quantizers.featuremap import quantized_bits_featuremap
from po2quant.quantizers.functional import affine_scale, fake_quantize
from po2quant.quantizers.parsing import get_quantizer, parse_quantizer_call
from po2quant.quantizers.weights import SCALE_RULES, quantized_bits

__all__ = [
    "ALPHAS",
    "AUTO",
    "AUTO_PO2",
    "SCALE_RULES",
    "Quantizer",
    "affine_scale",
    "fake_quantize",
    "get_quantizer",
    "parse_quantizer_call",
    "quantized_bits",
    "quantized_bits_featuremap",
]
