"""What each part of a layer's work costs on a core, fitted to layers that ran under emulation.

``python -m benchmarks.studies.instructions --cores m4 m0`` compiles random single layers of many widths and shapes,
counts their instructions on emulated cores, and writes the rates that :mod:`po2quant.export.cores.instructions` reads.
With ``--programs P`` it instead compares estimate and count of whole programs (``P/*.npz``, as
``benchmarks.studies.microcontroller --weights`` makes them) and writes ``benchmarks/results/instructions.csv``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks.studies.microcontroller import measure
from benchmarks.studies.provenance import command_line
from po2quant.export.c.source import write_c
from po2quant.export.cores import instructions as estimate
from po2quant.export.cores.emulator import CORES, checked_core, compile_for, count
from po2quant.files import read_csv, write_csv
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.operations import Operation, Tensor, Weights
from po2quant.integer.program import Output, Program
from po2quant.progress import progress_line
from po2quant.runs.folder import project_commit

RATES = Path(estimate.__file__).with_name(estimate.RATES_FILE)
OUTPUT = Path("benchmarks/results/instructions.csv")
WIDTHS = ((8, 8), (4, 8), (8, 4), (4, 4), (16, 16), (8, 16), (16, 8), (16, 4), (4, 16), (6, 8), (12, 12), (2, 8))
"""Bits of kernels and of inputs that layers are measured with."""


def _format(bits: int, signed: bool) -> FixedPointFormat:
    return FixedPointFormat(bits, 2 - bits, signed)


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
            for kind in ("conv", "pixels", "depthwise", "dense"):
                yield _layer(rng, kind, kernel_bits, input_bits)
    for bits in (4, 8, 16):
        for _ in range(2 * repeats):
            yield _plain(rng, bits)
            yield _pooled(rng, bits)


def _layer(rng: np.random.Generator, kind: str, kernel_bits: int, input_bits: int) -> Program:
    number = lambda low, high: int(rng.integers(low, high + 1))  # noqa: E731
    x, y = _format(input_bits, bool(number(0, 1))), _format(number(0, 1) * 8 + 8, bool(number(0, 1)))
    depth, channels, exponent = 4 * number(1, 9), 2 * number(2, 16), -kernel_bits - 1
    bias = _weights(rng, int(rng.choice([8, 16, 31])), number(-16, -2), channels)
    relu = str(rng.choice(["linear", "relu"]))
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
    other = Tensor("z", x.shape, _format(int(rng.choice([8, 16])), True))
    y = _format(int(rng.choice([8, 16])), bool(rng.integers(2)))
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


def counted(core: str, program: Program, pack: bool) -> int:
    """Return the instructions of one inference."""
    rng = np.random.default_rng(0)
    formats = [program.tensor[name] for name in program.inputs]
    inputs = [rng.integers(t.format.min_int, t.format.max_int + 1, (1, *t.shape)) for t in formats]
    with tempfile.TemporaryDirectory() as folder:
        source = write_c(program, folder, "network", pack)
        executable = compile_for(CORES[core], source, folder)
        return count(CORES[core], executable, inputs)[0].total


def fit(core: str, repeats: int, seed: int) -> tuple[list[dict[str, object]], float]:
    """Return the rates of a core, and the mean relative deviation of what they were fitted to."""
    rng = np.random.default_rng(seed)
    programs = list(probes(rng, repeats))
    rows, totals = [], []
    with progress_line(core, len(programs)) as line:
        for number, program in enumerate(programs):
            pack = number % 3 == 2
            rows.append(estimate.work_of_program(program, pack))
            totals.append(counted(core, program, pack))
            line.advance()
    parts = sorted({part for row in rows for part in row})
    matrix = np.array([[row[part] / total for part in parts] for row, total in zip(rows, totals, strict=True)])
    rates, _ = nnls(matrix, np.ones(len(rows)))
    deviation = float(np.mean(np.abs(matrix @ rates - 1.0)))
    return [
        {"core": core, "part": part, "rate": round(rate, 4)} for part, rate in zip(parts, rates, strict=True)
    ], deviation


def compare(folder: Path, cores: Sequence[str], command: str) -> None:
    """Write estimate and count of whole programs."""
    rows = []
    for path in sorted(folder.glob("*.npz")):
        program = Program.load(path)
        for core in cores:
            for pack in (False, True):
                found = measure(program, CORES[core], pack, "O3")["instructions"]
                about = round(estimate.instructions(core, estimate.work_of_program(program, pack)))
                rows.append(
                    {
                        "program": path.stem,
                        "core": core,
                        "packed": int(pack),
                        "estimated": about,
                        "counted": found,
                        "ratio": round(about / found, 3),
                        "commit": project_commit(),
                        "command": command,
                    }
                )
                sys.stdout.write(f"{rows[-1]}\n")
                write_csv(OUTPUT, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.instructions", description=__doc__)
    parser.add_argument("--cores", nargs="+", choices=tuple(CORES), default=("m4", "m0", "m55"))
    parser.add_argument("--repeats", type=int, default=4, help="random layers of each kind and pair of widths")
    parser.add_argument("--seed", type=int, default=0, help="of the random layers")
    parser.add_argument("--programs", type=Path, help="only compare: a folder of integer programs")
    options = parser.parse_args(arguments)
    for core in options.cores:
        checked_core(core)
    if options.programs is not None:
        compare(options.programs, options.cores, command_line("benchmarks.studies.instructions", arguments))
        return
    for core in options.cores:
        rows, deviation = fit(core, options.repeats, options.seed)
        others = [row for row in read_csv(RATES, missing_ok=True) if row["core"] != core]
        write_csv(RATES, [*others, *rows])
        sys.stdout.write(f"{core}: {len(rows)} rates, mean deviation of the fit {deviation:.1%}\n")


if __name__ == "__main__":
    main()
