"""What each part of a layer's work costs on a core, and each function in bytes, fitted to compiler and emulator.

``python -m benchmarks.studies.instructions --cores m4 m0`` compiles random single layers of many widths and shapes,
counts their instructions on emulated cores, and writes the rates that :mod:`po2quant.export.cores.instructions` reads.
With ``--rare`` it only fits what random layers seldom do: functions that many layers share, packed dense layers.
With ``--moves`` it only fits extremes, concatenations, rearrangements and paddings, which few networks have.
With ``--code`` it compiles random programs of several layers, and writes those of :mod:`po2quant.export.cores.code`.
With ``--programs P`` it instead compares estimates with whole programs (``P/*.npz``, as
``benchmarks.studies.microcontroller --weights`` makes them) and writes ``benchmarks/results/instructions.csv``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.microcontroller import measure
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row
from po2quant.export.c.footprint import constant_bytes, layer_in_c
from po2quant.export.c.source import write_c
from po2quant.export.cores import code as code_estimate
from po2quant.export.cores import instructions as estimate
from po2quant.export.cores.emulator import CORES, checked_core, code_bytes, compile_for, count
from po2quant.export.cores.rates import CODE_FILE, INSTRUCTIONS_FILE, Parts, rates
from po2quant.files import read_csv, write_csv
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.operations import Operation, Tensor, Weights
from po2quant.integer.program import Output, Program
from po2quant.progress import progress_line
from po2quant.runs.folder import project_commit

RATES, CODE = (Path(estimate.__file__).with_name(file) for file in (INSTRUCTIONS_FILE, CODE_FILE))
OUTPUT = Path("benchmarks/results/instructions.csv")
WIDTHS = ((8, 8), (4, 8), (8, 4), (4, 4), (16, 16), (8, 16), (16, 8), (16, 4), (4, 16), (6, 8), (12, 12), (2, 8))
"""Bits of kernels and of inputs that layers are measured with."""

VECTOR_CORES = ("m55",)
RARE = (estimate.SHARED, estimate.PACKED_PIXEL)
SELDOM = (*ops.EXTREMES, ops.Concatenate, ops.Rearrange, ops.ZeroPadding)
KINDS = ("conv", "pixels", "depthwise", "dense")
CODE_PROGRAMS, MOST_STYLES, MOST_LAYERS, PLAIN_SHARE = 60, 6, 24, 0.15
"""Random programs a repeat; of each, the most ways in which layers with weights are computed, the most operations, and
the share of those without weights."""


def _format(bits: int, signed: bool) -> FixedPointFormat:
    return FixedPointFormat(bits, 2 - bits, signed)


def _any_format(rng: np.random.Generator) -> FixedPointFormat:
    return _format(int(rng.choice([8, 16])), bool(rng.integers(2)))


def _weights(rng: np.random.Generator, bits: int, exponent: int, *shape: int) -> Weights:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    return Weights(rng.integers(low, high, shape), exponent + rng.integers(-1, 2, shape[-1]), bits)


def _alone(inputs: Sequence[Tensor], operation: Operation, output: FixedPointFormat) -> Program:
    shape = operation.output_shape(tuple(tensor.shape for tensor in inputs))
    tensors = (*inputs, Tensor("y", shape, output))
    return Program("probe", tensors, tuple(x.name for x in inputs), (operation,), (Output("y"),))


def probes(rng: np.random.Generator, repeats: int) -> Iterator[Program]:
    """Yield programs of one operation each."""
    for _ in range(repeats):
        for kernel_bits, input_bits in WIDTHS:
            for kind in KINDS:
                yield _layer(rng, _style(rng, kind, kernel_bits, input_bits))
    for bits in (4, 8, 16):
        for _ in range(2 * repeats):
            yield _plain(rng, bits)
            yield _pooled(rng, bits)


class Style(NamedTuple):
    """What layers with weights share that are computed by the same functions."""

    kind: str
    kernel_bits: int
    x: FixedPointFormat
    y: FixedPointFormat
    relu: str


def _style(rng: np.random.Generator, kind: str, kernel_bits: int, input_bits: int) -> Style:
    x, y = (_format(bits, bool(rng.integers(2))) for bits in (input_bits, int(rng.choice([8, 16]))))
    return Style(kind, kernel_bits, x, y, str(rng.choice(["linear", "relu"])))


def _layer(rng: np.random.Generator, style: Style) -> Program:
    number = lambda low, high: int(rng.integers(low, high + 1))  # noqa: E731
    kind, kernel_bits, x, y, relu = style
    depth, channels, exponent = 4 * number(1, 9), 2 * number(2, 16), -kernel_bits - 1
    bias = _weights(rng, int(rng.choice([8, 16, 31])), number(-16, -2), channels)
    if kind == "dense":
        depth *= number(2, 8)
        kernel = _weights(rng, kernel_bits, exponent, depth, channels)
        return _alone([Tensor("x", (depth,), x)], ops.Dense("layer", ("x",), "y", kernel, bias, relu), y)
    size, image = {"conv": number(2, 4), "pixels": 1, "depthwise": 3}[kind], (number(5, 10), number(5, 8), depth)
    options: dict = {"activation": relu}
    if kind != "pixels":
        options |= {"strides": (number(1, 2),) * 2, "padding": ((1, 1), (1, 1))}
    if kind == "depthwise":
        kernel = _weights(rng, kernel_bits, exponent, size, size, 1, depth)
        bias = _weights(rng, 16, number(-16, -2), depth)
        options["groups"] = depth
    else:
        kernel = _weights(rng, kernel_bits, exponent, size, size, depth, channels)
    return _alone([Tensor("x", image, x)], ops.Conv2D("layer", ("x",), "y", kernel, bias, **options), y)


def _plain(rng: np.random.Generator, bits: int) -> Program:
    x = Tensor("x", (int(rng.integers(5, 12)), 8, 4), _format(bits, bool(rng.integers(2))))
    other = Tensor("z", x.shape, _any_format(rng))
    y = _any_format(rng)
    kind = rng.choice(["add", "multiply", "requantize", "table"])
    if kind == "requantize":
        return _alone([x], ops.Requantize("layer", ("x",), "y"), y)
    if kind == "table":
        table = np.linspace(y.min_int, y.max_int, x.format.max_int - x.format.min_int + 1).astype(np.int64)
        return _alone([x], ops.LookUpTable("layer", ("x",), "y", table, "silu"), y)
    joins = ops.Add if kind == "add" else ops.Multiply
    return _alone([x, other], joins("layer", ("x", "z"), "y"), y)


def _pooled(rng: np.random.Generator, bits: int) -> Program:
    size = int(rng.integers(2, 6))
    x = Tensor("x", (size * 2, size * 2, 4 * int(rng.integers(1, 8))), _format(bits, bool(rng.integers(2))))
    kind = ops.AveragePooling if rng.integers(2) else ops.MaxPooling
    return _alone([x], kind("layer", ("x",), "y", (size, size), (size, size)), _format(8, x.format.signed))


def _moved(rng: np.random.Generator, kind: type[Operation], bits: int) -> Program:
    x = Tensor("x", (int(rng.integers(5, 12)), 8, 4 * int(rng.integers(1, 5))), _format(bits, bool(rng.integers(2))))
    rows, columns, depth = x.shape
    if kind is ops.ZeroPadding:
        return _alone([x], ops.ZeroPadding("layer", ("x",), "y", ((1, 1), (1, 1))), x.format)
    if kind is ops.Rearrange:
        turned = ops.Rearrange("layer", ("x",), "y", (columns, rows, depth), (depth, columns * depth, 1), 0)
        return _alone([x], turned, x.format)
    other = Tensor("z", x.shape, _any_format(rng))
    options = {"axis": int(rng.integers(3))} if kind is ops.Concatenate else {}
    y = _any_format(rng)
    return _alone([x, other], kind("layer", ("x", "z"), "y", **options), y)


def random_programs(rng: np.random.Generator, count: int) -> Iterator[Program]:
    """Yield programs of several operations side by side, some of which are computed by the same functions."""
    for _ in range(count):
        widths = [WIDTHS[place] for place in rng.integers(len(WIDTHS), size=3)]
        styles = [
            _style(rng, str(rng.choice(KINDS)), *widths[rng.integers(3)])
            for _ in range(rng.integers(1, MOST_STYLES + 1))
        ]
        layers = []
        for _ in range(rng.integers(1, MOST_LAYERS + 1)):
            if rng.random() < PLAIN_SHARE:
                layers.append((_plain if rng.random() < 0.5 else _pooled)(rng, int(rng.choice([4, 8, 16]))))
            else:
                layers.append(_layer(rng, styles[rng.integers(len(styles))]))
        yield _side_by_side(layers)


def _side_by_side(programs: Sequence[Program]) -> Program:
    """Return one program of several that have one operation each."""
    tensors, inputs, operations = list[Tensor](), list[str](), list[Operation]()
    for number, program in enumerate(programs):
        named = {tensor.name: f"{tensor.name}{number}" for tensor in program.tensors}
        tensors += [dataclasses.replace(tensor, name=named[tensor.name]) for tensor in program.tensors]
        inputs += [named[name] for name in program.inputs]
        (alone,) = program.operations
        reads = tuple(named[name] for name in alone.inputs)
        operations.append(
            dataclasses.replace(alone, name=f"{alone.name}{number}", inputs=reads, output=named[alone.output])
        )
    outputs = tuple(Output(operation.output) for operation in operations)
    return Program("probe", tuple(tensors), tuple(inputs), tuple(operations), outputs)


def counted(core: str, program: Program, pack: bool, is_shared: bool, folder: Path) -> int:
    """Return the instructions of one inference; with functions for any sizes where many operations would share them."""
    rng = np.random.default_rng(0)
    formats = [program.tensor[name] for name in program.inputs]
    inputs = [rng.integers(t.format.min_int, t.format.max_int + 1, (1, *t.shape)) for t in formats]
    flags = ("-O3", *["-fno-ipa-cp"] * is_shared)
    executable = compile_for(CORES[core], write_c(program, folder, "network", pack), folder, flags=flags)
    return count(CORES[core], executable, inputs)[0].total


def compiled(core: str, program: Program, pack: bool, folder: Path) -> int:
    """Return the bytes of code of a program."""
    return code_bytes(CORES[core], compile_for(CORES[core], write_c(program, folder, "network", pack), folder))[0]


Fit = tuple[dict[str, float], float]
"""Rates of parts on a core, and the mean relative deviation of what they were fitted to."""


def fit(core: str, repeats: int, seed: int) -> Fit:
    """Return what the parts of a layer's work take in instructions."""
    samples = []
    for number, program in enumerate(probes(np.random.default_rng(seed), repeats)):
        pack = number % 3 == 2
        work = estimate.work_of_program(program, pack)
        samples.append((work, functools.partial(counted, core, program, pack, False)))
    return _fitted(core, samples, unused="products take_vectors" if core in VECTOR_CORES else "vector")


