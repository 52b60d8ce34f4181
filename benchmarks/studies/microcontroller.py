"""How many instructions one inference takes on microcontrollers, beside CMSIS-NN's.

``python -m benchmarks.studies.microcontroller --programs P`` compiles integer programs for emulated cores, runs one
input, compares every output with the interpreter's, and writes ``benchmarks/results/microcontroller.csv``. P is a
folder of ``<model>-<configuration>.npz``; ``--weights W`` makes the four of MLPerf Tiny there first, from its float
weights and calibration data in ``--data-dir``. With ``--report`` the table of docs/microcontrollers.md is written.

A count repeats exactly for one compiler and one input. It is a count of instructions, not of cycles.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.document import table, thousands, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row
from po2quant.export.c.source import write_c
from po2quant.export.c.types import tensor_dtype
from po2quant.export.cores.emulator import CORES, Core, checked_core, code_bytes, compile_for, count
from po2quant.files import read_csv
from po2quant.integer.interpreter import run as interpret
from po2quant.integer.program import Program
from po2quant.progress import progress_line
from po2quant.runs.folder import project_commit

OUTPUT, REPORT = Path("benchmarks/results/microcontroller.csv"), Path("docs/microcontrollers.md")
REPORT_COMMAND = "python -m benchmarks.studies.microcontroller --report"
NETWORKS = {
    "autoencoder": ("anomaly_detection", "ad_autoencoder.h5"),
    "ds_cnn": ("keyword_spotting", "kws_ds_cnn.h5"),
    "resnet8": ("image_classification", "ic_resnet8.h5"),
    "mobilenet_v1": ("visual_wake_words", "vww_mobilenet_v1.h5"),
}
CONFIGS, LEVELS, FORMATS = ("flat8", "mpq"), ("O3", "Os"), ("c", "c-packed")
KEY = ("model", "config", "format", "core", "level")

CMSIS_NN = {
    ("m4", "O3"): (579240, 7679844, 29721852, 24222002),
    ("m55", "O3"): (147863, 1778225, 4802316, 6422129),
    ("m0", "O3"): (1758000, 28990000, 97550000, None),
}
"""Instructions of CMSIS-NN 99f736a on the int8 .tflite files of MLPerf Tiny without their softmax, by core, for the
networks in the order of :data:`NETWORKS`; compiled with arm-none-eabi-gcc 12.2.1, counted on QEMU 7.2 as here; those of
the M0+ rounded to four digits when they were recorded."""

KINDS = {
    "vectors_": "dots",
    "pairs_": "dots",
    "rows_": "dots",
    "pair_dot": "dots",
    "row_dot": "dots",
    "dots": "dots",
    "convolution": "gathering",
    "pixels": "gathering",
    "gather": "gathering",
    "quads": "depthwise",
    "depthwise": "depthwise",
    "packed_pixel": "gathering",
    "unpack": "unpacking",
    "pooling": "pooling",
}
"""The kind of layer that a function belongs to, by how its name begins. On small cores the dots are inlined where
inputs are gathered."""


def first_version(command: Sequence[str]) -> str:
    """Return the first line that a command says of itself."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()


def by_kind(instructions: Mapping[str, int]) -> dict[str, int]:
    """Return instructions by kind of layer; ``other``: element by element, copies, the calls between layers."""
    totals = Counter({kind: 0 for kind in (*KINDS.values(), "other")})
    for function, number in instructions.items():
        totals[next((kind for start, kind in KINDS.items() if function.startswith(start)), "other")] += number
    return {f"{kind}_instructions": number for kind, number in totals.items()}


def measure(program: Program, core: Core, pack: bool, level: str) -> dict[str, Any]:
    """Run one random input on a core, and return what it took and how many outputs differ from the interpreter's."""
    rng = np.random.default_rng(0)
    formats = [program.tensor[name] for name in program.inputs]
    inputs = [rng.integers(t.format.min_int, t.format.max_int + 1, (1, *t.shape)) for t in formats]
    expected = interpret(program, inputs)
    tensors = [program.tensor[output.tensor] for output in program.outputs]
    wanted = b"".join(expected[tensor.name].astype(tensor_dtype(tensor)).tobytes() for tensor in tensors)
    with tempfile.TemporaryDirectory() as name:
        source = write_c(program, name, "network", pack)
        executable = compile_for(core, source, name, flags=(f"-{level}",))
        found, outputs = count(core, executable, inputs)
        code, constants = code_bytes(core, executable)
    differing = sum(a != b for a, b in zip(outputs, wanted, strict=True))
    return {
        "instructions": found.total,
        "differing_output_bytes": differing,
        **by_kind(found.instructions),
        "code_bytes": code,
        "constant_bytes": constants,
        "arena_bytes": source.arena_bytes,
        "stack_bytes": found.stack_bytes,
    }


