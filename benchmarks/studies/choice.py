"""Whether repeated trainings choose a better configuration than the best score of one training does.

``python -m benchmarks.studies.choice --benchmark digits_few --seeds 0 1 2`` searches with each seed, chooses once by
the highest score of a trial and once by ``--repeats``, and trains the five best trials with further seeds to know their
scores on test data. It writes a row for each of the five: both choices, and the trial's rank on test data. A seed that
the file has is not searched again.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import BitConfig
from po2quant.files import read_csv, write_csv
from po2quant.runs.folder import project_commit
from po2quant.runs.names import TRIAL_CONFIG
from po2quant.search.run import run_search
from po2quant.search.settings import SearchSettings
from po2quant.search.trial_log import TrialRow
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.finetune import Experiment
from po2quant.training.prepare import evaluate

TRIALS, EPOCHS, REPEATS, TEST_TRAININGS = 12, 3, 20, 4
TEST_SEED = 1000
"""Seed of the first training that is tested; those of a search begin with its own."""

OUTPUT = Path("benchmarks/results/choice-digits_few.csv")


def searched(experiment: Experiment) -> list[dict[str, Any]]:
    """Return a row for each repeated trial of a search, best on test data first."""
    first: dict[str, TrialRow] = {}

    def run_trials(tuner: BitWidthTuner) -> None:
        tuner.search()
        first.update({row.trial_id: row for row in tuner.log.rows})

    with tempfile.TemporaryDirectory() as folder:
        settings = SearchSettings(TRIALS, EPOCHS, repeats=REPEATS)
        found = run_search(experiment, Path(folder), settings, run_trials)
        rows = [
            _row(experiment, found.tuner, first[candidate.row.trial_id], candidate.row) for candidate in found.choice
        ]
    best = max(rows, key=lambda row: row["first_score"])
    ranked = sorted(rows, key=lambda row: row["test_score"], reverse=True)
    return [
        row | {"test_rank": rank, "is_best_of_trials": int(row is best), "is_chosen": int(row is rows[0])}
        for rank, row in enumerate(ranked, 1)
    ]


def _row(experiment: Experiment, tuner: BitWidthTuner, first: TrialRow, repeated: TrialRow) -> dict[str, Any]:
    config = BitConfig.load(tuner.trial_folder(first.trial_id) / TRIAL_CONFIG)
    tests = []
    for number in range(TEST_TRAININGS):
        for _ in tuner.training.run(config, EPOCHS, TEST_SEED + number):
            pass
        tests.append(evaluate(experiment.benchmark, tuner.training.network.model, experiment.dataset.test).value)
    factor = (first.score or 0.0) / (first.metric or 1.0)
    return {
        "seed": experiment.seed,
        "trial": first.trial_id,
        "size_bits": first.size_bits,
        "first_score": first.score,
        "repeated_score": repeated.score,
        "trainings": repeated.repeats,
        "test": round(statistics.mean(tests), 5),
        "test_standard_error": round(statistics.stdev(tests) / len(tests) ** 0.5, 5),
        "test_score": statistics.mean(tests) * factor,
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean rank on test data of both choices."""
    lines = []
    for column, name in (("is_best_of_trials", "best of the trials"), ("is_chosen", "chosen by repeats")):
        chosen = [row for row in rows if int(row[column])]
        rank, score = (statistics.mean(float(row[of]) for row in chosen) for of in ("test_rank", "test_score"))
        lines.append(f"{name}: mean rank on test {rank:.2f}, mean score on test {score:.4f}, {len(chosen)} searches")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.choice", description=__doc__)
    parser.add_argument("--benchmark", default="digits_few")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--weights", type=Path, help="float weights; without them the float network is trained first")
    parser.add_argument("--seeds", nargs="+", type=int, default=tuple(range(10)), help="0 to 9 by default")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="results file")
    options = parser.parse_args(arguments)
    with ending_in_words(parser):
        benchmark = load_benchmark(options.benchmark)
        model, _ = benchmark.network()
        dataset = benchmark.load_data(options.data_dir, 0)
        experiment = Experiment(benchmark, model, dataset, weights=options.weights, preset="small")
        facts = {
            "epochs": EPOCHS,
            "data": dataset.describe(),
            "commit": project_commit(),
            "command": command_line("benchmarks.studies.choice", arguments),
        }
        with tempfile.TemporaryDirectory() as folder:
            experiment = experiment.with_float_weights(Path(folder))
            for seed in options.seeds:
                rows = read_csv(options.output, missing_ok=True)
                if all(row["seed"] != str(seed) for row in rows):
                    fresh = searched(dataclasses.replace(experiment, seed=seed))
                    write_csv(options.output, [*rows, *(row | facts for row in fresh)])
    sys.stdout.write(f"{summary(read_csv(options.output))}\n{options.output}\n")


if __name__ == "__main__":
    main()
