"""Memory and time of a long search.

``python -m benchmarks.studies.memory`` searches digits for 1000 trials, each of one epoch of few samples. As it goes,
it writes to ``benchmarks/results/memory.csv`` how much memory the process has taken at most, and how long it took, up
to a trial.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from po2quant.benchmark import load_benchmark
from po2quant.files import write_csv
from po2quant.runs.folder import project_commit
from po2quant.search.run import run_search
from po2quant.search.settings import SearchSettings
from po2quant.search.strategies import BAYESIAN, INFORMED
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.finetune import Experiment

OUTPUT = Path("benchmarks/results/memory.csv")
TRIALS, ROWS, SAMPLES = 1000, 20, 64
KIB_PER_MIB = 1024


def measure(experiment: Experiment, trials: int, strategy: str, add_row: Callable[[dict[str, Any]], None]) -> None:
    """Search, and call ``add_row`` after up to :data:`ROWS` trials, evenly spread."""
    start = time.perf_counter()

    def run_trials(tuner: BitWidthTuner) -> None:
        end_trial = tuner.on_trial_end

        def measured_end(trial: Any) -> None:
            end_trial(trial)
            done = len(tuner.log.rows)
            if done % max(trials // ROWS, 1) == 0:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_MIB
                add_row({"trial": done, "peak_mib": round(peak, 1), "seconds": round(time.perf_counter() - start)})

        tuner.on_trial_end = measured_end
        tuner.search()

    with tempfile.TemporaryDirectory() as folder:
        run_search(experiment, Path(folder), SearchSettings(trials, 1, strategy), run_trials)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.memory", description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"{TRIALS} by default")
    parser.add_argument("--bayesian", action="store_true", help="choose by the Gaussian process, not by sensitivities")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"CSV file, {OUTPUT} by default")
    options = parser.parse_args(arguments)
    with ending_in_words(parser, "stopped"):
        tf.get_logger().setLevel("ERROR")
        benchmark = load_benchmark("digits")
        model, _ = benchmark.network(None)
        dataset = benchmark.load_data(None, 0)
        splits = {"train": dataset.train.head(SAMPLES), "validation": dataset.validation.head(SAMPLES)}
        experiment = Experiment(benchmark, model, dataclasses.replace(dataset, **splits), preset="small")
        command = command_line("benchmarks.studies.memory", arguments)
        facts = {"data": experiment.dataset.describe(), "commit": project_commit(), "command": command}
        rows: list[dict[str, Any]] = []
        options.output.parent.mkdir(parents=True, exist_ok=True)

        def add_row(row: dict[str, Any]) -> None:
            rows.append(row | facts)
            write_csv(options.output, rows)

        with tempfile.TemporaryDirectory() as folder:
            experiment = experiment.with_float_weights(Path(folder))
            measure(experiment, options.trials, BAYESIAN if options.bayesian else INFORMED, add_row)
        sys.stdout.write(f"{options.output}\n")


if __name__ == "__main__":
    main()
