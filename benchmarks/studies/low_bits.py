"""What each step of the recipe for few bits gives, alone and left out: the ablation of ``docs/low-bits.md``.

``python -m benchmarks.studies.low_bits --benchmark keyword_spotting --weights kws_ds_cnn.h5 --data-dir D --epochs 20
--seeds 0 1 2`` fine-tunes a network under every row of :data:`VARIANTS` and adds its score to
``benchmarks/results/low-bits.csv``. A row that is there is not run again, and a run that was stopped goes on after its
last epoch. ``--report`` writes the tables into the document.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.studies.document import table, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import Benchmark, load_benchmark
from po2quant.bit_config import AUTO_PO2, LEARNED_PO2
from po2quant.cost import BITS_PER_KIB
from po2quant.files import read_csv
from po2quant.graphs import graphs_released
from po2quant.recipe import Recipe
from po2quant.report.results import STAGES, read_records
from po2quant.runs.folder import project_commit
from po2quant.training.finetune import Experiment, Workbench, require_training_data
from po2quant.training.prepare import resolve_config
from po2quant.training.reconstruct import Reconstruction
from po2quant.training.schedules import cosine

RESULTS, RUNS = Path("benchmarks/results/low-bits.csv"), Path("runs/low_bits")
REPORT, REPORT_COMMAND = Path("docs/low-bits.md"), "python -m benchmarks.studies.low_bits --report"
TABLE, NETWORKS_COMMAND = Path("best_configs/RESULTS.csv"), f"{REPORT_COMMAND} from best_configs/RESULTS.csv"
CONFIGS = ("w8a8", "w4a8", "w4a4", "w3a4", "w2a8")
KEY = ("benchmark", "model", "config", "variant", "epochs", "seed")
BASE, ALL, RECONSTRUCTION = "base", "all", "reconstruction"
STEPS: dict[str, dict[str, Any]] = {
    "cosine": {"annealing": cosine(warm_up=0.1)},
    "distillation": {"distillation": 0.9},
    "thresholds": {"activation_alpha": LEARNED_PO2},
    "averaging": {"averaging": 0.5},
    "stages": {"staged_bits": (8, 6, 5)},
}
"""What each step sets in a recipe."""
FASTER = {"interval": {"exponent_interval": 8}}
"""What saves time, and should lose nothing."""


NEUTRAL = {
    field.name: field.default
    for field in dataclasses.fields(Recipe)
    if any(field.name in step for step in (*STEPS.values(), *FASTER.values()))
}
"""What a recipe without any of the steps has."""


def _all_but(*left_out: str) -> dict[str, Any]:
    return {name: value for step, fields in STEPS.items() if step not in left_out for name, value in fields.items()}


VARIANTS = {
    BASE: {},
    **STEPS,
    **FASTER,
    ALL: _all_but(),
    **{f"{ALL}-{step}": _all_but(step) for step in STEPS},
    RECONSTRUCTION: {},
    f"{RECONSTRUCTION}+{ALL}": _all_but("stages"),
}
"""What is compared; two of them begin at what reconstruction gives, which wider stages would undo."""


def with_variant(benchmark: Benchmark, model: str, preset: str, variant: str, epochs: int) -> Benchmark:
    """Return a benchmark whose recipe of a preset is that of a variant."""
    recipe = dataclasses.replace(benchmark.recipe_of(model, preset), epochs=epochs, **NEUTRAL | VARIANTS[variant])
    spec = benchmark.network(model)[1]
    recipes: Mapping[str, Recipe] = {**spec.recipes, preset: recipe}
    networks = {**benchmark.networks, model: dataclasses.replace(spec, recipes=recipes)}
    return dataclasses.replace(benchmark, networks=networks)


def run_cell(experiment: Experiment, config: str, folder: Path) -> dict[str, Any]:
    """Fine-tune one network, in its folder, and return what came out."""
    widths = resolve_config(config, experiment.spec, experiment.network)
    with graphs_released():
        result = Workbench(experiment).finetune_and_score(config, widths, folder, experiment.recipe.epochs)
    return {
        "metric": result.calibrated.metric,
        "score_calibrated": round(result.calibrated.value, 6),
        "score": round(result.finetuned.value, 6),
        "validation": f"{result.validation:.6g}",
        "train_samples": len(experiment.dataset.train),
        "test_samples": result.calibrated.samples,
        "data": experiment.dataset.describe(),
        "seconds": result.seconds,
        "commit": project_commit(),
    }


def sections(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return a heading and a table for each network: mean and standard deviation over the seeds, beside the base's."""
    found: dict[tuple[str, ...], dict[str, list[dict[str, str]]]] = {}
    for row in rows:
        network = (row["benchmark"], row["model"], row["config"], row["epochs"], row["train_samples"])
        found.setdefault(network, {}).setdefault(row["variant"], []).append(dict(row))
    parts = []
    for (benchmark, model, config, epochs, samples), by_variant in found.items():
        rows_of_base = by_variant.get(BASE) or next(iter(by_variant.values()))
        first, before = rows_of_base[0], _mean([float(row["score_calibrated"]) for row in rows_of_base])
        parts.append(
            f"**{benchmark}, {model}, {config}**: {first['metric']}, {epochs} epochs of {samples} samples, "
            f"{first['test_samples']} test samples; before training {before}"
        )
        base = statistics.fmean(map(_score, by_variant[BASE])) if BASE in by_variant else None
        lines = [_line(name, by_variant[name], base) for name in VARIANTS if name in by_variant]
        parts.append(table(["recipe", "score", "to base", "seeds"], lines))
    return parts


