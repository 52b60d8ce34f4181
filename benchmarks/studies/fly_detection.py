"""What powers of two cost the detector of flies, and whether all forms of both networks count the same flies.

``python -m benchmarks.studies.fly_detection --detector WEIGHTS`` scores the float network and its integers of 8 bits,
calibrated; ``--networks DIR``, with the files of ``benchmarks.fly_traits.networks``, counts flies in large pictures in
every form. Both write
``benchmarks/results/fly-traits.csv``; a row that the file has is not made again. ``--report`` writes the tables of
``docs/fly-traits.md``. All flies are synthetic.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.fly_traits.anatomy import TRAITS
from benchmarks.fly_traits.boxes import matches
from benchmarks.fly_traits.counts import Flies, chi_square, count_phenotypes, count_pictures, counted_otherwise
from benchmarks.fly_traits.detection import INPUT_SIZE, detection_score, synthetic_split
from benchmarks.fly_traits.generator import Picture, draw_picture
from benchmarks.fly_traits.networks import CONFIG, networks_of
from benchmarks.fly_traits.running import DETECTOR, FLOAT, FORMS, INTEGER, LITERT, program_runner
from benchmarks.studies.deployment import c_inference
from benchmarks.studies.document import table, thousands, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import Score, Split
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.verify import predictor, verify
from po2quant.export.c.run import compile_c
from po2quant.export.c.source import write_c
from po2quant.export.litert.to_litert import to_litert
from po2quant.files import read_csv
from po2quant.integer.program import Program
from po2quant.runs.folder import project_commit

RESULTS = Path("benchmarks/results/fly-traits.csv")
REPORT, REPORT_COMMAND = Path("docs/fly-traits.md"), "python -m benchmarks.studies.fly_detection --report"
KEY = ("network", "form")
MODEL, BOTH = "efficientdet", "efficientdet and classifier"
PROVED, COMPARED, TIMED = 4, 16, 10
LEAST_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5)
PICTURES, PICTURE_SIZE, FIRST_SEED = 6, 1024, 5_000_000
RATIO = (9, 9, 3, 3, 3, 3, 1, 1)


def scores(score: Score) -> dict[str, Any]:
    """Return the columns of a score of boxes."""
    return {"samples": score.samples} | {name: round(value, 4) for name, value in score.details.items()}


def float_row(model: keras.Model, test: Split, validation: Split) -> dict[str, Any]:
    """Return what the float network scores, the bytes of its weights, and F1 of validation by least probability."""
    score = detection_score(lambda x: model.predict(x, batch_size=16, verbose=0), test)
    outputs = model.predict(validation.inputs(), batch_size=16, verbose=0)
    chosen = [f"{least}: {detection_score(lambda x: outputs, validation, least).value:.4f}" for least in LEAST_SCORES]
    return scores(score) | {"bytes": 4 * model.count_params(), "validation_f1": ", ".join(chosen)}


def integer_row(frozen: keras.Model, test: Split) -> dict[str, Any]:
    """Return what the C scores, whether it is proved, its bytes and seconds, and how far LiteRT's outputs are off."""
    program, x = integer_program(frozen), test.inputs()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_c(program, folder, "detector")
        executable = compile_c(source, folder)
        row = scores(detection_score(predictor(executable), test))
        traced = compile_c(source, folder / "traced", trace=True)
        proof = verify(program, frozen, traced, x[:PROVED])
        run_one = c_inference(source, folder, x[:1])
        start = time.thread_time()
        for _ in range(TIMED):
            run_one()
        seconds = (time.thread_time() - start) / TIMED
        to_litert(program, folder / "detector.tflite")
        litert_bytes = (folder / "detector.tflite").stat().st_size
        units = _output_units(program, x[:COMPARED], folder)
    return row | {
        "bytes": source.weight_bytes,
        "arena_bytes": source.arena_bytes,
        "compared": sum(part.integers for part in (proof.keras, proof.c)),
        "mismatches": proof.mismatches,
        "proved_samples": PROVED,
        "seconds_picture": round(seconds, 4),
        "litert_bytes": litert_bytes,
        "litert_outputs": units.size,
        "litert_differ": int(np.count_nonzero(units)),
        "litert_units": int(units.max()),
    }


def _output_units(program: Program, x: np.ndarray, folder: Path) -> np.ndarray:
    """Return by how many units each of LiteRT's outputs differs from the integer program's."""
    found, expected = (program_runner(program, form, folder)(x) for form in (LITERT, INTEGER))
    exponent = program.tensor[program.outputs[0].tensor].format.exponent
    return np.ldexp(np.abs(found - expected), -np.asarray(exponent)).astype(np.int64)


