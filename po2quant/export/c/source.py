"""An integer program as C99: a header and a source without heap, floating point or library.

Every tensor is the smallest C integer that holds its format, and lies in one static arena, or where the caller keeps
inputs and outputs. Kernels are ``(channel, row, column, depth)``, so that each output is one product of two contiguous
rows, which gcc vectorises; the inputs of an output pixel are first gathered into a patch. Biases are aligned already.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from string import Template

from po2quant.export.c.block import BlockSource, storage_of
from po2quant.export.c.functions import kernel_text
from po2quant.export.c.operations import Calls
from po2quant.export.c.types import tensor_dtype
from po2quant.files import replaced_whole
from po2quant.integer.checks import shown
from po2quant.integer.operations import LINEAR, Tensor
from po2quant.integer.program import Program

TRACE_MACRO = "PO2QUANT_TRACE"
MAX_NAME_LENGTH = 128
C_HEADERS = (
    *("assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math"),
    *("setjmp", "signal", "stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "tgmath", "time"),
    *("wchar", "wctype"),
)
"""Names of files that would take the place of the language's own."""

HEADER = Template("""\
#ifndef ${prefix}_H
#define ${prefix}_H

#include <stddef.h>
#include <stdint.h>

#define ${prefix}_ARENA_BYTES $arena_bytes
#define ${prefix}_WEIGHT_BYTES $weight_bytes

$macros

/* Run one sample. Inputs must be in their ranges; inputs and outputs must not overlap. Not reentrant. */
void ${name}_run($parameters);

#ifdef $trace
/* Yours to define: called with every tensor of the program as soon as it is there. */
void ${name}_trace(const char *tensor, const void *integers, size_t size_bytes);
#endif

#endif
""")

TRACE = Template("""\
#ifdef $trace
#define TRACE(tensor, size_bytes) ${name}_trace(#tensor, tensor, size_bytes)
#else
#define TRACE(tensor, size_bytes) ((void)(tensor))
#endif
""")

MAIN = Template("""\
/* Reads samples of raw integers, input by input, and writes the outputs of each; with $trace also all tensors. */
#include <stdio.h>

#include "$name.h"

$arrays

#ifdef $trace
enum { FILES = 3 };
static FILE *tensors;

void ${name}_trace(const char *tensor, const void *integers, size_t size_bytes)
{
    (void)tensor;
    (void)fwrite(integers, 1, size_bytes, tensors);
}
#else
enum { FILES = 2 };
#endif

int main(int argc, char **argv)
{
    if (argc != FILES + 1) {
        fprintf(stderr, "%s needs %d files: inputs, outputs, and with $trace tensors\\n", argv[0], FILES);
        return 2;
    }
    FILE *const inputs = fopen(argv[1], "rb");
    FILE *const outputs = fopen(argv[2], "wb");
    if (inputs == NULL || outputs == NULL) {
        fprintf(stderr, "%s cannot open %s or %s\\n", argv[0], argv[1], argv[2]);
        return 1;
    }
#ifdef $trace
    tensors = fopen(argv[3], "wb");
    if (tensors == NULL) {
        fprintf(stderr, "%s cannot open %s\\n", argv[0], argv[3]);
        return 1;
    }
#endif
    int written = 1;
    while (written && $reads) {
        ${name}_run($arguments);
        written = $writes;
    }
    written = fclose(outputs) == 0 && written;
#ifdef $trace
    written = !ferror(tensors) && fclose(tensors) == 0 && written;
#endif
    (void)fclose(inputs);
    return written ? 0 : 1;
}
""")


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
            name: f"t{i}_{re.sub(r'[^A-Za-z0-9]', '_', name)}"
            for i, name in enumerate(name for block in program.blocks for name in block.tensor)
        }
        self.inputs = _numbered("input", len(program.inputs))
        self.outputs = _numbered("output", len(program.outputs))
        self.calls = Calls(program, self.identifiers, pack)
        self._storage = storage_of(program)
        self._block = BlockSource(self.calls, self._of_caller(), "arena.bytes")
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
        lines = [block.declaration(name) for name in program.tensor] + block.statements()
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

    def _caller_tensors(self) -> list[tuple[str, Tensor, str]]:
        """Return the parameter, the tensor and the host's function of all inputs and outputs."""
        tensor, program = self.program.tensor, self.program
        inputs = [(p, tensor[name], "") for p, name in zip(self.inputs, program.inputs, strict=True)]
        outputs = zip(self.outputs, program.outputs, strict=True)
        return inputs + [(p, tensor[output.tensor], output.host_function) for p, output in outputs]

    def header(self) -> str:
        """Return the interface: sizes, exponents and the function."""
        prefix, macros = self.name.upper(), []
        for parameter, tensor, host in self._caller_tensors():
            shape = " x ".join(map(str, tensor.shape))
            then = f", then {host}" if host not in ("", LINEAR) else ""
            label = f"{prefix}_{parameter.upper()}"
            macros += [
                f"/* {parameter}: {shape}, {tensor.format.min_int} to {tensor.format.max_int}, "
                f"value = integer * 2**exponent{then} */",
                f"#define {label}_SIZE {tensor.size}",
                f"#define {label}_EXPONENT ({tensor.format.exponent})",
            ]
        return HEADER.substitute(
            name=self.name,
            prefix=prefix,
            arena_bytes=self.arena.size_bytes,
            weight_bytes=self.calls.constant_bytes,
            macros="\n".join(macros),
            parameters=self._parameters(),
            trace=TRACE_MACRO,
        )

    def source(self) -> str:
        """Return the constants and functions."""
        size = self.arena.size_bytes
        arena = [f"static union {{\n    uint8_t bytes[{size}];\n    int64_t alignment;\n}} arena;\n"] if size else []
        calls = self.calls
        trace = TRACE.substitute(name=self.name, trace=TRACE_MACRO)
        parts = [*calls.functions.texts.values(), *calls.constants, *arena, trace, *calls.loops]
        body = "".join(f"    {line}\n" for line in self.statements)
        run = f"void {self.name}_run({self._parameters()})\n{{\n{body}}}\n"
        return "\n".join([f'#include "{self.name}.h"\n', kernel_text("prelude"), *parts, run])

    def main(self) -> str:
        """Return a program that runs a file of inputs."""
        prefix = self.name.upper()
        arrays = [
            f"static {tensor_dtype(tensor).name}_t {p}[{prefix}_{p.upper()}_SIZE];"
            for p, tensor, _ in self._caller_tensors()
        ]
        reads = [f"fread({p}, sizeof {p}, 1, inputs) == 1" for p in self.inputs]
        writes = [f"fwrite({p}, sizeof {p}, 1, outputs) == 1" for p in self.outputs]
        return MAIN.substitute(
            name=self.name,
            trace=TRACE_MACRO,
            arrays="\n".join(arrays),
            reads=" && ".join(reads),
            writes=" && ".join(writes),
            arguments=", ".join((*self.inputs, *self.outputs)),
        )


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
