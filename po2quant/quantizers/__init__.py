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

QKeras layers take a quantizer as an object or in its serialized form (``keras.saving.serialize_keras_object``). Given
the object, a layer names it differently before and after a ``.keras`` reload, so that a ``.weights.h5`` file fits only
one of the two; the serialized form, which :func:`po2quant.network.quantize_model` uses, has no such difference.
"""

from po2quant.bit_config import ALPHAS, AUTO, AUTO_PO2, LEARNED_PO2, POWERS_OF_TWO, check_alpha
from po2quant.compat import serialize_quantizers_of_activations
from po2quant.quantizers.base import Quantizer
from po2quant.quantizers.featuremap import quantized_bits_featuremap
from po2quant.quantizers.formats import SCALE_RULES
from po2quant.quantizers.functional import affine_scale, fake_quantize
from po2quant.quantizers.optimizer import LOG2_THRESHOLD, ThresholdAdam, threshold_rate
from po2quant.quantizers.parsing import get_quantizer, parse_quantizer_call
from po2quant.quantizers.weights import quantized_bits

__all__ = [
    "ALPHAS",
    "AUTO",
    "AUTO_PO2",
    "LEARNED_PO2",
    "LOG2_THRESHOLD",
    "POWERS_OF_TWO",
    "SCALE_RULES",
    "Quantizer",
    "ThresholdAdam",
    "affine_scale",
    "check_alpha",
    "fake_quantize",
    "get_quantizer",
    "parse_quantizer_call",
    "quantized_bits",
    "quantized_bits_featuremap",
    "threshold_rate",
]

serialize_quantizers_of_activations(Quantizer)
