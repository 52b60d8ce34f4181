"""Integer programs of the fine-tuned networks: equal to Keras bit for bit, their scores, sizes and times in C.

``python -m benchmarks.studies.deployment --litert ../shared/pretrained`` verifies every cell of ``runs/matrix`` that is
named, scores it in C on the whole test split, and writes a row to ``benchmarks/results/deployment.csv`` as soon as it
is done; a row that the file has is not run again. Where there is an int8 LiteRT file of a network, C and LiteRT compute
one sample in turn, round after round, on one thread. Times are the thread's processor time, which other jobs disturb
least. ``--report`` writes the tables of ``docs/deploy.md``.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.studies.document import table, thousands, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.models import models_with_data
from benchmarks.studies.provenance import command_line, versions
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import Dataset, load_benchmark
from po2quant.bit_config import POWERS_OF_TWO
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network, spread_inputs
from po2quant.deploy.verify import score, verify
from po2quant.export.c.run import COMPILER, FLAGS, compile_c
from po2quant.export.c.source import CSource, memory_bytes, write_c
from po2quant.export.c.types import tensor_dtype
from po2quant.files import read_csv
from po2quant.graphs import graphs_released
from po2quant.integer.interpreter import quantize_inputs
from po2quant.integer.program import Program
from po2quant.progress import SILENT, ProgressLine, progress_line
from po2quant.runs.folder import project_commit
from po2quant.runs.names import SCORES_FILE
from po2quant.runs.request import NetworkRequest, check_trusted, network_of_run
from po2quant.training.prepare import resolve_config

MODELS = models_with_data()
CONFIGS = ("mpq", "flat8")
RUNS, OUTPUT = Path("runs/matrix"), Path("benchmarks/results/deployment.csv")
REPORT, REPORT_COMMAND = Path("docs/deploy.md"), "python -m benchmarks.studies.deployment --report"
LITERT_FILES = {
    "autoencoder": "ad_autoencoder_int8.tflite",
    "ds_cnn": "kws_ds_cnn_int8.tflite",
    "resnet8": "ic_resnet8_int8.tflite",
    "mobilenet_v1": "vww_mobilenet_v1_int8.tflite",
}
RESOLVERS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
"""LiteRT's kernels by the name of their columns: XNNPACK's, its own optimised ones, and the reference."""

KEY = ("benchmark", "model", "config", "seed")
DESKTOP_FLAGS = ("-march=native",)
SAMPLES, ROUNDS, ROUND_SECONDS = 200, 21, 0.02
PACKAGES = ("tensorflow", "keras", "qkeras-v3", "numpy")


@functools.cache
def data_of(benchmark: str, data_dir: Path | None, seed: int) -> Dataset:
    """Return the data of a benchmark, read once."""
    return load_benchmark(benchmark).load_data(data_dir, seed)


def c_function(source: CSource, folder: Path) -> Callable[[ctypes.c_void_p, ctypes.c_void_p], None]:
    """Return a program's function, compiled for this machine; it takes the addresses of input and output."""
    library = folder / f"lib{source.name}.so"
    command = [COMPILER, *FLAGS, *DESKTOP_FLAGS, "-shared", "-fPIC", "-o", library, source.source]
    subprocess.run(command, check=True, capture_output=True)
    function = ctypes.CDLL(str(library))[f"{source.name}_run"]
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    return function


def c_inference(source: CSource, folder: Path, x: np.ndarray) -> Callable[[], None]:
    """Return what runs one sample of network inputs in C."""
    program = source.program
    tensors = [program.tensor[name] for name in (*program.inputs, *(output.tensor for output in program.outputs))]
    (integers,) = quantize_inputs(program, x[:1])
    arrays = [integers.astype(tensor_dtype(tensors[0])), np.empty(tensors[1].shape, tensor_dtype(tensors[1]))]
    return functools.partial(c_function(source, folder), *(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))