def fit_rare(core: str, repeats: int, seed: int) -> Fit:
    """Return what random layers seldom do, given the rates that are there.

    That is what layers take more whose functions many share, and packed dense layers of 4 bits.
    """
    samples, rng = [], np.random.default_rng(seed)
    for _ in range(repeats):
        for number, (kernel_bits, input_bits) in enumerate(WIDTHS):
            for kind in KINDS:
                program, pack = _layer(rng, _style(rng, kind, kernel_bits, input_bits)), number % 3 == 2
                work = estimate.work_of(program, program.operations[0], pack, is_shared=True)
                samples.append((work, functools.partial(counted, core, program, pack, True)))
            program = _layer(rng, _style(rng, "dense", 4, input_bits))
            samples.append(
                (estimate.work_of_program(program, True), functools.partial(counted, core, program, True, False))
            )
    known = {part: rate for part, rate in rates()[core].items() if not any(name in part for name in RARE)}
    # without -fipa-cp, vector kernels are far slower than those that layers share in whole programs
    return _fitted(core, samples, known, unused=estimate.SHARED if core in VECTOR_CORES else "-")


def fit_moves(core: str, repeats: int, seed: int) -> Fit:
    """Return what operations that few networks have take in instructions, given the rates that are there."""
    samples, rng = [], np.random.default_rng(seed)
    for _ in range(repeats):
        for kind, bits in itertools.product(SELDOM, (4, 8, 16)):
            program = _moved(rng, kind, bits)
            samples.append((estimate.work_of_program(program), functools.partial(counted, core, program, False, False)))
    names = {kind.__name__ for kind in SELDOM}
    return _fitted(core, samples, {part: rate for part, rate in rates()[core].items() if part.split()[0] not in names})


