"""The command line: run what the table lacks, or write the report."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.po2_collapse import __doc__ as description
from benchmarks.studies.po2_collapse.cells import KEY, STARTS, TRAINED_START, Cell, run_cell
from benchmarks.studies.po2_collapse.report import write_report
from benchmarks.studies.po2_collapse.rules import EXACT, FLOAT, LEARNED, STOCK, parse_rules
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import load_benchmark
from po2quant.files import read_csv
from po2quant.graphs import graphs_released
from po2quant.training.finetune import Experiment, require_training_data
from po2quant.training.prepare import resolve_config

RESULTS, RUNS = Path("benchmarks/results/po2-collapse.csv"), Path("runs/po2_collapse")
REPORT = Path("docs/po2-collapse.md")


def run(experiment: Experiment, cells: Sequence[Cell], root: Path, results: Path, command: str) -> None:
    """Run the cells that the results file lacks; each is in the file as soon as it is done."""
    for cell in cells:
        if not has_row(results, cell.key(experiment), KEY):
            with graphs_released():
                row = run_cell(experiment, cell, root, command)
            add_row(results, row, KEY)
            name = " ".join(cell.key(experiment))
            sys.stdout.write(f"{name}: {row['metric']} {row['score_calibrated']} to {row['score_trained']}\n")
            sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.po2_collapse", description=description)
    parser.add_argument("--benchmark", default="digits")
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path, help="float weights; without them the float network is trained first")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--preset", default="small", help="recipe, small by default")
    parser.add_argument("--epochs", type=int, help="epochs of training; 0 only scores; by default the recipe's")
    parser.add_argument("--configs", nargs="+", default=["flat16"], help="flat16 by default")
    parser.add_argument(
        "--rules",
        nargs="+",
        default=[FLOAT, STOCK, EXACT, LEARNED],
        help="float, exact, stock, learned, learned_activations, exact+CAUSE, stock-CAUSE; "
        "causes: each cause alone, and all but each",
    )
    parser.add_argument("--l2", nargs="+", type=float, default=[0.0], help="penalty on kernels, 0 by default")
    parser.add_argument("--starts", nargs="+", default=[TRAINED_START], choices=STARTS, help="first weights")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output-dir", type=Path, default=RUNS, help=f"folder of the run folders, {RUNS} by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"CSV file, {RESULTS} by default")
    parser.add_argument("--report", action="store_true", help=f"write tables and pictures into {REPORT}, run nothing")
    return parser


def _run_all(options: argparse.Namespace, command: str) -> None:
    benchmark = load_benchmark(options.benchmark)
    model, spec = benchmark.network(options.model)
    rules = parse_rules(options.rules)
    for config in options.configs:
        resolve_config(config, spec)
    epochs = benchmark.recipe_of(model, options.preset).epochs if options.epochs is None else options.epochs
    combinations = list(itertools.product(options.starts, options.l2, options.configs, rules))
    cells = [
        Cell(FLOAT if rule.alpha is None else config, rule, l2, start, epochs)
        for start, l2, config, rule in combinations
    ]
    for seed in options.seeds:
        dataset = benchmark.load_data(options.data_dir, seed)
        require_training_data(dataset)
        experiment = Experiment(
            benchmark, model, dataset, weights=options.weights, seed=seed, preset=options.preset, resume=True
        )
        folder = options.output_dir / f"{benchmark.name}-{model}" / f"float-{seed}"
        if TRAINED_START in options.starts:
            experiment = experiment.with_float_weights(folder)
        run(experiment, list(dict.fromkeys(cells)), options.output_dir, options.results, command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command = command_line("benchmarks.studies.po2_collapse", arguments)
    tf.get_logger().setLevel("ERROR")
    with ending_in_words(parser):
        if options.report:
            write_report(read_csv(options.results, missing_ok=True), options.output_dir, REPORT)
        else:
            _run_all(options, command)


if __name__ == "__main__":
    main()