def litert_inference(path: Path, resolver: str, x: np.ndarray) -> Callable[[], None]:
    """Return what runs one sample of network inputs in LiteRT on one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds = tf.lite.experimental.OpResolverType
        interpreter = tf.lite.Interpreter(str(path), num_threads=1, experimental_op_resolver_type=kinds[resolver])
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    scale, zero_point = details["quantization"]
    integers = np.clip(np.round(x[:1] / scale) + zero_point, -128, 127).astype(details["dtype"])
    interpreter.set_tensor(details["index"], integers.reshape(details["shape"]))
    return interpreter.invoke


def in_turn(tasks: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the median processor time of one call of each task, in microseconds, over rounds of all of them."""
    calls = {}
    for name, task in tasks.items():
        task()
        start = time.thread_time()
        task()
        calls[name] = max(1, int(ROUND_SECONDS / max(time.thread_time() - start, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.thread_time()
            for _ in range(calls[name]):
                task()
            times[name].append((time.thread_time() - start) / calls[name])
    return {name: round(1e6 * statistics.median(seconds), 2) for name, seconds in times.items()}


def times_of(source: CSource, x: np.ndarray, litert: Path | None, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the times of C and of LiteRT's kernels for one sample, and their ratios."""
    tasks = {"c": c_inference(source, folder, x)}
    if litert is not None:
        tasks |= {name: litert_inference(litert, resolver, x) for name, resolver in RESOLVERS.items()}
    microseconds = in_turn(tasks, rounds)
    row: dict[str, Any] = {"c_microseconds": microseconds["c"]}
    row["litert_bytes"] = None if litert is None else litert.stat().st_size
    for name in RESOLVERS:
        row[f"litert_{name}_microseconds"] = microseconds.get(name)
        row[f"c_to_litert_{name}"] = round(microseconds["c"] / microseconds[name], 3) if name in microseconds else None
    return row


def measure(
    origin: NetworkRequest, samples: int, litert: Path | None, rounds: int, line: ProgressLine = SILENT
) -> dict[str, Any]:
    """Verify, score and time one network.

    Args:
        origin: what its run folder says.
        samples: test inputs whose every integer is compared.
        litert: an int8 LiteRT file of the same network, or None.
        rounds: times that C and LiteRT are timed in turn.
        line: shows progress, in steps: verification, score, times.
    """
    task = load_benchmark(origin.benchmark)
    _, spec = task.network(origin.model)
    dataset = data_of(origin.benchmark, origin.data_dir, origin.seed)
    widths = resolve_config(origin.config, spec)
    network = frozen_network(spec, widths, origin.weights, dataset, origin.seed, origin.alpha)
    program = integer_program(network)
    x = spread_inputs(dataset.test, network, samples)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_c(program, folder, "network")
        executable = compile_c(source, folder, trace=True)
        found = verify(program, network, executable, x)
        line.advance()
        plain = compile_c(source, folder / "plain", flags=DESKTOP_FLAGS)
        scores = score(task, network, plain, dataset.test)
        otherwise = scores.decided_otherwise
        mismatches = verify(program, network, executable, otherwise).mismatches if len(otherwise) else 0
        line.advance()
        times = times_of(source, x, litert, folder, rounds)
        line.advance()
    return {
        "samples": found.keras.samples,
        "tensors": found.keras.tensors,
        "integers": found.keras.integers,
        "mismatches_keras_interpreter": found.keras.mismatches,
        "mismatches_interpreter_c": found.c.mismatches,
        "inexact_sums": len(found.inexact),
        **{name: round(value, 6) if isinstance(value, float) else value for name, value in scores.to_dict().items()},
        "mismatches_decided_otherwise": mismatches,
        "score_table": round(trained_score(origin.weights), 6),
        **sizes_of(program),
        **times,
        "rounds": rounds,
        "seed": origin.seed,
        "data": dataset.describe(),
        "weights": str(origin.weights),
    }


def trained_score(cell: Path) -> float:
    """Return the test score that a cell had after its training, which is the one in the table of results."""
    return json.loads((cell / SCORES_FILE).read_text(encoding="utf-8"))["finetuned"]["value"]


def sizes_of(program: Program) -> dict[str, int]:
    """Return the bytes of constants, as they are and packed, and of the arena."""
    weight_bytes, arena_bytes = memory_bytes(program)
    return {
        "weight_bytes": weight_bytes,
        "packed_weight_bytes": memory_bytes(program, pack=True)[0],
        "arena_bytes": arena_bytes,
    }


def machine_facts(command: str) -> dict[str, Any]:
    """Return what a reader must know to judge the numbers."""
    compiler = subprocess.run([COMPILER, "-dumpfullversion"], capture_output=True, text=True, check=True)
    return {
        "compiler": f"{COMPILER} {compiler.stdout.strip()} {shlex.join([FLAGS[1], *DESKTOP_FLAGS])}",
        "cores": os.cpu_count(),
        "machine": platform.platform(),
        "versions": f"python={platform.python_version()} {versions(PACKAGES)}",
        "commit": project_commit(),
        "command": command,
    }


def cells(
    runs: Path, models: Sequence[str], configs: Sequence[str], seed: int
) -> Iterator[tuple[dict[str, Any], Path]]:
    """Yield the key of each row and the run folder that it is measured on."""
    for label in models:
        benchmark, separator, model = label.partition("/")
        if not separator:
            raise ValueError(f"a model must read <benchmark>/<model>, e.g. {MODELS[1]}. Received: {label!r}")
        for config in configs:
            values = (benchmark, model, config, seed)
            yield dict(zip(KEY, values, strict=True)), runs / f"{benchmark}-{model}-seed{seed}" / f"{config}-auto_po2"


def run(options: argparse.Namespace, command: str) -> None:
    """Measure cell after cell; those that are done are in the output, whatever happens next."""
    wanted = [
        (key, path, network_of_run(path, POWERS_OF_TWO))
        for key, path in cells(options.runs, options.models, options.configs, options.seed)
        if not has_row(options.output, tuple(map(str, key.values())), KEY)
    ]
    for _, path, origin in wanted:
        check_trusted(origin, None, path)
    with progress_line("deployment", 3 * len(wanted)) as line:
        for key, path, origin in wanted:
            line.update(message=str(path))
            name = LITERT_FILES.get(key["model"])
            litert = options.litert / name if options.litert and name else None
            with graphs_released():
                measured = measure(origin, options.samples, litert, options.rounds, line)
            add_row(options.output, key | measured | machine_facts(command), KEY)


def write_report(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Write what was proven and how long it takes into a document."""
    if not rows:
        raise ValueError(f"a report needs results: run a benchmark first. Received: {OUTPUT} without rows")
    order = {label: place for place, label in enumerate(MODELS)}
    rows = sorted(rows, key=lambda row: order.get(f"{row['benchmark']}/{row['model']}", len(order)))
    captions = "Proof, scores, and sizes in bytes:", "Times of one inference in microseconds:"
    write_results(path, REPORT_COMMAND, [captions[0], proof_table(rows), captions[1], times_table(rows)])


def proof_table(rows: Iterable[Mapping[str, str]]) -> str:
    """Return the table of integers compared, scores and sizes."""
    header = ["network", "config", "integers compared", "mismatches", "score of C", "of Keras", "decided otherwise"]
    lines = []
    for row in rows:
        mismatches = int(row["mismatches_keras_interpreter"]) + int(row["mismatches_interpreter_c"])
        otherwise = f"{row['decided_otherwise']} ({row['mismatches_decided_otherwise']})"
        scores = [f"{float(row[name]):.4f}" for name in ("score_c", "score_keras")]
        sizes = [thousands(row[name]) for name in ("weight_bytes", "packed_weight_bytes", "arena_bytes")]
        compared = [thousands(row["integers"]), str(mismatches)]
        lines.append([row["model"], row["config"], *compared, *scores, otherwise, *sizes])
    return table([*header, "constants", "packed", "arena"], lines)


def times_table(rows: Iterable[Mapping[str, str]]) -> str:
    """Return the table of times in microseconds and of their ratios."""
    header = ["network", "config", "C", *(f"LiteRT {name}" for name in RESOLVERS)]
    names, lines = ["c", *(f"litert_{name}" for name in RESOLVERS)], []
    for row in rows:
        times = [_three_digits(row[f"{name}_microseconds"]) for name in names]
        ratios = [row[f"c_to_litert_{name}"] for name in RESOLVERS]
        litert_bytes = row["litert_bytes"] and thousands(row["litert_bytes"])
        lines.append([row["model"], row["config"], *times, *ratios, litert_bytes])
    return table([*header, *(f"C / {name}" for name in RESOLVERS), "LiteRT file"], lines)


def _three_digits(number: str) -> str:
    """Return a time with three digits, and all before the point."""
    return number and (f"{float(number):.3g}" if float(number) < 1000.0 else thousands(round(float(number))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.deployment", description=__doc__)
    parser.add_argument(
        "--models", nargs="+", default=MODELS, help="<benchmark>/<model>; all that need data by default"
    )
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help="cells of the matrix; mpq and flat8 by default")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cells")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"inputs compared, {SAMPLES} by default")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of timing, {ROUNDS} by default")
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"folder of po2quant matrix, {RUNS} by default")
    parser.add_argument("--litert", type=Path, help="folder of MLPerf Tiny's int8 .tflite files, to compare times with")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"CSV file, {OUTPUT} by default")
    parser.add_argument("--report", action="store_true", help=f"write the tables of {REPORT}, measure nothing")
    options = parser.parse_args(arguments)
    if min(options.samples, options.rounds) < 1:
        parser.exit(2, f"error: --samples and --rounds must be 1 or more: {options.samples}, {options.rounds}\n")
    with ending_in_words(parser, f"stopped; the same command goes on, {options.output} has the rows that are done"):
        if options.report:
            write_report(read_csv(options.output, missing_ok=True), REPORT)
            return
        run(options, command_line("benchmarks.studies.deployment", arguments))
    sys.stdout.write(f"{options.output}\n")


if __name__ == "__main__":
    main()
