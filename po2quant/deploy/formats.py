"""What ``po2quant export`` writes, by name of the format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from po2quant.export.c.firmware import PROJECTS, write_firmware
from po2quant.export.c.operations import CALLS
from po2quant.export.c.source import write_c
from po2quant.export.environments import ESP_PPQ
from po2quant.export.espdl.to_espdl import OPERATORS as ESPDL_OPERATORS
from po2quant.export.espdl.to_espdl import to_espdl
from po2quant.export.exchange import inexact_in_float32
from po2quant.export.litert.to_litert import OPERATORS, deviations, to_litert
from po2quant.export.onnx.graph import NODES
from po2quant.export.onnx.to_onnx import to_onnx
from po2quant.export.onnx.to_qonnx import to_qonnx
from po2quant.extras import check_installed
from po2quant.integer.listing import listing
from po2quant.integer.operations import Handlers, Operation, Recurrent
from po2quant.integer.program import Program
from po2quant.integer.rewrites import averages_as_products, settle_constant_channels

if TYPE_CHECKING:
    import keras

TEXT, QKERAS = "text", "qkeras"

Writer = Callable[["keras.Model | None", Program, str, Path], list[Path]]
"""Given the frozen model (None where the format needs its program alone), its program, a name that is a C identifier,
and a folder, writes files and returns them."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A form of files.

    Args:
        write: writes them.
        package: what must be installed for it beside po2quant itself; None: nothing.
        notes: sentences on what its readers may compute otherwise.
        handlers: the operations that it can take, and Recurrent, which is unrolled where it is none of them; None: all.
        without: operations that it cannot take although it has no handlers.
        refusal: a sentence on what is missing to write it; None: nothing.
    """

    write: Writer
    package: str | None = None
    notes: Callable[[Program], list[str]] = lambda program: []
    handlers: Handlers | None = None
    without: tuple[type[Operation], ...] = ()
    refusal: Callable[[], str | None] = lambda: None

    def takes(self, operation: type[Operation]) -> bool:
        """Return whether the format can hold a class of operations."""
        known = operation is Recurrent or self.handlers is None or operation in self.handlers.functions
        return known and operation not in self.without


def _one_file(suffix: str, write_file: Callable[[keras.Model, Program, Path], object]) -> Writer:
    def write(model: keras.Model, program: Program, name: str, folder: Path) -> list[Path]:
        path = folder / f"{name}{suffix}"
        write_file(model, program, path)
        return [path]

    return write


def _c(pack: bool) -> Writer:
    def write(model: keras.Model, program: Program, name: str, folder: Path) -> list[Path]:
        source = write_c(program, folder, name, pack)
        return [source.header, source.source, source.main]

    return write


def _firmware(project: str) -> Writer:
    def write(model: keras.Model, program: Program, name: str, folder: Path) -> list[Path]:
        return write_firmware(program, folder, name, project=project)

    return write


def _write_qkeras(model: keras.Model, program: Program, path: Path) -> None:
    from po2quant.deploy.to_qkeras import to_qkeras

    to_qkeras(model, path, program)


def _float32_notes(program: Program) -> list[str]:
    return [
        f"sums of {name} may need more bits than float32 has, in which this format is computed"
        for name in inexact_in_float32(settle_constant_channels(program))
    ]


def _litert_notes(program: Program) -> list[str]:
    return [
        f"integers of {name} may be up to {units} off, because LiteRT rounds its bias, or a sum, before the output"
        for name, units in deviations(program).items()
    ]


FORMATS: dict[str, Format] = {
    TEXT: Format(_one_file(".txt", lambda model, program, path: path.write_text(listing(program), encoding="utf-8"))),
    "program": Format(_one_file(".npz", lambda model, program, path: program.save(path))),
    "c": Format(_c(pack=False), handlers=CALLS),
    "c-packed": Format(_c(pack=True), handlers=CALLS),
    **{project: Format(_firmware(project), handlers=CALLS) for project in PROJECTS},
    "qonnx": Format(
        _one_file(".qonnx.onnx", lambda model, program, path: to_qonnx(program, path)), "onnx", _float32_notes, NODES
    ),
    "hls4ml": Format(
        _one_file(
            ".hls4ml.onnx",
            lambda model, program, path: to_qonnx(averages_as_products(program), path, per_channel=False),
        ),
        "onnx",
        _float32_notes,
        NODES,
    ),
    "onnx": Format(
        _one_file(".onnx", lambda model, program, path: to_onnx(program, path)), "onnx", _float32_notes, NODES
    ),
    "litert": Format(
        _one_file(".tflite", lambda model, program, path: to_litert(program, path)),
        "ai_edge_litert",
        _litert_notes,
        OPERATORS,
    ),
    "espdl": Format(
        _one_file(".espdl", lambda model, program, path: to_espdl(program, path)),
        handlers=ESPDL_OPERATORS,
        refusal=ESP_PPQ.refusal,
    ),
    QKERAS: Format(_one_file(".keras", _write_qkeras), notes=_float32_notes, without=(Recurrent,)),
}


def check_format(format: str) -> None:
    """Raise ValueError unless a format is known and what it needs is installed."""
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}. Received: {format!r}")
    package = FORMATS[format].package
    if package:
        check_installed(package, "exchange", f"format {format}")
    if reason := FORMATS[format].refusal():
        raise ValueError(reason)


def write(format: str, model: keras.Model, program: Program, name: str, folder: Path) -> list[Path]:
    """Write a network in a format, and return the files.

    Raises:
        ValueError: for an unknown format.
    """
    check_format(format)
    folder.mkdir(parents=True, exist_ok=True)
    return FORMATS[format].write(model, program, name, folder)


def write_program(format: str, program: Program, name: str, folder: Path) -> list[Path]:
    """Write an integer program alone in a format, and return the files; the arguments are those of :func:`write`.

    Raises:
        ValueError: for a format that is made of the Keras network.
    """
    check_format(format)
    if format == QKERAS:
        raise ValueError(f"format {QKERAS} needs the Keras network, not its program alone. Received: {format!r}")
    folder.mkdir(parents=True, exist_ok=True)
    return FORMATS[format].write(None, program, name, folder)


def notes(format: str, program: Program) -> list[str]:
    """Return sentences on what the readers of a format may compute otherwise than the program."""
    return FORMATS[format].notes(program)
