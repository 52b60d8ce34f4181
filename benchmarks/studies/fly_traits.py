"""What powers of two cost the classifier of the flies' traits, with key points and without.

``python -m benchmarks.studies.fly_traits --key-points A.weights.h5 --plain B.weights.h5`` takes two float networks of
``benchmarks.fly_traits.staged`` through every row of :data:`FORMS` and writes ``benchmarks/results/fly-traits.csv``; a
row that the file has is not made again. ``--report`` writes the table of ``docs/fly-traits.md``. All flies are
synthetic.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import po2quant
from benchmarks.fly_traits import BENCHMARK
from benchmarks.fly_traits.anatomy import TRAITS
from benchmarks.studies.deployment import c_inference
from benchmarks.studies.document import table, thousands, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import Dataset, Score, Split
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.verify import predictor
from po2quant.export.c.run import compile_c
from po2quant.export.c.source import memory_bytes, write_c
from po2quant.export.litert.to_litert import to_litert
from po2quant.files import read_csv
from po2quant.runs.folder import project_commit
from po2quant.training.reconstruct import Reconstruction
from po2quant.weight_files import load_weights

RESULTS = Path("benchmarks/results/fly-traits.csv")
REPORT, REPORT_COMMAND = Path("docs/fly-traits.md"), "python -m benchmarks.studies.fly_traits --report"
KEY = ("network", "form")
FLOAT, DYNAMIC_RANGE = "float", "LiteRT, dynamic range"
FORMS: dict[str, tuple[str, Reconstruction | None]] = {
    "w8a8": ("w8a8", None),
    "w4a8": ("w4a8", None),
    "w4a8, reconstructed": ("w4a8", Reconstruction(samples=512, steps=100)),
}
"""Integer forms: widths, and how much is learned without labels."""
CALIBRATION, PROVED, TIMED = 256, 64, 600
COLUMNS = {**{trait: trait for trait in TRAITS}, "head_tail": "head and tail distance", "tips": "wing tip distance"}
"""Columns of the results by the names of a score's details."""
Predict = Callable[[np.ndarray], np.ndarray]


def scored(predict: Predict, split: Split) -> dict[str, Any]:
    """Return the accuracy of each trait and the distances of key points."""
    score: Score = BENCHMARK.score(predict, split)
    details = {column: score.details.get(name) for column, name in COLUMNS.items()}
    return {"samples": score.samples} | {
        column: None if value is None else round(value, 4) for column, value in details.items()
    }


def float_row(model: keras.Model, dataset: Dataset) -> dict[str, Any]:
    """Return the scores of the float network, and the bytes of its weights."""
    return scored(_keras_predict(model), dataset.test) | {"bytes": 4 * model.count_params()}


def dynamic_range(model: keras.Model) -> bytes:
    """Return a LiteRT file of a float network: weights of 8 bits, and activations in float."""
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()


def dynamic_range_row(model: keras.Model, dataset: Dataset) -> dict[str, Any]:
    """Return the scores of a LiteRT file of dynamic range, and its bytes."""
    content = dynamic_range(model)
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(x: np.ndarray) -> np.ndarray:
        outputs = []
        for sample in x:
            interpreter.set_tensor(given["index"], sample[None])
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(made["index"])[0])
        return np.array(outputs)

    return scored(predict, dataset.test) | {"bytes": len(content)}


def integer_row(model: keras.Model, dataset: Dataset, form: str) -> dict[str, Any]:
    """Return what a quantized network's C scores, whether it is proved, its bytes, and the seconds of 600 flies.

    Args:
        model: float network.
        dataset: calibrates and scores.
        form: a row of :data:`FORMS`.
    """
    widths, settings = FORMS[form]
    x = dataset.train.inputs(slice(settings.samples if settings else CALIBRATION))
    frozen = po2quant.freeze(po2quant.quantize(model, x, widths, reconstruct=settings or False))
    proof = po2quant.verify(frozen, dataset.test.inputs(slice(PROVED)))
    program = integer_program(frozen)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_c(program, folder, "traits")
        row = scored(predictor(compile_c(source, folder)), dataset.test)
        run_one = c_inference(source, folder, dataset.test.inputs(slice(1)))
        start = time.thread_time()
        for _ in range(TIMED):
            run_one()
        seconds = time.thread_time() - start
        to_litert(program, folder / "traits.tflite")
        row["litert_bytes"] = (folder / "traits.tflite").stat().st_size
    return row | {
        "bytes": source.weight_bytes,
        "packed_bytes": memory_bytes(program, pack=True)[0],
        "arena_bytes": source.arena_bytes,
        "compared": sum(part.integers for part in (proof.keras, proof.c)),
        "mismatches": proof.mismatches,
        "proved_samples": PROVED,
        "seconds_600": round(seconds, 3),
    }


def _keras_predict(model: keras.Model) -> Predict:
    return lambda x: model.predict(x, batch_size=250, verbose=0)


def run(networks: Mapping[str, Path], results: Path, command: str) -> None:
    """Make every row that is missing; each is in the file once it is done."""
    dataset = BENCHMARK.load_data(None, 0)
    for network, weights in networks.items():
        model = BENCHMARK.network(network)[1].new_network()
        load_weights(model, weights)
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            FLOAT: lambda model=model: float_row(model, dataset),
            DYNAMIC_RANGE: lambda model=model: dynamic_range_row(model, dataset),
            **{form: lambda model=model, form=form: integer_row(model, dataset, form) for form in FORMS},
        }
        for form, make in makers.items():
            if has_row(results, (network, form), KEY):
                continue
            facts = {"data": dataset.describe(), "commit": project_commit(), "command": command}
            row = {"network": network, "form": form} | make() | facts
            add_row(results, row, KEY)
            sys.stdout.write(f"{network} {form}: {row}\n")
            sys.stdout.flush()


def report_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a line for each form of the networks of traits."""
    header = [
        "network",
        "form",
        *TRAITS,
        "head and tail",
        "wing tips",
        "KiB",
        "packed",
        "differing integers",
        "600 flies in C",
    ]
    order, lines = [FLOAT, DYNAMIC_RANGE, *FORMS], []
    classified = [row for row in rows if row.get("wing")]
    for row in sorted(classified, key=lambda row: (row["network"], order.index(row["form"]))):
        accuracies = [f"{float(row[trait]):.3f}" for trait in TRAITS]
        points = [row[column] and f"{float(row[column]):.3f}" for column in ("head_tail", "tips")]
        proof = row["mismatches"] and f"{row['mismatches']} of {thousands(row['compared'])}"
        sizes = [row[column] and f"{float(row[column]) / 1024:.0f}" for column in ("bytes", "packed_bytes")]
        seconds = row["seconds_600"] and f"{float(row['seconds_600']):.3f} s"
        lines.append([row["network"], row["form"], *accuracies, *points, *sizes, proof, seconds])
    return table(header, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.fly_traits", description=__doc__)
    parser.add_argument("--key-points", type=Path, help="weights of mobilenet_v3_small")
    parser.add_argument("--plain", type=Path, help="weights of mobilenet_v3_small_plain")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help=f"write the table into {REPORT}, run nothing")
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")
    given = {"mobilenet_v3_small": options.key_points, "mobilenet_v3_small_plain": options.plain}
    with ending_in_words(parser):
        if options.report:
            write_results(REPORT, REPORT_COMMAND, [report_table(read_csv(options.results))])
        else:
            command = command_line("benchmarks.studies.fly_traits", arguments)
            run({name: path for name, path in given.items() if path is not None}, options.results, command)


if __name__ == "__main__":
    main()