def beside_cmsis_nn(key: Mapping[str, str], instructions: int) -> dict[str, Any]:
    """Return CMSIS-NN's count for a network and core, at its best level, and the ratio."""
    counts = CMSIS_NN.get((key["core"], "O3"))
    names = list(NETWORKS)
    theirs = counts[names.index(key["model"])] if counts and key["model"] in names else None
    ratio = None if theirs is None else round(instructions / theirs, 3)
    return {"cmsis_nn_O3_instructions": theirs, "ratio_to_cmsis_nn_O3": ratio}


def make_programs(folder: Path, weights: Path, data_dir: Path, configs: Sequence[str]) -> None:
    """Write the integer programs of the four networks, calibrated."""
    from benchmarks.studies.deployment import data_of
    from po2quant.benchmark import load_benchmark
    from po2quant.bit_config import AUTO_PO2
    from po2quant.deploy.from_keras import integer_program
    from po2quant.deploy.network import frozen_network
    from po2quant.training.prepare import resolve_config

    folder.mkdir(parents=True, exist_ok=True)
    for model, (benchmark, file) in NETWORKS.items():
        _, spec = load_benchmark(benchmark).network(model)
        for config in configs:
            widths, dataset = resolve_config(config, spec), data_of(benchmark, data_dir, 0)
            network = frozen_network(spec, widths, weights / file, dataset, 0, AUTO_PO2)
            integer_program(network).save(folder / f"{model}-{config}.npz")


def cells(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Yield the key of each row."""
    for model in options.models:
        for config in options.configs:
            for format in options.formats:
                for core in options.cores:
                    for level in options.levels:
                        yield dict(zip(KEY, (model, config, format, core, level), strict=True))


def run(options: argparse.Namespace, command: str) -> None:
    """Measure cell after cell; rows of the same key are replaced."""
    for core in options.cores:
        checked_core(core)
    if options.weights is not None:
        make_programs(options.programs, options.weights, options.data_dir, options.configs)
    wanted = list(cells(options))
    with progress_line("microcontroller", len(wanted)) as line:
        for key in wanted:
            core = CORES[key["core"]]
            program = Program.load(options.programs / f"{key['model']}-{key['config']}.npz")
            measured = measure(program, core, key["format"] == "c-packed", key["level"])
            row = key | measured | beside_cmsis_nn(key, measured["instructions"])
            row |= {
                "compiler": first_version([core.compiler, "--version"]),
                "emulator": first_version([core.emulator[0], "--version"]),
                "commit": project_commit(),
                "command": command,
            }
            add_row(options.output, row, KEY)
            line.advance()


def write_report(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Write the counts into a document."""
    header = [
        "network",
        "configuration",
        "form",
        "core",
        "",
        "instructions",
        "of CMSIS-NN -O3",
        "code",
        "arena",
        "stack",
    ]
    body = [
        [
            *(row["model"], row["config"], row["format"], row["core"], row["level"], thousands(row["instructions"])),
            row["ratio_to_cmsis_nn_O3"] or "-",
            *(thousands(row[name]) for name in ("code_bytes", "arena_bytes", "stack_bytes")),
        ]
        for row in rows
    ]
    differing = sum(int(row["differing_output_bytes"]) for row in rows)
    tools = sorted({row[name] for row in rows for name in ("compiler", "emulator")})
    facts = f"{len(rows)} runs, {differing} differing bytes of outputs. {'; '.join(tools)}."
    write_results(path, REPORT_COMMAND, [facts, table(header, body)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.microcontroller", description=__doc__)
    parser.add_argument("--programs", type=Path, default=Path("runs/programs"), help="folder of integer programs")
    parser.add_argument("--weights", type=Path, help="folder of MLPerf Tiny's float .h5 files, to make the programs of")
    parser.add_argument("--data-dir", type=Path, help="data that calibrate them")
    for name, choices in (("models", tuple(NETWORKS)), ("cores", tuple(CORES)), ("formats", FORMATS)):
        parser.add_argument(f"--{name}", nargs="+", choices=choices, default=choices)
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    parser.add_argument("--levels", nargs="+", choices=("O3", "O2", "Os"), default=LEVELS)
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"CSV file, {OUTPUT} by default")
    parser.add_argument("--report", action="store_true", help=f"only write the CSV file into {REPORT}")
    options = parser.parse_args(arguments)
    with ending_in_words(parser, "stopped"):
        if options.report:
            write_report(read_csv(options.output), REPORT)
            return
        run(options, command_line("benchmarks.studies.microcontroller", arguments))
        sys.stdout.write(f"{options.output}\n")


if __name__ == "__main__":
    main()
