"""What ``po2quant export`` writes, by name of the format."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import keras

from po2quant.deploy.c_source import write_c
from po2quant.deploy.listing import listing
from po2quant.deploy.program import Program

Writer = Callable[[keras.Model, Program, str, Path], list[Path]]
"""Given the frozen model, its program, a name that is a C identifier, and a folder, writes files and returns them."""


def _write_text(model: keras.Model, program: Program, name: str, folder: Path) -> list[Path]:
    path = folder / f"{name}.txt"
    path.write_text(listing(program), encoding="utf-8")
    return [path]


def _write_program(model: keras.Model, program: Program, name: str, folder: Path) -> list[Path]:
    path = folder / f"{name}.npz"
    program.save(path)
    return [path]


def _write_c(model: keras.Model, program: Program, name: str, folder: Path, pack: bool) -> list[Path]:
    source = write_c(program, folder, name, pack)
    return [source.header, source.source, source.main]


FORMATS: dict[str, Writer] = {
    "text": _write_text,
    "program": _write_program,
    "c": functools.partial(_write_c, pack=False),
    "c-packed": functools.partial(_write_c, pack=True),
}


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
