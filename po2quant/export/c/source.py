"""An integer program as C99: a header and a source without heap, floating point or library.

Every tensor is the smallest C integer that holds its format, and lies in one static arena, or where the caller keeps
inputs and outputs. Kernels are ``(channel, row, column, depth)``, so that each output is one product of two contiguous
rows, which gcc vectorises; the inputs of an output pixel are first gathered into a patch. Biases are aligned already.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import os
import re
from pathlib import Path
from string import Template

from po2quant import __version__
from po2quant.export.c.block import BlockSource, storage_of
from po2quant.export.c.functions import kernel_text
from po2quant.export.c.operations import Calls
from po2quant.export.c.types import tensor_dtype
from po2quant.files import replaced_whole
from po2quant.integer.checks import shown
from po2quant.integer.operations import LINEAR, Tensor
from po2quant.integer.program import Program

TRACE_MACRO, PROFILE_MACRO = "PO2QUANT_TRACE", "PO2QUANT_PROFILE"
MAX_NAME_LENGTH = 128
MAX_LABEL_LENGTH = 24
"""Characters of a tensor's name in C: with the names of functions around it, below the 63 that C99 distinguishes."""
C_HEADERS = (
    *("assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math"),
    *("setjmp", "signal", "stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "tgmath", "time"),
    *("wchar", "wctype"),
)
"""Names of files that would take the place of the language's own."""

BANNER = Template("""\
$name: an integer network, written by po2quant $version. SHA-256 of its functions and constants begins with $hash.
 * This file is yours, without conditions or warranty. Of libraries it calls memcpy, memmove and memset at most, and
 * what the compiler itself brings for divisions and for integers of 64 bits.""")

ATTRIBUTES = Template("""\
/* Yours to define, e.g. as __attribute__((section(".itcm"))): of all constants, and of the static arena. */
#ifndef ${prefix}_WEIGHT_ATTRIBUTES
#define ${prefix}_WEIGHT_ATTRIBUTES
#endif
#ifndef ${prefix}_ARENA_ATTRIBUTES
#define ${prefix}_ARENA_ATTRIBUTES
#endif
#define WEIGHT_ATTRIBUTES ${prefix}_WEIGHT_ATTRIBUTES
""")

RUN = Template("""\
SHARED void ${name}_run_with(void *arena, $parameters)
{
$body}

#ifndef ${prefix}_NO_ARENA
void ${name}_run($parameters)
{
    static union {
        uint8_t bytes[$size];
        int64_t alignment;
    } arena ${prefix}_ARENA_ATTRIBUTES;
    ${name}_run_with(arena.bytes, $arguments);
}
#endif
""")


def filled(template: str, **fields: object) -> str:
    """Return a file of ``templates/`` with its ``$fields`` filled in."""
    file = importlib.resources.files(__package__).joinpath("templates", template)
    return Template(file.read_text(encoding="ascii")).substitute(fields)


@dataclasses.dataclass(frozen=True)
class CSource:
    """The files of a program in C.

    Args:
        program: what they compute.
        name: prefix of their functions and macros.
        header: the interface.
        source: the network.
        main: a program that runs a file of inputs; a device does not need it.
        arena_bytes: memory for tensors, without those of the caller.
        weight_bytes: constants: kernels, biases, shifts and tables.
    """

    program: Program
    name: str
    header: Path
    source: Path
    main: Path
    arena_bytes: int
    weight_bytes: int


def write_c(program: Program, folder: str | os.PathLike, name: str, pack: bool = False) -> CSource:
    """Write a program as ``<name>.h``, ``<name>.c`` and ``<name>_main.c``.

    Args:
        program: the program.
        folder: where the files go; it is made if there is none.
        name: a C identifier, the prefix of all that the header declares.
        pack: store each weight in its own number of bits instead of in 8, 16 or 32: smaller, but slower to read.

    Raises:
        ValueError: for a name that is no C identifier.

    Example:
        >>> source = write_c(program, "build", "digits")  # doctest: +SKIP
    """
    is_identifier = isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII)
    if not is_identifier or len(name) > MAX_NAME_LENGTH or name.lower() in C_HEADERS:
        raise ValueError(
            f"name must be a C identifier that begins with a letter, of at most {MAX_NAME_LENGTH} characters, and no "
            f"header of C. Received: {shown(name)}"
        )
    network = _Network(program, name, pack)
    texts = {f"{name}.h": network.header(), f"{name}.c": network.source(), f"{name}_main.c": network.main()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        with replaced_whole(folder / file) as temporary:
            temporary.write_text(text, encoding="ascii")
    header, source, main = (folder / file for file in texts)
    return CSource(program, name, header, source, main, network.arena.size_bytes, network.calls.constant_bytes)


def memory_bytes(program: Program, pack: bool = False) -> tuple[int, int]:
    """Return the bytes of a program's constants and of its arena in C, as :func:`write_c` would report them."""
    network = _Network(program, "network", pack)
    return network.calls.constant_bytes, network.arena.size_bytes


class _Network:
    """The texts of a program's files."""

    def __init__(self, program: Program, name: str, pack: bool) -> None:
        self.program, self.name = program, name
        self.identifiers = {
            name: f"t{i}_{re.sub(r'[^A-Za-z0-9]', '_', name[:MAX_LABEL_LENGTH])}"
            for i, name in enumerate(name for block in program.blocks for name in block.tensor)
        }
        self.inputs = _numbered("input", len(program.inputs))
        self.outputs = _numbered("output", len(program.outputs))
        self.calls = Calls(program, self.identifiers, pack)
        self._storage = storage_of(program)
        self._block = BlockSource(self.calls, self._of_caller(), "(uint8_t *)arena")
        self.arena = self._block.arena
        self.statements = self._statements()

    def _of_caller(self) -> dict[str, str]:
        """Return the parameter that holds each tensor of the caller."""
        held = dict(zip(self.program.inputs, self.inputs, strict=True))
        for output, parameter in zip(self.program.outputs, self.outputs, strict=True):
            held.setdefault(self._storage[output.tensor], parameter)
        return held

    def _statements(self) -> list[str]:
        program, block, held = self.program, self._block, self._of_caller()
        lines = ["(void)arena;"]
        lines += [block.declaration(name) for name in program.tensor] + block.statements()
        for output, parameter in zip(program.outputs, self.outputs, strict=True):
            if held[self._storage[output.tensor]] != parameter:
                lines += [
                    f"for (int32_t i = 0; i < {program.tensor[output.tensor].size}; ++i)",
                    f"    {parameter}[i] = {self.identifiers[output.tensor]}[i];",
                ]
        return lines

    def _parameters(self) -> str:
        inputs = [f"const {self._c_type(x)} *{p}" for x, p in zip(self.program.inputs, self.inputs, strict=True)]
        outputs = zip(self.program.outputs, self.outputs, strict=True)
        return ", ".join([*inputs, *(f"{self._c_type(output.tensor)} *{p}" for output, p in outputs)])

    def _c_type(self, name: str) -> str:
        return f"{tensor_dtype(self.program.tensor[name]).name}_t"

    def header(self) -> str:
        """Return the interface: sizes, exponents and the function."""
        prefix, macros = self.name.upper(), []
        inputs, outputs = caller_tensors(self.program)
        hosts = [""] * len(inputs) + [output.host_function for output in self.program.outputs]
        for (parameter, tensor), host in zip([*inputs, *outputs], hosts, strict=True):
            shape = " x ".join(map(str, tensor.shape))
            then = f", then {host}" if host not in ("", LINEAR) else ""
            label = f"{prefix}_{parameter.upper()}"
            macros += [
                f"/* {parameter}: {shape}, {tensor.format.min_int} to {tensor.format.max_int}, "
                f"value = integer * 2**exponent{then} */",
                f"#define {label}_SIZE {tensor.size}",
                f"#define {label}_EXPONENT ({tensor.format.exponent})",
            ]
        with_parameters = f"void *arena, {self._parameters()}"
        return filled(
            "network.h",
            name=self.name,
            prefix=prefix,
            banner=BANNER.substitute(name=self.name, version=__version__, hash=self.hash),
            with_parameters=with_parameters,
            profile=PROFILE_MACRO,
            arena_bytes=self.arena.size_bytes,
            weight_bytes=self.calls.constant_bytes,
            macros="\n".join(macros),
            parameters=self._parameters(),
            trace=TRACE_MACRO,
        )

    def source(self) -> str:
        """Return the constants and functions."""
        hooks = filled("hooks.c", name=self.name, trace=TRACE_MACRO, profile=PROFILE_MACRO)
        attributes = ATTRIBUTES.substitute(prefix=self.name.upper())
        parts = [*self.calls.functions.texts.values(), *self.calls.constants, hooks, *self.calls.loops]
        return "\n".join([f'#include "{self.name}.h"\n', attributes, kernel_text("prelude"), *parts, self._run()])

    def _run(self) -> str:
        """Return the two functions of the interface."""
        body = "".join(f"    {line}\n" for line in self.statements)
        parameters, arguments = self._parameters(), ", ".join([*self.inputs, *self.outputs])
        return RUN.substitute(
            name=self.name,
            prefix=self.name.upper(),
            parameters=parameters,
            arguments=arguments,
            size=max(self.arena.size_bytes, 1),
            body=body,
        )

    @property
    def hash(self) -> str:
        """What tells this network in C from others."""
        texts = (*self.calls.functions.texts.values(), *self.calls.constants, *self.calls.loops, *self.statements)
        return hashlib.sha256("\n".join(texts).encode("ascii")).hexdigest()[:16]

    def main(self) -> str:
        """Return a program that runs a file of inputs."""
        prefix = self.name.upper()
        arrays = [
            f"static {tensor_dtype(tensor).name}_t {p}[{prefix}_{p.upper()}_SIZE];"
            for tensors in caller_tensors(self.program)
            for p, tensor in tensors
        ]
        reads = [f"fread({p}, sizeof {p}, 1, inputs) == 1" for p in self.inputs]
        writes = [f"fwrite({p}, sizeof {p}, 1, outputs) == 1" for p in self.outputs]
        return filled(
            "main.c",
            name=self.name,
            trace=TRACE_MACRO,
            arrays="\n".join(arrays),
            reads=" && ".join(reads),
            writes=" && ".join(writes),
            arguments=", ".join((*self.inputs, *self.outputs)),
        )


def caller_tensors(program: Program) -> tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]:
    """Return the parameter and the tensor of all inputs, and of all outputs."""
    names = tuple(output.tensor for output in program.outputs)
    inputs, outputs = (
        [(parameter, program.tensor[name]) for parameter, name in zip(_numbered(kind, len(held)), held, strict=True)]
        for kind, held in (("input", program.inputs), ("output", names))
    )
    return inputs, outputs


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
