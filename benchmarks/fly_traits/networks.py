"""The networks of two runs as the files that :mod:`~benchmarks.fly_traits.counts` takes.

``python -m benchmarks.fly_traits.networks --detector RUN --classifier RUN --output-dir runs/flies`` writes the float
network that each ``po2quant finetune`` began with as ``.keras``, and what it made of it as an integer program.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

from po2quant.benchmark import load_benchmark
from po2quant.bit_config import POWERS_OF_TWO
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network
from po2quant.files import replaced_whole
from po2quant.runs.names import BEST_WEIGHTS, FLOAT_FOLDER
from po2quant.runs.request import network_of_run, read_request
from po2quant.targets import target_of
from po2quant.training.prepare import resolve_config
from po2quant.weight_files import load_weights

from .running import KERAS_SUFFIX, NETWORKS, PROGRAM_SUFFIX


def frozen_of_run(run: Path) -> tuple[keras.Model, keras.Model]:
    """Return the float network that a run of ``po2quant finetune`` began with, and the frozen one that it made.

    Raises:
        ValueError: for a folder without such a run.
    """
    asked, request = read_request(run), network_of_run(run, POWERS_OF_TWO)
    benchmark = load_benchmark(request.benchmark).for_target(target_of(request.target))
    _, spec = benchmark.network(request.model)
    model = spec.new_network()
    weights = run / FLOAT_FOLDER / BEST_WEIGHTS
    load_weights(model, weights if weights.is_file() else asked.weights)
    config = resolve_config(request.config, spec)
    return model, frozen_network(spec, config, run, None, request.seed, request.alpha)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fly_traits.networks", description=__doc__)
    for name in NETWORKS:
        parser.add_argument(f"--{name}", type=Path, help="run folder of po2quant finetune")
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        for name in NETWORKS:
            if (run := getattr(options, name)) is None:
                continue
            model, frozen = frozen_of_run(run)
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
