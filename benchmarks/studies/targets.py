"""What chips' own tools compute of networks that were made for them, compared with the interpreter.

``python -m benchmarks.studies.targets --benchmark keyword_spotting --weights kws_ds_cnn.h5 --data-dir kws01.zip``
quantizes a float network for each target, calibrates it and puts its rows into ``benchmarks/results/targets.csv``: some
minutes a network. Tools that are not installed are left out, and said. ``--report`` writes the table of
``docs/exchange.md``.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.document import table, thousands, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.exchange import count
from benchmarks.studies.provenance import command_line, versions
from benchmarks.studies.rows import replace_rows
from po2quant.benchmark import load_benchmark
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network, spread_inputs
from po2quant.export.environments import ESP_PPQ, FINN, TFLITE_MICRO, Environment
from po2quant.export.espdl.to_espdl import to_espdl
from po2quant.export.exchange import require
from po2quant.export.executors import REFERENCE, XNNPACK, run_litert, run_tflite_micro, single_operations
from po2quant.export.litert.to_litert import to_litert
from po2quant.export.onnx.to_qonnx import to_qonnx
from po2quant.files import one_line, read_csv
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.integer.program import Program
from po2quant.runs.folder import project_commit
from po2quant.targets import misfits, target_of
from po2quant.training.prepare import resolve_config

OUTPUT = Path("benchmarks/results/targets.csv")
REPORT, REPORT_COMMAND = Path("docs/exchange.md"), "python -m benchmarks.studies.targets --report"
PACKAGES = ("qonnx", "ai-edge-litert", "onnx")
KEY = ("benchmark", "model")
FEW = 8
"""Samples that qonnx's executor takes, one at a time in Python."""

Arrays = dict[str, np.ndarray]
Reader = Callable[[Program, Arrays, Path], Arrays]
"""Given a program, all its tensors and a folder, returns tensors as another tool computes them, by name."""


def esp_ppq(program: Program, expected: Arrays, folder: Path) -> Arrays:
    """Return every tensor as the executor of esp-ppq has it."""
    inputs = [expected[name] for name in program.inputs]
    found = to_espdl(program, folder / "network.espdl", inputs)
    return {name: values.reshape(expected[name].shape) for name, values in found.items()}


def litert(kernels: str, program: Program, expected: Arrays, folder: Path) -> Arrays:
    """Return what each operation of LiteRT files makes of the interpreter's integers."""
    return {
        part.outputs[0].tensor: run_litert(part, file, expected, kernels)[0] for part, file in _parts(program, folder)
    }


def tflite_micro(program: Program, expected: Arrays, folder: Path) -> Arrays:
    """Return the same of tflite-micro."""
    files = _parts(program, folder)
    found = run_tflite_micro(files, expected)
    return {part.outputs[0].tensor: arrays[0] for (part, _), arrays in zip(files, found, strict=True)}


def _parts(program: Program, folder: Path) -> list[tuple[Program, Path]]:
    files = []
    for number, part in enumerate(single_operations(program)):
        to_litert(part, folder / f"{number}.tflite")
        files.append((part, folder / f"{number}.tflite"))
    return files


def qonnx_after(names: Sequence[str], program: Program, expected: Arrays, folder: Path) -> Arrays:
    """Return the output of a QONNX file after transformations of qonnx, in its executor."""
    wrapper = require("qonnx.core.modelwrapper", "this study").ModelWrapper
    execute = require("qonnx.core.onnx_exec", "this study").execute_onnx
    to_qonnx(program, folder / "network.onnx")
    model = require("qonnx.util.cleanup", "this study").cleanup_model(wrapper(str(folder / "network.onnx")))
    for name in names:
        module, _, transformation = name.partition(":")
        model = model.transform(getattr(require(f"qonnx.transformation.{module}", "this study"), transformation)())
    (given,), (wanted,) = model.graph.input, model.graph.output
    x = _values(program, expected)
    shape = [1, *model.get_tensor_shape(given.name)[1:]]
    axes = (0, 1, 2, 3) if list(x.shape[1:]) == shape[1:] else (0, 3, 1, 2)
    x = x.transpose(axes) if x.ndim == len(axes) else x
    outputs = [execute(model, {given.name: x[i : i + 1]})[wanted.name] for i in range(len(x))]
    return _output(program, np.concatenate(outputs))


def finn(program: Program, expected: Arrays, folder: Path) -> Arrays:
    """Return the output of a QONNX file after FINN's conversion."""
    to_qonnx(program, folder / "network.onnx")
    np.savez(folder / "inputs.npz", x=_values(program, expected))
    FINN.run(Path(to_qonnx.__code__.co_filename).with_name("run_finn.py"), folder)
    with np.load(folder / "outputs.npz") as found:
        return _output(program, found["y"])


def _values(program: Program, expected: Arrays) -> np.ndarray:
    (name,) = program.inputs
    return program.tensor[name].format.to_float(expected[name][:FEW]).astype(np.float32)


def _output(program: Program, values: np.ndarray) -> Arrays:
    """Return an output as integers, to compare with as many samples as there are."""
    tensor = program.tensor[program.outputs[0].tensor]
    return {tensor.name: np.ldexp(values.astype(np.float64), -tensor.format.exponent).reshape(-1, *tensor.shape)}