def fit_code(core: str, repeats: int, seed: int) -> Fit:
    """Return what functions, their copies and calls take in bytes."""
    samples = []
    for number, program in enumerate(random_programs(np.random.default_rng(seed), CODE_PROGRAMS * repeats)):
        pack = number % 3 == 2
        code = code_estimate.code_of_program(program, pack)
        samples.append((code, functools.partial(compiled, core, program, pack)))
    return _fitted(core, samples)


def _fitted(
    core: str,
    samples: Sequence[tuple[Parts, Callable[[Path], int]]],
    known: Mapping[str, float] = MappingProxyType({}),
    unused: str = "-",
) -> Fit:
    """Return the rate of each part that explains what is measured of samples.

    Args:
        core: its name.
        samples: parts, and what measures them together, given a folder for its files.
        known: rates of further parts.
        unused: how the names of parts begin that the core does not do.
    """
    totals = []
    with progress_line(core, len(samples)) as line, tempfile.TemporaryDirectory() as folder:
        for _, measured in samples:
            totals.append(measured(Path(folder)))
            line.advance()
    parts = sorted({part for work, _ in samples for part in work} - known.keys())
    done = [not part.startswith(unused) for part in parts]
    matrix = np.array([[work[part] for part in parts] for work, _ in samples]) * done / np.array(totals)[:, None]
    rest = 1.0 - np.array([sum(work[part] * rate for part, rate in known.items()) for work, _ in samples]) / totals
    found, _ = nnls(matrix, rest)
    deviation = float(np.mean(np.abs(matrix @ found - rest)))
    return dict(zip(parts, found.round(4).tolist(), strict=True)), deviation


