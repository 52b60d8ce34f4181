"""Both networks as the files that :mod:`~benchmarks.fly_traits.counts` takes.

``python -m benchmarks.fly_traits.networks --detector PATH --classifier PATH --output-dir runs/flies`` writes each float
network as ``.keras`` and its integer program as ``.npz``. Each is given as a run folder of ``po2quant finetune``, or as
a file of float weights, which is quantized to w8a8 here, calibrated on synthetic pictures; for ``--target litert``
LiteRT computes the same integers, but for averages.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

import po2quant
from po2quant.benchmark import Benchmark, load_benchmark
from po2quant.bit_config import POWERS_OF_TWO
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network
from po2quant.files import replaced_whole
from po2quant.runs.names import BEST_WEIGHTS, FLOAT_FOLDER
from po2quant.runs.request import network_of_run, read_request
from po2quant.targets import GENERIC, TARGETS, target_of
from po2quant.training.prepare import resolve_config
from po2quant.weight_files import load_weights

from . import BENCHMARK, data
from .detection import BENCHMARK as DETECTION
from .detection import synthetic_split
from .generator import crops
from .running import CLASSIFIER, DETECTOR, KERAS_SUFFIX, NETWORKS, PROGRAM_SUFFIX

TASKS: dict[str, Benchmark] = {DETECTOR: DETECTION, CLASSIFIER: BENCHMARK}
CONFIG = "w8a8"
CALIBRATION = 256  # flies; the detector's validation pictures


def networks_of(
    name: str, path: Path, model: str | None = None, target: str = GENERIC.name
) -> tuple[keras.Model, keras.Model]:
    """Return a float network, and the frozen one that is made of it.

    Args:
        name: one of :data:`NETWORKS`.
        path: a run folder of ``po2quant finetune``, or float weights.
        model: of the task, whose float weights they are; None: its first.
        target: what float weights are quantized for.

    Raises:
        ValueError: for another path.
    """
    return networks_of_run(path) if path.is_dir() else calibrated_networks(name, path, model, target)


def networks_of_run(run: Path) -> tuple[keras.Model, keras.Model]:
    """Return the float network that a run of ``po2quant finetune`` began with, and the frozen one that it made."""
    asked, request = read_request(run), network_of_run(run, POWERS_OF_TWO)
    benchmark = load_benchmark(request.benchmark).for_target(target_of(request.target))
    _, spec = benchmark.network(request.model)
    model = spec.new_network()
    weights = run / FLOAT_FOLDER / BEST_WEIGHTS
    load_weights(model, weights if weights.is_file() else asked.weights)
    config = resolve_config(request.config, spec)
    return model, frozen_network(spec, config, run, None, request.seed, request.alpha)


def calibrated_networks(name: str, weights: Path, model: str | None, target: str) -> tuple[keras.Model, keras.Model]:
    """Return the network of float weights, and what calibration on synthetic pictures makes of it."""
    _, spec = TASKS[name].network(model)
    network = spec.new_network()
    load_weights(network, weights)
    if name == DETECTOR:
        x = synthetic_split(0, "validation").inputs()
    else:
        x = data.split_of(crops(CALIBRATION, network.input_shape[1], seed=1)).inputs()
    return network, po2quant.freeze(po2quant.quantize(network, x, CONFIG, target=target), target)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fly_traits.networks", description=__doc__)
    for name in NETWORKS:
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help="run folder, or float weights")
        parser.add_argument(f"--{name}-model", help="whose float weights they are; by default the task's first")
    parser.add_argument("--target", default=GENERIC.name, choices=TARGETS, help="of float weights (%(default)s)")
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        for name in NETWORKS:
            if (path := getattr(options, name)) is None:
                continue
            model, frozen = networks_of(name, path, getattr(options, f"{name}_model"), options.target)
            options.output_dir.mkdir(parents=True, exist_ok=True)
            file = options.output_dir / name
            with replaced_whole(file.with_suffix(KERAS_SUFFIX)) as temporary:
                model.save(temporary)
            integer_program(frozen).save(file.with_suffix(PROGRAM_SUFFIX))
            sys.stdout.write(f"{file}{KERAS_SUFFIX}, {file}{PROGRAM_SUFFIX}\n")
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
