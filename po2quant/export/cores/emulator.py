"""Compiles the C of a program for a microcontroller's core, runs it on QEMU, and counts instructions.

The count repeats exactly for one compiler and one input. It is a count of instructions, not of cycles.
"""

from __future__ import annotations

import bisect
import dataclasses
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from po2quant.export.c.run import COMPILER as HOST_COMPILER
from po2quant.export.c.run import Executable, call, files_of_run
from po2quant.export.c.source import TRACE_MACRO, CSource
from po2quant.integer.interpreter import Arrays

FIRMWARE = Path(__file__).with_name("firmware")
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror")
HARNESS = re.compile(r"h_\w+|main")
"""Functions that are no part of a network."""


@dataclasses.dataclass(frozen=True)
class Core:
    """A processor core on an emulated board.

    Args:
        label: its name for people.
        compiler: of C.
        flags: that choose its instructions.
        emulator: the command that runs a program on it, up to the program.
        start: its start-up file.
        code_origin: first address of code.
        data_origin: first address of data; None: behind the code.
        data_bytes: memory for data and stack.
        packages: Debian packages that have the tools.
    """

    label: str
    compiler: str
    flags: tuple[str, ...]
    emulator: tuple[str, ...]
    start: str
    code_origin: int
    data_origin: int
    data_bytes: int
    packages: tuple[str, ...]

    def missing_tools(self) -> tuple[str, ...]:
        """Return the commands it needs that are not on the PATH."""
        return tuple(tool for tool in (self.compiler, self.emulator[0], HOST_COMPILER) if shutil.which(tool) is None)


_QEMU = ("-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native")
_MIB = 2**20


def _cortex_m(label: str, cpu: str, board: str, data_bytes: int = 4 * _MIB, *flags: str) -> Core:
    return Core(
        f"Arm Cortex-{label}",
        "arm-none-eabi-gcc",
        (f"-mcpu=cortex-{cpu}", "-mthumb", *flags),
        ("qemu-system-arm", "-M", board, *_QEMU),
        "start_arm.c",
        0,
        0x20000000,
        data_bytes,
        ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"),
    )


def _riscv32(label: str, instructions: str) -> Core:
    return Core(
        label,
        "riscv64-unknown-elf-gcc",
        (f"-march={instructions}", "-mabi=ilp32", "-mcmodel=medany", "--specs=picolibc.specs"),
        ("qemu-system-riscv32", "-M", "virt", "-bios", "none", *_QEMU),
        "start_riscv.c",
        0x80000000,
        0x80400000,
        4 * _MIB,
        ("gcc-riscv64-unknown-elf", "picolibc-riscv64-unknown-elf", "qemu-system-misc"),
    )


