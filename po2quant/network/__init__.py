"""From a float Keras model to a quantized one."""

from po2quant.network.lowering import fold_batch_norm
from po2quant.network.placement import Slot, network_layers, place_quantizers
from po2quant.network.quantize import (
    QuantizedWeight,
    activation_quantizers,
    calibrate,
    flat_config,
    freeze_scales,
    quantize_model,
    set_bits,
    slot_quantizers,
    weight_layer_names,
    weight_quantizers,
)
from po2quant.network.walk import walk
from po2quant.placement import Placement

__all__ = [
    "Placement",
    "QuantizedWeight",
    "Slot",
    "activation_quantizers",
    "calibrate",
    "flat_config",
    "fold_batch_norm",
    "freeze_scales",
    "network_layers",
    "place_quantizers",
    "quantize_model",
    "set_bits",
    "slot_quantizers",
    "walk",
    "weight_layer_names",
    "weight_quantizers",
]
