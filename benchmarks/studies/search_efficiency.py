"""How many trials, and how much processor time, the strategies of a search need.

``python -m benchmarks.studies.search_efficiency --benchmark digits`` searches with each strategy and several seeds and
writes ``benchmarks/results/search_efficiency-<benchmark>.csv``, a row per trial, and a picture beside it. A strategy
and seed that the file has are not run again. All trials start from one float network, and a trial of the same widths is
the same trial: its result is measured once, whoever asks for it. The seeds are those of the searches.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import tensorflow as tf

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from po2quant.benchmark import load_benchmark
from po2quant.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILLION, new_figure, save_figure
from po2quant.files import read_csv, write_csv
from po2quant.progress import SILENT, ProgressLine, progress_line
from po2quant.runs.folder import project_commit
from po2quant.search.gradient import WidthTraining
from po2quant.search.oracle import OBJECTIVE, first_seed
from po2quant.search.problem import Goal, SearchProblem, Values
from po2quant.search.run import computed_curvatures, measured_sensitivities
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import SearchSpace, config_from_values
from po2quant.search.strategies import BAYESIAN, GRADIENT, HESSIAN, INFORMED, RANDOM, STRATEGIES, Strategy
from po2quant.search.trial import TrialTraining
from po2quant.training.finetune import Experiment

RESULTS = Path("benchmarks/results")
COLORS = {INFORMED: BLUE, BAYESIAN: ORANGE, RANDOM: GREEN, GRADIENT: VERMILLION, HESSIAN: PURPLE}
TRIALS, EPOCHS, SEEDS = dict.fromkeys(COLORS, 20), 3, (0, 1, 2, 3, 4)
Measure = Callable[[SearchProblem, TrialTraining, Path], list[Sensitivity]]


class Trials:
    """Tries widths of one network, each combination once.

    Args:
        experiment: network, data and float weights.
        epochs: epochs of a trial.
    """

    def __init__(self, experiment: Experiment, epochs: int) -> None:
        keras.utils.set_random_seed(experiment.seed)
        layers, self._seed = experiment.network.layers, experiment.seed
        self._training, self._results = TrialTraining.of(experiment), {}
        self._measured: dict[Measure, tuple[list[Sensitivity], float]] = {}
        self.problem = SearchProblem(SearchSpace(), layers, Goal.of_size(layers), max_trials=1, epochs=epochs)
        self.seconds = 0.0
        """Processor seconds of what was asked for so far; what was computed once counts each time."""

    def of_search(self, count: int, seed: int) -> SearchProblem:
        """Return the problem of one search.

        Args:
            count: trials.
            seed: of the search.
        """
        problem = dataclasses.replace(self.problem, max_trials=count, seed=seed)
        return dataclasses.replace(
            problem,
            sensitivities=lambda: self._once(measured_sensitivities),
            curvatures=lambda: self._once(computed_curvatures),
            trained=lambda: self._trained(problem),
        )

    def _once(self, measure: Measure) -> list[Sensitivity]:
        if measure not in self._measured:
            start = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                rows = measure(self.problem, self._training, Path(folder))
            self._measured[measure] = rows, time.process_time() - start
        rows, seconds = self._measured[measure]
        self.seconds += seconds
        return rows

    def _trained(self, problem: SearchProblem) -> list[Values]:
        start = time.process_time()
        found = WidthTraining(problem, self._training).run(problem.epochs)
        self.seconds += time.process_time() - start
        return found

    def __call__(self, values: Mapping[str, int]) -> dict[str, float]:
        """Return score, metric and size of hyperparameter values."""
        key, problem = tuple(sorted(values.items())), self.problem
        if key not in self._results:
            size_bits, start = problem.goal.cost(values), time.process_time()
            config = config_from_values(values, problem.layers)
            metric = float(max(value for _, value in self._training.run(config, problem.epochs, self._seed)))
            score = metric * problem.goal.factor(size_bits)
            seconds = round(time.process_time() - start, 3)
            self._results[key] = {
                "score": score,
                "metric": metric,
                "size_bits": size_bits,
                "processor_seconds": seconds,
            }
        self.seconds += self._results[key]["processor_seconds"]
        return self._results[key]


class Race(keras_tuner.Tuner):
    """Runs an oracle's trials and keeps their results in order."""

    def __init__(self, oracle: keras_tuner.Oracle, trials: Trials, folder: str, line: ProgressLine = SILENT) -> None:
        self.results: list[dict[str, float]] = []
        self._trials, self._line = trials, line
        super().__init__(oracle=oracle, directory=folder, project_name="race", overwrite=True)
        oracle.verbose = 0

    def run_trial(self, trial: Any) -> dict[str, float]:
        """Run one trial."""
        start = time.perf_counter()
        result = self._trials(trial.hyperparameters.values)
        seconds, spent = round(time.perf_counter() - start, 3), round(self._trials.seconds, 2)
        self.results.append(result | {"seconds": seconds, "processor_seconds_so_far": spent})
        self._line.advance()
        return {OBJECTIVE.name: result["score"]}


