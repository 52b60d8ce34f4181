"""What a found configuration is worth on test data, and on a core, beside others.

``python -m benchmarks.studies.found --configs RUN/best_config.json mpq --output F.csv`` trains each configuration as
the trials of a search are, with several seeds, keeps the weights of the best validation epoch, and writes a row for
each: its accuracy on validation and test data, and, of the first seed, what its C takes on an emulated core. A row
that the file has is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.microcontroller import measure
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import BitConfig
from po2quant.deploy.from_keras import integer_program
from po2quant.export.cores.emulator import CORES, checked_core
from po2quant.files import read_csv
from po2quant.network import freeze_scales
from po2quant.progress import progress_line
from po2quant.runs.folder import project_commit
from po2quant.search.trial import TrialTraining
from po2quant.training.finetune import Experiment
from po2quant.training.fit import save_weights
from po2quant.training.prepare import evaluate, resolve_config
from po2quant.weight_files import load_weights

KEY = ("config", "seed")
COUNTED = {
    "constant_bytes": "rodata_bytes",
    "code_bytes": "code_bytes",
    "instructions": "instructions",
    "arena_bytes": "arena_bytes",
    "differing_output_bytes": "differing_output_bytes",
}
"""What is told of a compiled network: its names in :mod:`benchmarks.studies.microcontroller` and here."""


@dataclasses.dataclass(frozen=True)
class Study:
    """Trains configurations of one network.

    Args:
        experiment: network, data and float weights.
        epochs: of a training.
        core: where the C is counted.
        packed: whether its weights lie in their own number of bits.
    """

    experiment: Experiment
    epochs: int
    core: str
    packed: bool

    @functools.cached_property
    def _training(self) -> TrialTraining:
        return TrialTraining.of(self.experiment)

    def row(self, config: BitConfig, seed: int, counted: bool) -> dict[str, Any]:
        """Return what a configuration gives with a seed of its training.

        Args:
            config: widths.
            seed: of the order of samples.
            counted: whether it is compiled.
        """
        model, best = self._training.network.model, float("-inf")
        with tempfile.TemporaryDirectory() as name:
            weights = Path(name, "best.weights.h5")
            for _, value in self._training.run(config, self.epochs, seed):
                if value > best:
                    best = value
                    save_weights(model, weights)
            load_weights(model, weights)
            test = evaluate(self.experiment.benchmark, model, self.experiment.dataset.test).value
            row: dict[str, Any] = {"epochs": self.epochs, "validation": round(best, 4), "test": round(test, 4)}
            return row | (self._counts(config, weights) if counted else dict.fromkeys(COUNTED.values()))

    def _counts(self, config: BitConfig, weights: Path) -> dict[str, Any]:
        model = self.experiment.network.quantize(config)
        load_weights(model, weights)
        freeze_scales(model)
        measured = measure(integer_program(model), CORES[self.core], self.packed, "O3")
        return {name: measured[known] for known, name in COUNTED.items()}


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each configuration: mean and standard deviation on test data over its seeds."""
    by_config: dict[str, list[float]] = {}
    for row in rows:
        by_config.setdefault(row["config"], []).append(float(row["test"]))
    return [
        f"{config}: test {statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.4f}, "
        f"{len(values)} seeds"
        for config, values in by_config.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.found", description=__doc__)
    parser.add_argument("--benchmark", default="digits")
    parser.add_argument("--model")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--weights", type=Path, help="float weights; without them the float network is trained first")
    parser.add_argument("--preset", default="small", help="recipe, small by default")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a training, 3 by default")
    parser.add_argument("--configs", nargs="+", required=True, help="names such as mpq and flat8, or files")
    parser.add_argument("--seeds", nargs="+", type=int, default=tuple(range(8)), help="0 to 7 by default")
    parser.add_argument("--core", default="m4", help="m4 by default")
    parser.add_argument("--packed", action="store_true", help="count C with packed weights")
    parser.add_argument("--output", type=Path, required=True, help="results file")
    options = parser.parse_args(arguments)
    with ending_in_words(parser):
        checked_core(options.core)
        benchmark = load_benchmark(options.benchmark)
        model, spec = benchmark.network(options.model)
        dataset = benchmark.load_data(options.data_dir, 0)
        experiment = Experiment(benchmark, model, dataset, weights=options.weights, preset=options.preset)
        configs = {name: resolve_config(name, spec, experiment.network) for name in options.configs}
        with (
            tempfile.TemporaryDirectory() as folder,
            progress_line("trainings", len(configs) * len(options.seeds)) as line,
        ):
            study = Study(experiment.with_float_weights(Path(folder)), options.epochs, options.core, options.packed)
            facts = {
                "core": options.core,
                "data": dataset.describe(),
                "commit": project_commit(),
                "command": command_line("benchmarks.studies.found", arguments),
            }
            for seed in options.seeds:
                for name, config in configs.items():
                    label = Path(name).stem
                    if config is None:
                        raise ValueError(f"configs must be quantized. Received: {name!r}")
                    if not has_row(options.output, (label, str(seed)), KEY):
                        row = study.row(config, seed, counted=seed == options.seeds[0])
                        add_row(options.output, {"config": label, "seed": seed, **row, **facts}, KEY)
                    line.advance()
    sys.stdout.write("\n".join([*summary(read_csv(options.output)), str(options.output), ""]))


if __name__ == "__main__":
    main()
