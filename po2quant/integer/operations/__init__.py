"""The tensors and operations of an integer program, as plain data that knows its own rules."""

from po2quant.integer.checks import Padding, Shape
from po2quant.integer.operations.base import (
    ACTIVATIONS,
    LINEAR,
    MAX_INPUTS,
    NO_PADDING,
    RELU,
    RELU6,
    Counts,
    Handlers,
    Operation,
    Tensor,
    Weights,
    output_limits,
    unknown,
)
from po2quant.integer.operations.block import Block
from po2quant.integer.operations.joining import Add, Concatenate, Maximum, Minimum, Multiply
from po2quant.integer.operations.moving import Moving, Rearrange, Reshape, ZeroPadding
from po2quant.integer.operations.pooling import AveragePooling, MaxPooling, Pooling
from po2quant.integer.operations.recurrent import Cell, Recurrent
from po2quant.integer.operations.tables import LookUpTable, Requantize
from po2quant.integer.operations.weighted import Conv2D, Dense, Weighted, channel_terms, weighted_limits

OPERATIONS = (
    Conv2D,
    Dense,
    AveragePooling,
    MaxPooling,
    Add,
    Multiply,
    Maximum,
    Minimum,
    Concatenate,
    Requantize,
    LookUpTable,
    Reshape,
    Rearrange,
    ZeroPadding,
    Recurrent,
)

__all__ = [
    "ACTIVATIONS",
    "LINEAR",
    "MAX_INPUTS",
    "NO_PADDING",
    "OPERATIONS",
    "RELU",
    "RELU6",
    "Add",
    "AveragePooling",
    "Block",
    "Cell",
    "Concatenate",
    "Conv2D",
    "Counts",
    "Dense",
    "Handlers",
    "LookUpTable",
    "MaxPooling",
    "Maximum",
    "Minimum",
    "Moving",
    "Multiply",
    "Operation",
    "Padding",
    "Pooling",
    "Rearrange",
    "Recurrent",
    "Requantize",
    "Reshape",
    "Shape",
    "Tensor",
    "Weighted",
    "Weights",
    "ZeroPadding",
    "channel_terms",
    "output_limits",
    "unknown",
    "weighted_limits",
]
