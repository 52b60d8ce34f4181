"""From a float Keras model to its description, and to a quantized one."""

from po2quant.network.calibration import CalibrationWarning, calibrate, calibrate_one
from po2quant.network.folding import FoldedNetwork, flat_config, fold, quantize_model
from po2quant.network.lowering import fold_batch_norm
from po2quant.network.placement import Slot, network_layers, place_quantizers
from po2quant.network.quantized import (
    QuantizedWeight,
    activation_quantizers,
    freeze_scales,
    set_bits,
    slot_quantizers,
    weight_quantizers,
)
from po2quant.network.walk import walk
from po2quant.placement import Placement

__all__ = [
    "CalibrationWarning",
    "FoldedNetwork",
    "Placement",
    "QuantizedWeight",
    "Slot",
    "activation_quantizers",
    "calibrate",
    "calibrate_one",
    "flat_config",
    "fold",
    "fold_batch_norm",
    "freeze_scales",
    "network_layers",
    "place_quantizers",
    "quantize_model",
    "set_bits",
    "slot_quantizers",
    "walk",
    "weight_quantizers",
]