FITS = {
    "code": (CODE, fit_code, "bytes of code, not instructions"),
    "rare": (RATES, fit_rare, "only what random layers seldom do"),
    "moves": (RATES, fit_moves, "only what few networks have"),
}
"""Fits by option: the file, the function and the help."""


def compare(folder: Path, cores: Sequence[str], command: str) -> None:
    """Write estimates and measurements of whole programs; rows of the same program, core and form are replaced."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise ValueError(f"--programs must be a folder of integer programs, *.npz. Received: {folder}, which has none")
    for path in paths:
        program = Program.load(path)
        layers = [layer_in_c(program, step, True) for step in program.operations if isinstance(step, ops.Weighted)]
        for core in cores:
            for pack in (False, True)[: 1 + any(layer.packed_bits for layer in layers)]:
                row = {"program": path.stem, "core": core, "packed": int(pack)} | compared(program, core, pack)
                add_row(OUTPUT, row | {"commit": project_commit(), "command": command}, ("program", "core", "packed"))
                sys.stdout.write(f"{row}\n")
                sys.stdout.flush()


def compared(program: Program, core: str, pack: bool) -> dict[str, object]:
    """Return estimates of a program, what compiler and emulator say, and the ratios of instructions and of flash."""
    found = measure(program, CORES[core], pack, "O3")
    about = round(estimate.instructions(core, estimate.work_of_program(program, pack)))
    constants = sum(constant_bytes(program, operation, pack) for operation in program.operations)
    code, ratio = None, None
    if core in rates(CODE_FILE):
        code = round(code_estimate.code_bytes(core, code_estimate.code_of_program(program, pack)))
        ratio = round((code + constants) / (found["code_bytes"] + found["constant_bytes"]), 3)
    return {
        "estimated": about,
        "counted": found["instructions"],
        "ratio": round(about / found["instructions"], 3),
        "estimated_code_bytes": code,
        "code_bytes": found["code_bytes"],
        "estimated_constant_bytes": constants,
        "constant_bytes": found["constant_bytes"],
        "flash_ratio": ratio,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.instructions", description=__doc__)
    parser.add_argument("--cores", nargs="+", choices=tuple(CORES), default=("m4", "m0", "m55"))
    parser.add_argument("--repeats", type=int, default=4, help="random layers of each kind and pair of widths")
    parser.add_argument("--seed", type=int, default=0, help="of the random layers")
    only = parser.add_mutually_exclusive_group()
    for name, (*fitted, meaning) in FITS.items():
        only.add_argument(f"--{name}", action="store_const", dest="fit", const=fitted, help=meaning)
    parser.add_argument("--programs", type=Path, help="only compare: a folder of integer programs")
    options = parser.parse_args(arguments)
    with ending_in_words(parser, "stopped"):
        for core in options.cores:
            checked_core(core)
        if options.programs is not None:
            compare(options.programs, options.cores, command_line("benchmarks.studies.instructions", arguments))
            return
        file, fit_rates = options.fit or (RATES, fit)
        for core in options.cores:
            fitted, deviation = fit_rates(core, options.repeats, options.seed)
            known = {(row["core"], row["part"]): row["rate"] for row in read_csv(file, missing_ok=True)}
            every = known | {(core, part): rate for part, rate in fitted.items()}
            write_csv(file, [{"core": core, "part": part, "rate": rate} for (core, part), rate in every.items()])
            sys.stdout.write(f"{core}: {len(fitted)} rates, mean deviation of the fit {deviation:.1%}\n")


if __name__ == "__main__":
    main()
