"""Trained networks for the zoo: ``python -m benchmarks.studies.zoo RUN...``, of fine-tuned run folders.

Each network becomes an integer program in ``best_configs/zoo``, scored by the interpreter on the test split. Only data
whose licence is known here are taken. Give it runs that began from random weights.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from po2quant.benchmark import load_benchmark
from po2quant.bit_config import POWERS_OF_TWO
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network
from po2quant.files import read_json, write_json
from po2quant.integer.interpreter import quantize_inputs, results, run
from po2quant.integer.program import Program
from po2quant.runs.names import SCORES_FILE
from po2quant.runs.request import network_of_run, read_request
from po2quant.training.prepare import resolve_config
from po2quant.zoo import CONTENT, FOLDER, INDEX, TrainedNetwork, output_digest

LICENCES = {
    "scikit-learn digits": "UCI Optical Recognition of Handwritten Digits, CC BY 4.0, as scikit-learn ships it",
    "Speech Commands V2": "Google Speech Commands V2, CC BY 4.0",
}
LARGEST_BYTES = 400 * 1024
BATCH = 128


def predictor(program: Program) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from inputs to outputs that runs the interpreter."""

    def predict(x: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(x), BATCH):
            (values,) = results(program, run(program, quantize_inputs(program, x[start : start + BATCH])))
            parts.append(values)
        return np.concatenate(parts)

    return predict


def add(folder: Path, train_command: str) -> TrainedNetwork:
    """Write the program of a run folder, and return what is known of it."""
    asked, request = read_request(folder), network_of_run(folder, POWERS_OF_TWO)
    benchmark = load_benchmark(request.benchmark)
    model_name, spec = benchmark.network(request.model)
    dataset = benchmark.load_data(request.data_dir, request.seed)
    data = dataset.describe()
    licence = LICENCES[dataset.name]
    widths = resolve_config(request.config, spec)
    program = integer_program(frozen_network(spec, widths, folder, dataset, request.seed, request.alpha))
    config = Path(asked.config).stem
    name = f"{request.benchmark}-{model_name}-{config}"
    FOLDER.mkdir(exist_ok=True)
    program.save(FOLDER / f"{name}.npz")
    if (size := (FOLDER / f"{name}.npz").stat().st_size) > LARGEST_BYTES:
        raise ValueError(f"a network of the zoo must have at most {LARGEST_BYTES} bytes. Received: {name}, {size}")
    score = benchmark.score(predictor(program), dataset.test)
    trained = read_json(folder / SCORES_FILE, "scores")
    float_score = read_json(_float_folder(folder, asked.weights) / SCORES_FILE, "scores")["calibrated"]["value"]
    return TrainedNetwork(
        name,
        str(request.benchmark),
        model_name,
        config,
        score.metric,
        round(score.value, 6),
        round(float_score, 6),
        score.samples,
        int(trained["size_bits"]),
        data,
        licence,
        request.seed,
        train_command,
        output_digest(program),
    )


def _float_folder(folder: Path, weights: Path | None) -> Path:
    return folder / "float" if (folder / "float" / SCORES_FILE).exists() else Path(str(weights))


def main(arguments: Sequence[str] | None = None) -> None:
    """Add run folders to the zoo."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.zoo", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    path = FOLDER / INDEX
    rows = read_json(path, CONTENT) if path.exists() else {}
    for folder in parser.parse_args(arguments).runs:
        network = add(folder, _commands(folder))
        rows[network.name] = {key: value for key, value in dataclasses.asdict(network).items() if key != "name"}
        write_json(path, dict(sorted(rows.items())))


def _commands(folder: Path) -> str:
    """Return the commands that train a run, and before it its float network where another run has that."""
    asked = read_request(folder)
    folders = [folder] if asked.weights is None else [asked.weights.parent, folder]
    return " && ".join(f"{read_request(run).command()} --output-dir {run}" for run in folders)


if __name__ == "__main__":
    main()
