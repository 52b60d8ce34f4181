"""What an operation takes of a device's memory, without writing its C."""

from __future__ import annotations

from typing import cast

from po2quant.export.c.functions import packed_bytes
from po2quant.export.c.types import tensor_dtype
from po2quant.export.c.weighted import Layer, layer_of
from po2quant.integer.operations import Block, LookUpTable, Operation, Pooling, Weighted, ZeroPadding
from po2quant.integer.plan import Plan

WORD_BYTES = 4
WINDOW_FIELDS = 16
"""Numbers in the description of a window, a word each."""


def constant_bytes(program: Block, operation: Operation, pack: bool = False) -> int:
    """Return the bytes of read-only data on a core of 32 bits: arrays, each in whole words, and what describes them."""
    window = WINDOW_FIELDS * WORD_BYTES
    if isinstance(operation, LookUpTable):
        return _words(operation.table.size * tensor_dtype(program.output_of(operation)).itemsize)
    if not isinstance(operation, Weighted):
        return window if isinstance(operation, Pooling | ZeroPadding) else 0
    layer = layer_in_c(program, operation, pack)
    bits = layer.packed_bits or int(layer.types["w"][1:])
    weights = packed_bytes(layer.weights.size, bits) if layer.packed_bits else layer.weights.size * bits // 8
    arrays = [weights, *(values.size * dtype.itemsize for values, dtype in layer.channels.values())]
    return sum(map(_words, arrays)) + window + len(layer.channels) * WORD_BYTES


def scratch_bytes(program: Block, operation: Operation, pack: bool = False) -> int:
    """Return the bytes that an operation needs beside its tensors."""
    return layer_in_c(program, operation, pack).scratch_bytes if isinstance(operation, Weighted) else 0


def layer_in_c(program: Block, operation: Weighted, pack: bool) -> Layer:
    """Return how a layer of a program is computed."""
    (x,) = program.inputs_of(operation)
    return layer_of(x, operation, cast(Plan, program.plan(operation)), pack)


def _words(size_bytes: int) -> int:
    return -(-size_bytes // WORD_BYTES) * WORD_BYTES
