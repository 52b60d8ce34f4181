"""How many integers of the exchange files differ from the interpreter's, on real data.

``python -m benchmarks.studies.exchange RUN...`` takes run folders of flat 8-bit networks, such as
``runs/matrix/keyword_spotting-ds_cnn-seed0/flat8-auto_po2``, and puts their rows into
``benchmarks/results/exchange.csv``: a minute or two for DS-CNN, ResNet8 and the auto-encoder, more for the larger
networks. ``--report`` writes the tables of ``docs/exchange.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import qkeras

from benchmarks.studies.document import table, thousands, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line, versions
from benchmarks.studies.rows import key_of, replace_rows
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import POWERS_OF_TWO
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network, spread_inputs
from po2quant.deploy.to_qkeras import to_qkeras
from po2quant.export.executors import LITERT_KERNELS, run_litert, run_onnx, run_qonnx, single_operations
from po2quant.export.litert.to_litert import to_litert
from po2quant.export.onnx.to_onnx import to_onnx
from po2quant.export.onnx.to_qonnx import to_qonnx
from po2quant.files import read_csv
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.integer.program import Program
from po2quant.runs.folder import project_commit
from po2quant.runs.request import check_trusted, network_of_run
from po2quant.training.prepare import resolve_config

OUTPUT = Path("benchmarks/results/exchange.csv")
REPORT, REPORT_COMMAND = Path("docs/exchange.md"), "python -m benchmarks.studies.exchange --report"
KEY = ("benchmark", "model", "config")
PACKAGES = ("qonnx", "onnxruntime", "ai-edge-litert", "qkeras-v3")

ALONE = "each operation alone"
EXACT_COLUMNS = {
    "QONNX": ("QONNX", "qonnx"),
    "ONNX, optimizer off": ("ONNX", "onnxruntime, optimizer off"),
    "qkeras": ("qkeras", "Keras float32"),
}
ALONE_COLUMNS = {
    "ONNX, optimizer on": ("ONNX", f"onnxruntime, optimizer on, {ALONE}"),
    **{f"LiteRT {kernels}": ("LiteRT", f"{kernels}, {ALONE}") for kernels in LITERT_KERNELS},
}
WHOLE_COLUMNS = {
    "ONNX, optimizer on, any tensor": ("ONNX", "onnxruntime, optimizer on"),
    **{f"LiteRT {kernels}, outputs": ("LiteRT", f"{kernels}, outputs") for kernels in LITERT_KERNELS},
}

Arrays = dict[str, np.ndarray]


def count(found: Arrays, expected: Arrays) -> dict[str, Any]:
    """Return how many integers of a file differ, by how much, and in which tensors."""
    differences = {name: np.abs(values - expected[name]) for name, values in found.items()}
    return {
        "tensors": len(differences),
        "integers": sum(difference.size for difference in differences.values()),
        "mismatches": sum(int(np.count_nonzero(difference)) for difference in differences.values()),
        "largest_difference": max(difference.max().item() for difference in differences.values()),
        "differing": " ".join(name for name, difference in differences.items() if difference.any()),
    }


def comparisons(model: keras.Model, program: Program, x: np.ndarray, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the counts of each format and executor."""
    expected = run(program, quantize_inputs(program, x))
    for format, executor, found in executions(model, program, x, expected, folder):
        yield {"format": format, "executor": executor} | count(found, expected)


def executions(
    model: keras.Model, program: Program, x: np.ndarray, expected: Arrays, folder: Path
) -> Iterator[tuple[str, str, Arrays]]:
    """Write each file, and yield its format, an executor and the executor's integers."""
    to_qonnx(program, folder / "qonnx.onnx")
    yield "QONNX", "qonnx", run_qonnx(program, folder / "qonnx.onnx", [x])
    to_onnx(program, folder / "plain.onnx")
    for optimized in (False, True):
        found = run_onnx(program, folder / "plain.onnx", [x], optimized)
        yield "ONNX", f"onnxruntime, optimizer {'on' if optimized else 'off'}", found
    yield "ONNX", "onnxruntime, optimizer on, each operation alone", each_in_onnxruntime(program, expected, folder)
    to_qkeras(model, folder / "network.keras")
    yield "qkeras", "Keras float32", run_qkeras(program, folder / "network.keras", x)
    to_litert(program, folder / "network.tflite")
    names = [output.tensor for output in program.outputs]
    for kernels in LITERT_KERNELS:
        yield "LiteRT", f"{kernels}, each operation alone", each_in_litert(program, expected, kernels, folder)
        results = run_litert(program, folder / "network.tflite", expected, kernels)
        yield "LiteRT", f"{kernels}, outputs", dict(zip(names, results, strict=True))


