"""The tensors and operations of an integer program, as plain data that knows its own rules.

What a module of this folder offers stands in its ``__all__``.
"""

from po2quant.integer.checks import Padding, Shape
from po2quant.integer.operations import base, block, joining, moving, pooling, recurrent, tables, weighted
from po2quant.integer.operations.base import *
from po2quant.integer.operations.block import *
from po2quant.integer.operations.joining import *
from po2quant.integer.operations.moving import *
from po2quant.integer.operations.pooling import *
from po2quant.integer.operations.recurrent import *
from po2quant.integer.operations.tables import *
from po2quant.integer.operations.weighted import *

OPERATIONS = (
    *weighted.WEIGHTED,
    *pooling.POOLINGS,
    *joining.JOINS,
    *joining.EXTREMES,
    *tables.TABLES,
    *moving.MOVES,
    recurrent.Recurrent,
)

__all__ = ["OPERATIONS", "Padding", "Shape"]
__all__ += base.__all__
__all__ += block.__all__
__all__ += joining.__all__
__all__ += moving.__all__
__all__ += pooling.__all__
__all__ += recurrent.__all__
__all__ += tables.__all__
__all__ += weighted.__all__