def of_keras_tuner(oracle: type[keras_tuner.Oracle]) -> Strategy:
    """Return an oracle of Keras Tuner as a strategy, as AutoQKeras used it."""
    return lambda problem: oracle(
        objective=OBJECTIVE,
        max_trials=problem.max_trials,
        hyperparameters=problem.space.hyperparameters(problem.layers),
        allow_new_entries=False,
        seed=first_seed(problem),
    )


COMPARED: dict[str, Strategy] = {
    **{name: STRATEGIES[name] for name in (INFORMED, GRADIENT, HESSIAN)},
    BAYESIAN: of_keras_tuner(keras_tuner.oracles.BayesianOptimizationOracle),
    RANDOM: of_keras_tuner(keras_tuner.oracles.RandomSearchOracle),
}


def race(strategy: str, trials: Trials, count: int, seed: int) -> list[dict[str, Any]]:
    """Return a row for each trial of one search."""
    trials.seconds = 0.0
    with tempfile.TemporaryDirectory() as folder, progress_line(f"{strategy} {seed}", count) as line:
        tuner = Race(COMPARED[strategy](trials.of_search(count, seed)), trials, folder, line)
        tuner.search()
    rows, best = [], 0.0
    for number, result in enumerate(tuner.results, 1):
        best = max(best, result["score"])
        rows.append({"strategy": strategy, "seed": seed, "trial": number, **result, "best_score": best})
    return rows


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results file, none where there is no file."""
    return [
        row | {"seed": int(row["seed"]), "trial": int(row["trial"]), "best_score": float(row["best_score"])}
        for row in read_csv(path, missing_ok=True)
    ]


def curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """Return the best score after each trial, by strategy and seed."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault(row["strategy"], {}).setdefault(row["seed"], []).append(row["best_score"])
    return found


def trials_to_reach(curve: Sequence[float], score: float) -> int | None:
    """Return how many trials a search needed to reach a score, None where it did not."""
    return next((number for number, best in enumerate(curve, 1) if best >= score), None)