EXTRACT, LOWER = "extract_conv_bias:ExtractBiasFromConv", "lower_convs_to_matmul:LowerConvsToMatMul"
CASES: tuple[tuple[str, str, str, Reader, Environment | None], ...] = (
    *((chip, flat, "esp-ppq", esp_ppq, ESP_PPQ) for chip in ("esp32-p4", "esp32-s3") for flat in ("flat8", "flat16")),
    ("litert", "flat8", f"{XNNPACK}, each operation", functools.partial(litert, XNNPACK), None),
    ("litert", "flat8", "reference, each operation", functools.partial(litert, REFERENCE), None),
    ("litert", "flat8", "tflite-micro, each operation", tflite_micro, TFLITE_MICRO),
    ("litert-int16", "w8a16-io16", "reference, each operation", functools.partial(litert, REFERENCE), None),
    ("litert-int16", "w8a16-io16", "tflite-micro, each operation", tflite_micro, TFLITE_MICRO),
    ("generic", "flat8", "qonnx: cleanup", functools.partial(qonnx_after, ()), None),
    ("generic", "flat8", "qonnx: ExtractBiasFromConv", functools.partial(qonnx_after, (EXTRACT,)), None),
    ("generic", "flat8", "qonnx: then LowerConvsToMatMul", functools.partial(qonnx_after, (EXTRACT, LOWER)), None),
    ("generic", "flat8", "FINN: ConvertQONNXtoFINN", finn, FINN),
)
"""A target, the widths, a reader and what it computes, and the environment that it needs."""


def rows(options: argparse.Namespace, command: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a network."""
    task = load_benchmark(options.benchmark)
    data = task.load_data(options.data_dir, options.seed)
    facts = {"data": data.describe(), "seed": options.seed, "versions": versions(PACKAGES), "commit": project_commit()}
    programs: dict[tuple[str, str], tuple[Program, Arrays]] = {}
    for target, config, reader, compute, environment in CASES:
        if environment is not None and (reason := environment.refusal()):
            sys.stdout.write(f"left out: {target}, {reader}: {reason}\n")
            continue
        name, spec = task.for_target(target_of(target)).network(options.model)
        if (target, config) not in programs:
            model = frozen_network(spec, resolve_config(config, spec), options.weights, data, options.seed)
            program, x = integer_program(model), spread_inputs(data.test, model, options.samples)
            programs[target, config] = program, run(program, quantize_inputs(program, [x]))
        program, expected = programs[target, config]
        row = {"benchmark": options.benchmark, "model": name, "target": target, "config": config, "reader": reader}
        with tempfile.TemporaryDirectory() as folder:
            yield row | counted(compute, program, expected, Path(folder), target) | facts | {"command": command}


def counted(compute: Reader, program: Program, expected: Arrays, folder: Path, target: str) -> dict[str, Any]:
    """Return what differs, or why nothing was computed."""
    empty = dict.fromkeys(("samples", "tensors", "integers", "mismatches", "largest_difference", "differing"), "")
    if obstacles := misfits(program, target_of(target)):
        return empty | {"refused": "; ".join(obstacles)}
    try:
        found = compute(program, expected, folder)
    except Exception as error:  # a tool of others may end in any way; that is a result
        return empty | {"refused": one_line(f"{type(error).__name__}: {error}", 200)}
    samples = len(next(iter(found.values())))
    return {"samples": samples, **count(found, {name: expected[name][:samples] for name in found}), "refused": ""}


def write_report(found: Sequence[Mapping[str, str]], path: Path) -> None:
    """Write the table of a document."""
    networks = list(dict.fromkeys(row["model"] for row in found))
    cases = dict.fromkeys((row["target"], row["config"], row["reader"]) for row in found)
    cells = {(row["model"], row["target"], row["config"], row["reader"]): _cell(row) for row in found}
    lines = [[*case, *(cells.get((network, *case), "not run") for network in networks)] for case in cases]
    write_results(path, REPORT_COMMAND, [table(["target", "widths", "reader", *networks], lines)])


def _cell(row: Mapping[str, str]) -> str:
    if row["refused"]:
        return row["refused"].replace("|", "/")
    shown = f"{thousands(row['mismatches'])} of {thousands(row['integers'])}"
    return shown if row["mismatches"] == "0" else f"{shown}, by {float(row['largest_difference']):g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.targets", description=__doc__)
    parser.add_argument("--benchmark", default="keyword_spotting", help="name of a benchmark")
    parser.add_argument("--model", help="network of the benchmark; its first by default")
    parser.add_argument("--weights", type=Path, help="float weights")
    parser.add_argument("--data-dir", type=Path, help="data that calibrate it and are compared")
    parser.add_argument("--samples", type=int, default=64, help="inputs of the test split, 64 by default")
    parser.add_argument("--seed", type=int, default=0, help="of the calibration")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"CSV file, {OUTPUT} by default")
    parser.add_argument("--report", action="store_true", help=f"write the table of {REPORT}, compare nothing")
    options = parser.parse_args(arguments)
    with ending_in_words(parser, "stopped"):
        if options.report:
            write_report(read_csv(options.output), REPORT)
            return
        if options.weights is None or options.data_dir is None:
            raise ValueError("--weights and --data-dir, or --report, are needed. Received: neither")
        fresh = list(rows(options, command_line("benchmarks.studies.targets", arguments)))
        replace_rows(options.output, fresh, KEY)


if __name__ == "__main__":
    main()