def networks_table(records: Sequence[Mapping[str, str]]) -> str:
    """Return a line for each network and configuration of few bits: float, and the mean of each stage that there is."""
    rows = [row for row in records if row["alpha"] == AUTO_PO2 and row["config"] in CONFIGS]
    lines = []
    for model, config in itertools.product(dict.fromkeys(row["model"] for row in rows), CONFIGS):
        found = [row for row in rows if (row["model"], row["config"]) == (model, config)]
        if found:
            size = f"{int(found[0]['size_bits']) / BITS_PER_KIB:.1f}"
            shown = [_mean([_score(row) for row in found if row["stage"] == stage]) for stage in STAGES]
            lines.append([model, config, size, f"{float(found[0]['float_score']):.4f}", *shown])
    return table(["network", "widths", "KiB", "float", *STAGES.values()], lines)


def _mean(scores: Sequence[float]) -> str:
    if not scores:
        return ""
    spread = f" ± {statistics.stdev(scores):.4f}, {len(scores)} seeds" if len(scores) > 1 else ""
    return f"{statistics.fmean(scores):.4f}{spread}"


def _score(row: Mapping[str, str]) -> float:
    return float(row["score"])


def _line(name: str, rows: Sequence[Mapping[str, str]], base: float | None) -> list[str]:
    scores = [_score(row) for row in rows]
    deviation = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    mean, seeds = statistics.fmean(scores), ", ".join(sorted(row["seed"] for row in rows))
    return [name, f"{mean:.4f}{deviation}", "" if base is None else f"{mean - base:+.4f}", seeds]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.low_bits", description=__doc__)
    parser.add_argument("--benchmark", default="digits")
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path, help="float weights; without them the float network is trained first")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--preset", default="strong", help="recipe whose steps are varied, strong by default")
    parser.add_argument("--epochs", type=int, help="the preset's by default")
    parser.add_argument("--config", default="w4a4")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--train-samples", type=int, help="so many training samples, drawn by the seed; all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output-dir", type=Path, default=RUNS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help=f"write the tables into {REPORT}, run nothing")
    return parser


def _run_all(options: argparse.Namespace, command: str) -> None:
    benchmark = load_benchmark(options.benchmark)
    model, spec = benchmark.network(options.model)
    resolve_config(options.config, spec)
    epochs = options.epochs or benchmark.recipe_of(model, options.preset).epochs
    for seed in options.seeds:
        dataset = benchmark.load_data(options.data_dir, seed)
        train, _ = require_training_data(dataset)
        if options.train_samples is not None:
            dataset = dataclasses.replace(dataset, train=train.drawn(options.train_samples, seed))
        for variant in options.variants:
            key = (benchmark.name, model, options.config, variant, str(epochs), str(seed))
            if has_row(options.results, key, KEY):
                continue
            changed = with_variant(benchmark, model, options.preset, variant, epochs)
            experiment = Experiment(
                changed,
                model,
                dataset,
                AUTO_PO2,
                options.weights,
                seed,
                options.preset,
                resume=True,
                reconstruction=Reconstruction() if variant.startswith(RECONSTRUCTION) else None,
            )
            folder = options.output_dir / "-".join(key)
            experiment = experiment.with_float_weights(options.output_dir / f"{benchmark.name}-{model}-float-{seed}")
            row = run_cell(experiment, options.config, folder)
            add_row(options.results, dict(zip(KEY, key, strict=True)) | row | {"command": command}, KEY)
            sys.stdout.write(f"{' '.join(key)}: {row['score_calibrated']} to {row['score']}, {row['seconds']} s\n")
            sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")
    with ending_in_words(parser):
        if options.report:
            write_results(REPORT, REPORT_COMMAND, sections(read_csv(options.results)))
            write_results(REPORT, NETWORKS_COMMAND, [networks_table(read_records(TABLE))])
        else:
            _run_all(options, command_line("benchmarks.studies.low_bits", arguments))


if __name__ == "__main__":
    main()
