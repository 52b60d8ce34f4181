"""The command line: measure what the table lacks, or write the report."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.peers import __doc__ as description
from benchmarks.studies.peers.outcomes import CALIBRATED, PEERS, Given, Peer
from benchmarks.studies.peers.report import write_report
from benchmarks.studies.provenance import command_line, versions
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import AUTO_PO2
from po2quant.files import read_csv
from po2quant.report.results import read_records
from po2quant.runs.folder import project_commit
from po2quant.training.finetune import Experiment
from po2quant.training.prepare import calibration_inputs, evaluate, network_inputs

RESULTS, OURS = Path("benchmarks/results/peers.csv"), Path("best_configs/RESULTS.csv")
REPORT = Path("docs/peers.md")
KEY = ("benchmark", "model", "peer", "widths", "seed")
PACKAGES = ("tensorflow", "ai-edge-litert", "qkeras-v3", "keras", "numpy")
PRESET = "strong"


def run_peer(experiment: Experiment, peer: Peer, float_score: float, command: str) -> dict[str, Any]:
    """Return the row of what a peer makes of a network."""
    network, dataset = experiment.float_network, experiment.dataset
    inputs, source = calibration_inputs(dataset, network.model, experiment.seed)
    begin = time.monotonic()
    outcome = peer.outcome(Given(network, inputs, dataset, experiment.recipe, experiment.seed))
    seconds = time.monotonic() - begin
    score = experiment.benchmark.score(lambda x: outcome.predict(network_inputs(x, network.model)), dataset.test)
    is_calibrated = peer.stage == CALIBRATED
    return {
        "benchmark": experiment.benchmark.name,
        "model": experiment.model,
        "peer": peer.name,
        "widths": peer.widths,
        "seed": str(experiment.seed),
        "stage": peer.stage,
        "scales": peer.scales,
        "metric": score.metric,
        "score": round(score.value, 6),
        "float_score": round(float_score, 6),
        "kernel_bytes": outcome.kernel_bits // 8,
        "bias_bytes": outcome.bias_bits // 8,
        "epochs": 0 if is_calibrated else experiment.recipe.epochs,
        "samples": f"{len(inputs)} of {source}" if is_calibrated else "train",
        "test_samples": score.samples,
        "data": dataset.describe(),
        "seconds": round(seconds, 1),
        "versions": versions(PACKAGES),
        "commit": project_commit(),
        "command": command,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.peers", description=description)
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK[/MODEL]=WEIGHTS,DATA")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS, metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help=f"write the table of {REPORT} and its picture")
    return parser


def _experiment(task: str, seed: int) -> Experiment:
    """Return the float network and data that ``task[/model]=weights,data`` names."""
    name, is_named, files = task.partition("=")
    weights, has_data, data = files.partition(",")
    if not (is_named and has_data):
        raise ValueError(f"a task must be TASK[/MODEL]=WEIGHTS,DATA. Received: {task!r}")
    benchmark = load_benchmark(name.partition("/")[0])
    model, _ = benchmark.network(name.partition("/")[2] or None)
    dataset = benchmark.load_data(Path(data), seed)
    return Experiment(benchmark, model, dataset, AUTO_PO2, Path(weights), seed, PRESET)


def _run_all(options: argparse.Namespace, command: str) -> None:
    for task in options.tasks:
        for seed in options.seeds:
            experiment, float_score = _experiment(task, seed), None
            for peer in (PEERS[name] for name in options.peers):
                key = (experiment.benchmark.name, experiment.model, peer.name, peer.widths, str(seed))
                if has_row(options.results, key, KEY):
                    continue
                if float_score is None:
                    model = experiment.float_network.model
                    float_score = evaluate(experiment.benchmark, model, experiment.dataset.test).value
                row = run_peer(experiment, peer, float_score, command)
                add_row(options.results, row, KEY)
                sys.stdout.write(f"{' '.join(key)}: {row['score']}, {row['seconds']} s\n")
                sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")
    with ending_in_words(parser, "stopped"):
        if options.report:
            write_report(REPORT, read_csv(options.results), read_records(OURS))
        else:
            _run_all(options, command_line("benchmarks.studies.peers", arguments))


if __name__ == "__main__":
    main()