def run_qkeras(program: Program, path: Path, x: np.ndarray) -> Arrays:
    """Return the integers of every quantizer of a qkeras file."""
    model = keras.models.load_model(path)
    outputs = {layer.name: layer.output for layer in model.layers if isinstance(layer, qkeras.QActivation)}
    values = keras.Model(model.input, outputs).predict(x, batch_size=32, verbose=0)
    return {
        name: np.ldexp(value.astype(np.float64), -program.tensor[name].format.exponent)
        for name, value in values.items()
    }


def each_in_onnxruntime(program: Program, expected: Arrays, folder: Path) -> Arrays:
    """Return what each operation of an optimized ONNX file makes of the interpreter's values."""
    found = {}
    for part in single_operations(program):
        to_onnx(part, folder / "part.onnx")
        x = [part.tensor[name].format.to_float(expected[name]) for name in part.inputs]
        stored = run_onnx(part, folder / "part.onnx", x, optimized=True)
        found |= {name: array for name, array in stored.items() if name not in part.inputs}
    return found


def each_in_litert(program: Program, expected: Arrays, kernels: str, folder: Path) -> Arrays:
    """Return what each operation of a LiteRT file makes of the interpreter's integers."""
    found = {}
    for part in single_operations(program):
        to_litert(part, folder / "part.tflite")
        (found[part.outputs[0].tensor],) = run_litert(part, folder / "part.tflite", expected, kernels)
    return found


def rows(path: Path, data_dir: Path | None, samples: int, command: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run folder."""
    origin = network_of_run(path, POWERS_OF_TWO)
    check_trusted(origin, None, path)
    benchmark = load_benchmark(origin.benchmark)
    _, spec = benchmark.network(origin.model)
    model = frozen_network(spec, resolve_config(origin.config, spec), origin.weights, None, origin.seed)
    dataset = benchmark.load_data(data_dir or origin.data_dir, origin.seed)
    x = spread_inputs(dataset.test, model, samples)
    network = {"benchmark": origin.benchmark, "model": origin.model, "config": path.name, "samples": len(x)}
    facts = {
        "data": dataset.describe(),
        "seed": origin.seed,
        "versions": versions(PACKAGES),
        "commit": project_commit(),
        "command": command,
    }
    with tempfile.TemporaryDirectory() as folder:
        for counts in comparisons(model, integer_program(model), x, Path(folder)):
            yield network | counts | facts


def write_report(rows: Iterable[Mapping[str, str]], path: Path) -> None:
    """Write into a document how many integers differ, and by how much."""
    networks: dict[tuple[str, ...], dict[tuple[str, str], Mapping[str, str]]] = {}
    for row in rows:
        networks.setdefault(key_of(row, KEY), {})[row["format"], row["executor"]] = row
    if not networks:
        raise ValueError(f"a report needs results: run a benchmark first. Received: {OUTPUT} without rows")
    sections = [
        "Integers that differ:",
        _table(networks, EXACT_COLUMNS, _share),
        "Integers that differ where an operation gets the interpreter's own integers, and the largest difference:",
        _table(networks, ALONE_COLUMNS, lambda row: f"{_share(row)}, by {_difference(row)}"),
        "Largest difference of what runs as a whole:",
        _table(networks, WHOLE_COLUMNS, _difference),
    ]
    write_results(path, REPORT_COMMAND, sections)


def _table(
    networks: Mapping[tuple[str, ...], Mapping[tuple[str, str], Mapping[str, str]]],
    columns: Mapping[str, tuple[str, str]],
    cell: Callable[[Mapping[str, str]], str],
) -> str:
    lines = []
    for (_, model, _), found in networks.items():
        samples = next(iter(found.values()))["samples"]
        lines.append([model, samples, *(cell(found[column]) for column in columns.values())])
    return table(["network", "inputs", *columns], lines)


def _share(row: Mapping[str, str]) -> str:
    return f"{thousands(row['mismatches'])} of {thousands(row['integers'])}"


def _difference(row: Mapping[str, str]) -> str:
    return f"{float(row['largest_difference']):g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.exchange", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders of flat 8-bit networks")
    parser.add_argument("--data-dir", type=Path, help="data; by default where the run had them")
    parser.add_argument("--samples", type=int, default=64, help="inputs of the test split, 64 by default")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"CSV file, {OUTPUT} by default")
    parser.add_argument("--report", action="store_true", help=f"write the tables of {REPORT}, compare nothing")
    options = parser.parse_args(arguments)
    if not options.runs and not options.report:
        parser.exit(2, "error: run folders of flat 8-bit networks, or --report, are needed. Received: neither\n")
    command = command_line("benchmarks.studies.exchange", arguments)
    with ending_in_words(parser, "stopped"):
        if options.report:
            write_report(read_csv(options.output, missing_ok=True), REPORT)
        for path in options.runs:
            replace_rows(options.output, list(rows(path, options.data_dir, options.samples, command)), KEY)
            sys.stdout.write(f"{path}: {options.output}\n")


if __name__ == "__main__":
    main()