CORES: dict[str, Core] = {
    "m0": _cortex_m("M0+", "m0plus", "mps2-an386"),
    "m4": _cortex_m("M4", "m4", "mps2-an386"),
    "m7": _cortex_m("M7", "m7", "mps2-an500"),
    "m55": _cortex_m("M55", "m55", "mps3-an547", _MIB // 2, "-mfloat-abi=hard"),
    "rv32imc": _riscv32("RISC-V rv32imc", "rv32imc"),
}
"""Cores by name. A board of a Cortex-M4 runs what is compiled for a Cortex-M0+."""


@dataclasses.dataclass(frozen=True)
class Count:
    """What one run took.

    Args:
        instructions: executed, by function of the network and of the libraries that it calls.
        stack_bytes: the deepest stack, that of the harness included.
    """

    instructions: dict[str, int]
    stack_bytes: int

    @property
    def total(self) -> int:
        """Instructions of all functions."""
        return sum(self.instructions.values())


def checked_core(name: str) -> Core:
    """Return a core.

    Raises:
        ValueError: for an unknown core, or one whose tools are missing.
    """
    if name not in CORES:
        raise ValueError(f"core must be one of {', '.join(CORES)}. Received: {name!r}")
    core = CORES[name]
    if missing := core.missing_tools():
        raise ValueError(
            f"core {name} needs {', '.join(missing)} on the PATH: apt-get install {' '.join(core.packages)}. "
            "Received: none"
        )
    return core


def compile_for(
    core: Core, source: CSource, folder: str | os.PathLike, trace: bool = False, flags: Sequence[str] = ("-O3",)
) -> Executable:
    """Compile a program for a core, without a warning.

    Args:
        core: of :data:`CORES`.
        source: what :func:`po2quant.export.c.source.write_c` returned.
        folder: where all files go; it is made if there is none.
        trace: also write every tensor.
        flags: for the compiler.

    Raises:
        RuntimeError: where the compiler refuses or warns of the files.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    network, program = folder / f"{source.name}.o", folder / f"{source.name}.elf"
    macros = [f"-D{TRACE_MACRO}"] if trace else []
    compiler: list[str | os.PathLike] = [core.compiler, *core.flags, *macros]
    call([*compiler, *WARNINGS, *flags, "-ffunction-sections", "-c", source.source, "-o", network])
    places = {"code_origin": core.code_origin, "data_origin": core.data_origin, "data_bytes": core.data_bytes}
    harness = [FIRMWARE / "harness.c", FIRMWARE / core.start]
    origins = [f"-Wl,--defsym=h_{place}={value}" for place, value in places.items()]
    link = ["-nostartfiles", f"-T{FIRMWARE / 'core.ld'}", "-Wl,--gc-sections,--no-warn-rwx-segments", *origins]
    call([*compiler, "-O2", "-std=gnu99", f"-I{FIRMWARE}", *link, *harness, source.main, network, "-o", program])
    return Executable(source, program, trace, (*core.emulator, "-kernel", str(program)))


def count(core: Core, executable: Executable, integers: Arrays) -> tuple[Count, bytes]:
    """Run a program that :func:`compile_for` made, and count.

    Args:
        core: that it was made for.
        executable: the program.
        integers: as :meth:`po2quant.export.c.run.Executable.run` takes them; one sample for one inference.

    Returns:
        The count, and the outputs' bytes.
    """
    folder = executable.path.parent
    plugin, counts = folder / "count.so", folder / "counts.txt"
    if not plugin.exists():
        call([HOST_COMPILER, "-O2", "-shared", "-fPIC", "-o", plugin, FIRMWARE / "count.c"])
    counting = ("-plugin", f"file={plugin},out={counts},base={core.code_origin:#x}")
    outputs = files_of_run(dataclasses.replace(executable, command=(*executable.command, *counting)), integers)[1]
    stack = int.from_bytes((folder / "stack.bin").read_bytes(), "little")
    return Count(_by_function(core, executable.path, counts), stack), outputs.read_bytes()


def _by_function(core: Core, program: Path, counts: Path) -> dict[str, int]:
    """Return how many instructions of each function were executed."""
    symbols = []
    for line in call([f"{core.compiler.removesuffix('gcc')}nm", program]).splitlines():
        address, kind, name = line.split()[-3:] if len(line.split()) == 3 else ("0", "", "")
        if kind in "tTwW" and kind and not name.startswith("$"):
            symbols.append((int(address, 16) & ~1, name))
    symbols.sort()
    starts, totals = [start for start, _ in symbols], Counter[str]()
    for line in counts.read_text().splitlines():
        address, times = line.split()
        name = symbols[max(bisect.bisect_right(starts, int(address, 16)) - 1, 0)][1]
        if not HARNESS.fullmatch(name):
            totals[name] += int(times)
    return dict(totals.most_common())


def code_bytes(core: Core, executable: Executable) -> tuple[int, int]:
    """Return the bytes of code, and of constants, of a network's object file."""
    size = subprocess.run(
        [f"{core.compiler.removesuffix('gcc')}size", "-A", executable.path.with_suffix(".o")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split() for line in size.splitlines() if line.startswith(".")]
    sizes = {prefix: sum(int(row[1]) for row in rows if row[0].startswith(prefix)) for prefix in (".text", ".rodata")}
    return sizes[".text"], sizes[".rodata"]
