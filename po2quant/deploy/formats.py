"""What ``po2quant export`` writes, by name of the format."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import keras

from po2quant.deploy.to_qkeras import to_qkeras
from po2quant.export.c.source import write_c
from po2quant.export.exchange import inexact_in_float32
from po2quant.export.litert.to_litert import to_litert
from po2quant.export.onnx.to_onnx import to_onnx
from po2quant.export.onnx.to_qonnx import to_qonnx
from po2quant.integer.listing import listing
from po2quant.integer.program import Program
from po2quant.integer.rewrites import settle_constant_channels

TEXT = "text"

Writer = Callable[[keras.Model, Program, str, Path], list[Path]]
"""Given the frozen model, its program, a name that is a C identifier, and a folder, writes files and returns them."""


def _one_file(suffix: str, write_file: Callable[[keras.Model, Program, Path], object]) -> Writer:
    def write(model: keras.Model, program: Program, name: str, folder: Path) -> list[Path]:
        path = folder / f"{name}{suffix}"
        write_file(model, program, path)
        return [path]

    return write


def _write_c(model: keras.Model, program: Program, name: str, folder: Path, pack: bool) -> list[Path]:
    source = write_c(program, folder, name, pack)
    return [source.header, source.source, source.main]


FORMATS: dict[str, Writer] = {
    TEXT: _one_file(".txt", lambda model, program, path: path.write_text(listing(program), encoding="utf-8")),
    "program": _one_file(".npz", lambda model, program, path: program.save(path)),
    "c": functools.partial(_write_c, pack=False),
    "c-packed": functools.partial(_write_c, pack=True),
    "qonnx": _one_file(".qonnx.onnx", lambda model, program, path: to_qonnx(program, path)),
    "onnx": _one_file(".onnx", lambda model, program, path: to_onnx(program, path)),
    "litert": _one_file(".tflite", lambda model, program, path: to_litert(program, path)),
    "qkeras": _one_file(".keras", lambda model, program, path: to_qkeras(model, path)),
}
FLOAT32_FORMATS = ("qonnx", "onnx", "qkeras")
"""Formats whose readers add in float32."""


def check_format(format: str) -> None:
    """Raise ValueError unless a format is known."""
    if format not in FORMATS:
        raise ValueError(f"--format must be one of {', '.join(FORMATS)}. Received: {format!r}")


def write(format: str, model: keras.Model, program: Program, name: str, folder: Path) -> list[Path]:
    """Write a network in a format, and return the files.

    Raises:
        ValueError: for an unknown format.
    """
    check_format(format)
    folder.mkdir(parents=True, exist_ok=True)
    return FORMATS[format](model, program, name, folder)


def inexact_operations(format: str, program: Program) -> tuple[str, ...]:
    """Return the names of the operations whose sums the readers of a format may round."""
    return inexact_in_float32(settle_constant_channels(program)) if format in FLOAT32_FORMATS else ()