def count_rows(networks: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each form, and what it finds and counts in large pictures of a cross of 9:3:3:1."""
    drawn = {f"{seed}": draw_picture(FIRST_SEED + seed, PICTURE_SIZE, ratio=RATIO) for seed in range(PICTURES)}
    results = count_pictures({name: picture.pixels for name, picture in drawn.items()}, networks, FORMS)
    for form, found in results.items():
        counts = count_phenotypes(list(found.values()))
        yield (
            form,
            found_and_right(found, drawn)
            | {
                "otherwise": counted_otherwise(found, results[INTEGER]),
                "counts": " ".join(map(str, counts)),
                "p_value": round(chi_square(counts, RATIO).p_value, 4),
            },
        )


def found_and_right(found: Mapping[str, Flies], drawn: Mapping[str, Picture]) -> dict[str, Any]:
    """Return recall and precision of the flies of pictures, and the share of found ones with right traits."""
    hits, right, there, claimed = 0, np.zeros(len(TRAITS), np.int64), 0, 0
    for name, picture in drawn.items():
        flies = found[name]
        owner = matches(flies.boxes, picture.boxes)
        hit = owner >= 0
        right += np.sum((flies.traits[hit] >= 0.5) == picture.traits[owner[hit]], axis=0)
        hits, there, claimed = hits + int(hit.sum()), there + len(picture.boxes), claimed + len(flies.boxes)
    shares = dict(zip(TRAITS, np.round(right / max(hits, 1), 4).tolist(), strict=True))
    rates = {"recall": round(hits / there, 4), "precision": round(hits / max(claimed, 1), 4)}
    return {
        "samples": len(drawn),
        "boxes": there,
        **rates,
        **{f"found_{trait}": share for trait, share in shares.items()},
    }


def run_detector(path: Path, command: str) -> None:
    """Make the rows of the detector that are missing."""
    test = synthetic_split(0, "test")
    model, frozen = networks_of(DETECTOR, path)
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        FLOAT: lambda: float_row(model, test, synthetic_split(0, "validation")),
        CONFIG: lambda: integer_row(frozen, test),
    }
    for form, make in makers.items():
        if not has_row(RESULTS, (MODEL, form), KEY):
            _add(MODEL, form, make(), f"synthetic pictures of {INPUT_SIZE} pixels", command)


def run_counts(networks: Path, command: str) -> None:
    """Make the rows of the counts, all of them or none."""
    if not has_row(RESULTS, (BOTH, FLOAT), KEY):
        for form, row in [*count_rows(networks)]:
            _add(BOTH, form, row, f"synthetic pictures of {PICTURE_SIZE} pixels", command)


def _add(network: str, form: str, row: Mapping[str, Any], data: str, command: str) -> None:
    facts = {"data": data, "commit": project_commit(), "command": command}
    add_row(RESULTS, {"network": network, "form": form} | dict(row) | facts, KEY)
    sys.stdout.write(f"{network} {form}: {row}\n")
    sys.stdout.flush()


def report_tables(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a table of the detector's forms, and one of the counts."""
    detector = [
        [
            row["form"],
            row["recall"],
            row["precision"],
            f"{float(row['bytes']) / 1024:.0f}",
            row["mismatches"] and f"{row['mismatches']} of {thousands(row['compared'])}",
            row["litert_differ"] and f"{thousands(row['litert_differ'])} of {thousands(row['litert_outputs'])}",
            row["seconds_picture"] and f"{1000 * float(row['seconds_picture']):.1f} ms",
        ]
        for row in rows
        if row["network"] == MODEL
    ]
    counts = [
        [
            row["form"],
            row["recall"],
            row["precision"],
            *(row[f"found_{trait}"] for trait in TRAITS),
            row["otherwise"],
            row["counts"],
        ]
        for row in rows
        if row["network"] == BOTH
    ]
    header = ["form", "recall", "precision"]
    proved = ["KiB", "differing integers", "differing outputs of LiteRT", "a picture in C"]
    return [
        table([*header, *proved], detector),
        *([table([*header, *TRAITS, "counted otherwise", "counts"], counts)] if counts else []),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.fly_detection", description=__doc__)
    parser.add_argument("--detector", type=Path, metavar="PATH", help="float weights of it, or a run folder")
    parser.add_argument("--networks", type=Path, metavar="DIR", help="files of benchmarks.fly_traits.networks")
    parser.add_argument("--report", action="store_true", help=f"write the tables of {REPORT}, run nothing")
    options = parser.parse_args(arguments)
    command = command_line("benchmarks.studies.fly_detection", arguments)
    with ending_in_words(parser):
        if options.report:
            write_results(REPORT, REPORT_COMMAND, report_tables(read_csv(RESULTS)))
        if options.detector is not None:
            run_detector(options.detector, command)
        if options.networks is not None:
            run_counts(options.networks, command)


if __name__ == "__main__":
    main()