def summary(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return lines that say how many trials each strategy took to the last score of the plain Bayesian search."""
    by_strategy = curves(rows)
    targets = {seed: curve[-1] for seed, curve in by_strategy.get(BAYESIAN, {}).items()}
    lines = []
    for strategy, by_seed in by_strategy.items():
        last = [curve[-1] for curve in by_seed.values()]
        length = max(map(len, by_seed.values()))
        line = f"{strategy}: best score after {length} trials {statistics.mean(last):.4f}"
        needed = {seed: trials_to_reach(curve, targets[seed]) for seed, curve in by_seed.items() if seed in targets}
        if needed:
            line += "; trials to the last score of bayesian of the same seed: "
            line += ", ".join("not reached" if count is None else str(count) for count in needed.values())
        lines.append(line)
    return lines


def timed_curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """Return processor seconds and best score after each trial, by strategy and seed."""
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for row in rows:
        point = float(row["processor_seconds_so_far"]), float(row["best_score"])
        found.setdefault(row["strategy"], {}).setdefault(row["seed"], []).append(point)
    return found


def score_at(curve: Sequence[tuple[float, float]], seconds: float) -> float:
    """Return the best score that a search had after so many seconds, nan before its first trial had ended."""
    return max((score for end, score in curve if end <= seconds), default=math.nan)


def time_summary(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each strategy: its score in the end, and where ``informed`` had spent half of its time."""
    by_strategy = timed_curves(rows)
    half = {seed: curve[-1][0] / 2 for seed, curve in by_strategy.get(INFORMED, {}).items()}
    lines = []
    for strategy, by_seed in by_strategy.items():
        scores, seconds = ([curve[-1][place] for curve in by_seed.values()] for place in (1, 0))
        line = f"{strategy}: {statistics.mean(scores):.4f} in {statistics.mean(seconds):.1f} s, {len(by_seed)} seeds"
        early = [score_at(curve, half[seed]) for seed, curve in by_seed.items() if seed in half]
        lines.append(line + (f"; {statistics.mean(early):.4f} in half of informed's time" if early else ""))
    return lines


def plot(rows: Iterable[Mapping[str, Any]], path: Path, footer: str) -> None:
    """Draw the best score over processor time: mean over the seeds, and their range."""
    figure = new_figure(footer)
    axes = figure.add_subplot(title="best score over processor time")
    for strategy, by_seed in timed_curves(rows).items():
        first, last = (pick(curve[end][0] for curve in by_seed.values()) for pick, end in ((max, 0), (min, -1)))
        times = sorted({end for curve in by_seed.values() for end, _ in curve if first <= end <= last})
        by_time = [[score_at(curve, end) for curve in by_seed.values()] for end in times]
        options = {"color": COLORS[strategy], "drawstyle": "steps-post"}
        axes.plot(times, list(map(statistics.mean, by_time)), label=f"{strategy}, {len(by_seed)} seeds", **options)
        low, high = list(map(min, by_time)), list(map(max, by_time))
        axes.fill_between(times, low, high, color=COLORS[strategy], alpha=0.15, step="post")
    after_flats = min(
        curve[len(curve) // 4][1] for by_seed in timed_curves(rows).values() for curve in by_seed.values()
    )
    axes.set(xlabel="processor seconds, float network and its data not counted", ylabel="best score")
    axes.set_ylim(bottom=after_flats - 0.01)  # the first flat configurations may score anything
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def run(
    experiment: Experiment, strategies: Mapping[str, int], seeds: Sequence[int], epochs: int, command: str, output: str
) -> None:
    """Run what the results file lacks; rewrite it after each search.

    Args:
        experiment: network, data and float weights.
        strategies: trials of each.
        seeds: of the searches.
        epochs: of a trial.
        command: that was called.
        output: how the results file begins.
    """
    name = experiment.benchmark.name
    path = RESULTS / f"{output}-{name}.csv"
    facts = {"epochs": epochs, "data": experiment.dataset.describe(), "commit": project_commit(), "command": command}
    rows, trials = read_rows(path), None
    done = {(row["strategy"], row["seed"]) for row in rows}
    for seed in seeds:
        for strategy in strategies:
            if (strategy, seed) in done:
                continue
            trials = trials or Trials(experiment, epochs)
            new = race(strategy, trials, strategies[strategy], seed)
            rows += [{"benchmark": name, "model": experiment.model, **row, **facts} for row in new]
            write_csv(path, rows)
            plot(rows, path.with_suffix(".png"), facts["data"])
    sys.stdout.write("\n".join([*summary(rows), *time_summary(rows), str(path), ""]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.search_efficiency", description=__doc__)
    parser.add_argument("--benchmark", default="digits")
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path, help="float weights; without them the float network is trained first")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--preset", default="small", help="recipe, small by default")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"epochs of a trial, {EPOCHS} by default")
    parser.add_argument("--strategies", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="seeds of the searches, 0 to 4 by default")
    parser.add_argument("--trials", type=int, help=f"trials of each strategy; by default {TRIALS}")
    parser.add_argument("--output", default="search_efficiency", help="how the results file begins")
    options = parser.parse_args(arguments)
    command = command_line("benchmarks.studies.search_efficiency", arguments)
    tf.get_logger().setLevel("ERROR")
    with ending_in_words(parser):
        benchmark = load_benchmark(options.benchmark)
        model, _ = benchmark.network(options.model)
        dataset = benchmark.load_data(options.data_dir, 0)
        experiment = Experiment(benchmark, model, dataset, weights=options.weights, preset=options.preset)
        with tempfile.TemporaryDirectory() as folder:
            experiment = experiment.with_float_weights(Path(folder))
            strategies = {name: options.trials or TRIALS[name] for name in options.strategies}
            run(experiment, strategies, options.seeds, options.epochs, command, options.output)


if __name__ == "__main__":
    main()
