"""Builds a LiteRT flatbuffer from tensors and operators, with scales as they are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.export.exchange import float32_scales, require
from po2quant.files import replaced_whole

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
TYPES: dict[Any, str] = {np.int8: "INT8", np.int16: "INT16", np.int32: "INT32", np.int64: "INT64"}

VERSIONS = {
    "CONV_2D": 6,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 12,
    "AVERAGE_POOL_2D": 3,
    "MAX_POOL_2D": 2,
    "ADD": 2,
    "MUL": 3,
    "CONCATENATION": 2,
    "MAXIMUM": 2,
    "MINIMUM": 2,
    "QUANTIZE": 3,
    "RESHAPE": 1,
    "PAD": 2,
    "CAST": 1,
    "GATHER": 2,
}
"""The version of each operator that first knows the types and options that are written."""

SHARED_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
}
"""The options of operators that do not have some of their own name."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """What the integers of a tensor stand for: value = (integer - zero_point) * 2**exponents.

    Args:
        exponents: ``()``, or one a channel, ``(C,)``.
        zero_point: the integer of 0.
        axis: of the channels.
    """

    exponents: np.ndarray
    zero_point: int = 0
    axis: int = 0


class LiteRTFile:
    """Collects tensors and operators; tensors are known by their place."""

    def __init__(self) -> None:
        self._schema = require("ai_edge_litert.schema_py_generated", "a LiteRT file")
        self._buffers = [self._schema.BufferT()]
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[str, int] = {}

    def tensor(self, name: str, shape: Sequence[int], kind: type, scale: Scale | None = None) -> int:
        """Add a tensor that an operator or the host writes; the shape is without the samples."""
        place = self._tensor(name, (1, *shape), kind, scale)
        self._tensors[place].shapeSignature = [-1, *shape]
        return place

    def constant(self, name: str, array: np.ndarray, scale: Scale | None = None) -> int:
        """Add a constant."""
        self._buffers.append(self._schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        return self._tensor(name, array.shape, array.dtype.type, scale, len(self._buffers) - 1)

    def operator(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> None:
        """Add an operator."""
        schema = self._schema
        own = "".join(word.title() for word in kind.split("_")) + "Options"
        name = SHARED_OPTIONS.get(kind, own)
        content = getattr(schema, f"{name}T")(**options)
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._codes.setdefault(kind, len(self._codes)),
                inputs=list(inputs),
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, name),
                builtinOptions=content,
            )
        )

    def rename(self, place: int, name: str) -> None:
        """Give a tensor another name."""
        self._tensors[place].name = name

    def write(self, path: Path, name: str, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Write the file, which is either the old or the new one, never half of it."""
        schema = self._schema
        codes = [self._code(kind) for kind in self._codes]
        graph = schema.SubGraphT(self._tensors, list(inputs), list(outputs), self._operators, name)
        model = schema.ModelT(SCHEMA_VERSION, codes, [graph], "written by po2quant", self._buffers)
        builder = require("flatbuffers", "a LiteRT file").Builder()
        builder.Finish(model.Pack(builder), IDENTIFIER)
        with replaced_whole(path) as temporary:
            temporary.write_bytes(bytes(builder.Output()))

    def _code(self, kind: str) -> Any:
        code = getattr(self._schema.BuiltinOperator, kind)
        return self._schema.OperatorCodeT(code, None, VERSIONS[kind], code)

    def _tensor(self, name: str, shape: Sequence[int], kind: type, scale: Scale | None, buffer: int = 0) -> int:
        self._tensors.append(
            self._schema.TensorT(
                list(shape), getattr(self._schema.TensorType, TYPES[kind]), buffer, name, self._quantization(scale)
            )
        )
        return len(self._tensors) - 1

    def _quantization(self, scale: Scale | None) -> Any:
        if scale is None:
            return None
        scales = float32_scales(np.atleast_1d(scale.exponents), bits=8)
        zeros = np.full(scales.shape, scale.zero_point, np.int64)
        return self._schema.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=scale.axis)
