"""Which block of convolutional networks loses least under powers of two: rows of ``docs/design-blocks.md``.

``python -m benchmarks.studies.design_blocks --data-dir D`` trains every network of
:mod:`benchmarks.image_classification.design_blocks` in float, quantizes it under every row of :data:`CONFIGS`,
calibrated and reconstructed, proves the integer program of the narrowest one, and writes a row to
``benchmarks/results/design-blocks.csv`` as soon as it is there. ``--finetune`` trains the named networks on from what
was reconstructed. A row that is there is not run again, and a training that was stopped goes on after its last epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.image_classification.design_blocks import BENCHMARK, PRESET
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import Dataset
from po2quant.bit_config import AUTO
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import spread_inputs
from po2quant.deploy.verify import verify
from po2quant.diagnostics.measurement import ACTIVATION, KERNEL, Measurement, measure
from po2quant.diagnostics.probe import SAMPLES, Probe
from po2quant.export.c.run import compile_c
from po2quant.export.c.source import memory_bytes, write_c
from po2quant.graphs import graphs_released
from po2quant.integer.program import Program
from po2quant.network import freeze_scales
from po2quant.report.results import STAGES
from po2quant.runs.folder import project_commit
from po2quant.training.finetune import Experiment, Workbench, require_training_data
from po2quant.training.prepare import evaluate, resolve_config
from po2quant.training.reconstruct import Reconstruction

RESULTS, RUNS = Path("benchmarks/results/design-blocks.csv"), Path("runs/design_blocks")
FLOAT, CONFIGS = "float", ("w8a8", "w4a8", "w4a4")
NARROWEST = CONFIGS[-1]
"""Whose integer program is compared with its C."""
TRAIN_SAMPLES, WATCHED_SAMPLES, VERIFIED_SAMPLES = 9_000, 200, 64
"""Training pictures; test pictures whose accuracy is logged after each epoch; those whose every integer is compared."""
REAL = "real_scales"
VERIFIED = ("verified_samples", "integers", "mismatches")
RECONSTRUCTION = Reconstruction(samples=256, steps=100)
KEY = ("network", "config", "epochs", "seed")


def float_experiment(name: str, dataset: Dataset, seed: int, folder: Path) -> Experiment:
    """Return the experiment of a network with trained float weights."""
    watched = dataclasses.replace(dataset, test=dataset.test.head(WATCHED_SAMPLES))
    experiment = Experiment(BENCHMARK, name, watched, seed=seed, preset=PRESET, resume=True)
    experiment = experiment.with_float_weights(folder / f"{name}-{FLOAT}-{seed}")
    return dataclasses.replace(experiment, dataset=dataset)


def float_row(experiment: Experiment) -> dict[str, Any]:
    """Return what is known of a float network."""
    network = experiment.float_network
    weighted = [layer for layer in network.layers if layer.macs]
    return {
        "float_score": round(evaluate(BENCHMARK, network.model, experiment.dataset.test).value, 4),
        "macs": sum(layer.macs for layer in weighted),
        "parameters": sum(layer.kernel_parameters + layer.bias_parameters for layer in network.layers),
    }


@dataclasses.dataclass(frozen=True)
class Subject:
    """A float network, what quantizes it, and what looks at it.

    Args:
        bench: prepares, reconstructs and trains configurations of the network.
        x: test inputs that are looked at, float32 ``(samples, ...)``.
        probe: looks at the quantized network of the bench, whatever its configuration.
    """

    bench: Workbench
    x: np.ndarray
    probe: Probe

    @classmethod
    def of(cls, experiment: Experiment) -> Subject:
        """Return the subject of an experiment."""
        bench = Workbench(dataclasses.replace(experiment, reconstruction=RECONSTRUCTION))
        network = bench.prepare(resolve_config(CONFIGS[0], experiment.spec, experiment.network)).model
        x = spread_inputs(experiment.dataset.test, network, VERIFIED_SAMPLES)
        return cls(bench, x, Probe(network, x[:SAMPLES]))

    def row(self, config: str, epochs: int, folder: Path) -> dict[str, Any]:
        """Quantize the network, in its folder, and return its scores, its size and what stands out.

        Args:
            config: widths; those of 8 bits alone are calibrated, others reconstructed as well.
            epochs: of training after that.
            folder: run folder.
        """
        experiment = self.bench.experiment
        widths = resolve_config(config, experiment.spec, experiment.network)
        network = self.bench.prepare(widths).model
        stands_out = diagnosed([measure(0, tensor) for tensor in self.probe()])
        if config == CONFIGS[0]:
            scores = {"calibrated": evaluate(BENCHMARK, network, experiment.dataset.test)}
        else:
            result = self.bench.finetune_and_score(config, widths, folder, epochs)
            scores = {stage: getattr(result, stage) for stage in STAGES}
        freeze_scales(network, experiment.network.placement)
        program = integer_program(network)
        weight_bytes, arena_bytes = memory_bytes(program, pack=True)
        return {
            **{stage: round(scores[stage].value, 4) if scores.get(stage) else None for stage in STAGES},
            REAL: self.real_score(config) if config == NARROWEST else None,
            "weight_kib": round(weight_bytes / 1024, 2),
            "activation_peak_kib": round(arena_bytes / 1024, 2),
            **stands_out,
            **(verified(program, network, self.x) if config == NARROWEST else dict.fromkeys(VERIFIED)),
        }

    def real_score(self, config: str) -> float:
        """Return what the calibrated network scores with real scales in the place of powers of two."""
        experiment = dataclasses.replace(self.bench.experiment, alpha=AUTO)
        widths = resolve_config(config, experiment.spec, experiment.network)
        network = Workbench(experiment).prepare(widths).model
        return round(evaluate(BENCHMARK, network, experiment.dataset.test).value, 4)


def verified(program: Program, network: Any, x: np.ndarray) -> dict[str, int]:
    """Return how many integers of a program differ between Keras, the interpreter and C."""
    with tempfile.TemporaryDirectory() as folder:
        executable = compile_c(write_c(program, folder, "network"), folder, trace=True)
        found = verify(program, network, executable, x)
    return dict(zip(VERIFIED, (found.keras.samples, found.c.integers, found.mismatches), strict=True))


def diagnosed(rows: Sequence[Measurement]) -> dict[str, Any]:
    """Return what the tensors of a calibrated network have in common, and which of them is the worst, in dB."""
    kernels = [row for row in rows if row.part == KERNEL]
    activations = [row for row in rows if row.part == ACTIVATION]
    spreads = [row.exponent_max - row.exponent_min for row in kernels if row.exponent_max is not None]
    found: dict[str, Any] = {"output_sqnr_db": activations[-1].network_sqnr_db}
    for part, measured in ((KERNEL, kernels), (ACTIVATION, activations)):
        ratios = {row.after or row.layer: row.sqnr_db for row in measured if row.sqnr_db is not None}
        worst = min(ratios, key=lambda name: ratios[name])
        found |= {f"{part}_sqnr_db": round(statistics.fmean(_finite(ratios)), 2)}
        found |= {f"worst_{part}": worst, f"worst_{part}_sqnr_db": ratios[worst]}
    tails = [row.tail_bits for row in activations if row.tail_bits is not None]
    return found | {"exponent_spread": max(spreads), "tail_bits": round(statistics.fmean(tails), 2)}


def _finite(ratios: Mapping[str, float]) -> list[float]:
    return [ratio for ratio in ratios.values() if np.isfinite(ratio)]


def run(options: argparse.Namespace) -> None:
    """Run row after row; those that are done are in the results, whatever happens next."""
    epochs = BENCHMARK.recipe_of(options.networks[0], PRESET).epochs
    wanted = [(config, 0) for config in options.configs]
    wanted += [(config, epochs) for config in options.configs if options.finetune and config != CONFIGS[0]]
    for seed in options.seeds:
        dataset = BENCHMARK.load_data(options.data_dir, seed)
        train, _ = require_training_data(dataset)
        dataset = dataclasses.replace(dataset, train=train.drawn(options.train_samples, seed).without_augmentation())
        for name in options.networks:
            keys = [(name, config, str(count), str(seed)) for config, count in wanted]
            if all(has_row(options.results, key, KEY) for key in keys):
                continue
            with graphs_released():
                start = time.process_time()
                experiment = float_experiment(name, dataset, seed, options.output_dir)
                shared = float_row(experiment) | {"float_seconds": round(time.process_time() - start, 1)}
                subject = Subject.of(experiment)
                for key, (config, count) in zip(keys, wanted, strict=True):
                    if has_row(options.results, key, KEY):
                        continue
                    start = time.process_time()
                    found = subject.row(config, count, options.output_dir / f"{name}-{config}-{seed}")
                    seconds = round(time.process_time() - start, 1)
                    row = dict(zip(KEY, key, strict=True)) | shared | found | {"seconds": seconds}
                    row |= {"data": dataset.describe(), "commit": project_commit(), "command": _command(options, *key)}
                    add_row(options.results, row, KEY)
                    sys.stdout.write(f"{' '.join(key)}: {row}\n")
                    sys.stdout.flush()


def _command(options: argparse.Namespace, name: str, config: str, epochs: str, seed: str) -> str:
    """Return what makes one row."""
    arguments = ["--data-dir", str(options.data_dir), "--networks", name, "--configs", config, "--seeds", seed]
    arguments += ["--train-samples", str(options.train_samples)] if options.train_samples != TRAIN_SAMPLES else []
    return command_line("benchmarks.studies.design_blocks", [*arguments, *(["--finetune"] if int(epochs) else [])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.design_blocks", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="CIFAR-10 in a form that image_classification reads")
    parser.add_argument("--networks", nargs="+", default=list(BENCHMARK.networks), choices=BENCHMARK.networks)
    parser.add_argument("--configs", nargs="+", default=list(CONFIGS), choices=CONFIGS)
    parser.add_argument("--finetune", action="store_true", help="train the narrow networks on as well")
    parser.add_argument("--train-samples", type=int, default=TRAIN_SAMPLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output-dir", type=Path, default=RUNS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")
    with ending_in_words(parser):
        run(options)


if __name__ == "__main__":
    main()
