"""Would widths that differ inside a layer pay? The error of kernels at equal bytes, by how fine widths may be chosen.

``python -m benchmarks.studies.granularity --benchmark image_classification --weights ic_resnet8.h5 --data-dir D
--kilobytes 26 20`` trains nothing. A channel's error at a width is that of its products, for inputs of the measured
mean squares, relative to the energy of its layer's products. Widths are those of the least sum within the budget, where
each group of channels has 4 bits that say its width. ``--report`` writes the table of ``docs/low-bits.md``.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import optimize, sparse

from benchmarks.studies.document import table, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import AUTO_PO2
from po2quant.files import read_csv
from po2quant.network import FoldedNetwork, walk
from po2quant.network.kinds import is_weighted, kernel_facts, kernel_of
from po2quant.quantizers import quantized_bits
from po2quant.runs.folder import project_commit
from po2quant.training.finetune import Experiment
from po2quant.training.prepare import calibration_inputs

RESULTS = Path("benchmarks/results/granularity.csv")
REPORT, REPORT_COMMAND = Path("docs/low-bits.md"), "python -m benchmarks.studies.granularity --report"
KEY = ("benchmark", "model", "kilobytes", "granularity", "seed")
BITS_PER_KILOBYTE = 8000
WIDTHS, NO_BITS = (2, 3, 4, 5, 6, 8), 0
SIDE_BITS = 4
"""What it takes to say the width of a group of channels."""
GROUPS = {"a layer": None, "16 channels": 16, "8 channels": 8, "4 channels": 4, "a channel": 1}
"""Channels that share a width; None: all of a layer."""
OR_NO_BITS = ", or 0 bits"
GAP = 0.001
"""How far from the least error a choice of widths may be, relative to it."""


class Unit(NamedTuple):
    """Channels that share a width.

    Args:
        weights: of their kernels.
        errors: by width, relative to the energy of the layer.
    """

    weights: int
    errors: dict[int, float]


def channel_errors(network: FoldedNetwork, x: np.ndarray) -> dict[str, tuple[int, dict[int, np.ndarray]]]:
    """Return by layer the weights of a channel, and by width the relative error of each channel.

    Args:
        network: with trained weights.
        x: inputs, ``(samples, ...)``.
    """
    found = {}
    for node, inputs in walk(network.model, x):
        if not is_weighted(node.layer):
            continue
        kernel, facts = kernel_of(node.layer), kernel_facts(node.layer)
        read = np.asarray(inputs[0], np.float64)
        power = np.mean(np.square(read), axis=tuple(range(read.ndim - 1)))[:, None]  # (C_in, 1)
        channels = int(np.prod([kernel.shape[axis] for axis in facts.channel_axes]))

        def energies(values: np.ndarray, power: np.ndarray = power, channels: int = channels) -> np.ndarray:
            return (np.square(values.astype(np.float64)) * power).reshape(-1, channels).sum(axis=0)

        values = np.asarray(kernel)
        whole = energies(values)
        errors = {NO_BITS: whole / whole.sum()}
        for bits in WIDTHS:
            axes = list(facts.channel_axes)
            quantizer = quantized_bits(bits, bits, 1, alpha=AUTO_PO2, scale_axis=axes)
            errors[bits] = energies(values - np.asarray(quantizer(tf.convert_to_tensor(values)))) / whole.sum()
        found[node.layer.name] = values.size // channels, errors
    return found


def units_of(
    errors: Mapping[str, tuple[int, dict[int, np.ndarray]]], channels: int | None, widths: Sequence[int]
) -> list[Unit]:
    """Return the groups of so many channels that share a width; None: all of a layer.

    Channels of a layer are grouped by their energy, as a network's channels may be put in any order.
    """
    units = []
    for weights, by_width in errors.values():
        order = np.argsort(by_width[NO_BITS])
        for group in np.array_split(order, 1 if channels is None else -(-len(order) // channels)):
            units.append(Unit(weights * len(group), {bits: float(by_width[bits][group].sum()) for bits in widths}))
    return units


def least_error(units: Sequence[Unit], budget_bits: float) -> tuple[float, int]:
    """Return the least sum of errors within a budget, to :data:`GAP`, and the bits that it takes.

    Raises:
        ValueError: for a budget below the narrowest widths.
    """
    choices = [(place, bits) for place, unit in enumerate(units) for bits in unit.errors]
    errors = np.array([units[place].errors[bits] for place, bits in choices])
    sizes = np.array([bits * units[place].weights for place, bits in choices])
    least = sum(min(unit.errors) * unit.weights for unit in units) + SIDE_BITS * len(units)
    if budget_bits < least:
        raise ValueError(f"a budget must be at least {least} bits. Received: {budget_bits:.0f} bits")
    members = ([place for place, _ in choices], range(len(choices)))
    one_each = sparse.csr_array((np.ones(len(choices)), members), shape=(len(units), len(choices)))
    result = optimize.milp(
        errors,
        integrality=np.ones(len(choices)),
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(one_each, 1, 1),
            optimize.LinearConstraint(sizes[None], -np.inf, budget_bits - SIDE_BITS * len(units)),
        ],
        options={"mip_rel_gap": GAP},
    )
    chosen = result.x > 0.5
    return float(errors[chosen].sum()), int(sizes[chosen].sum()) + SIDE_BITS * len(units)


def errors_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a line for each network and granularity, with a column for each budget."""
    budgets = sorted({row["kilobytes"] for row in rows}, key=float, reverse=True)
    names = [f"{name}{also}" for name, also in itertools.product(GROUPS, ("", OR_NO_BITS))]
    lines = []
    for model, name in itertools.product(dict.fromkeys(row["model"] for row in rows), names):
        own = {row["kilobytes"]: row["error"] for row in rows if (row["model"], row["granularity"]) == (model, name)}
        if own:
            lines.append([model, name, *(f"{float(own[size]):.4f}" if own.get(size) else "" for size in budgets)])
    return table(["network", "one width for", *(f"{size} kB" for size in budgets)], lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.granularity", description=__doc__)
    parser.add_argument("--benchmark", default="image_classification")
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path, help="float weights")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--kilobytes", nargs="+", type=float, default=[38.7, 26.0, 20.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help=f"write the table into {REPORT}, measure nothing")
    return parser


def _measure(options: argparse.Namespace, command: str) -> None:
    if options.weights is None:
        raise ValueError("weights must be a file of float weights. Received: none")
    benchmark = load_benchmark(options.benchmark)
    model, _ = benchmark.network(options.model)
    dataset = benchmark.load_data(options.data_dir, options.seed)
    network = Experiment(benchmark, model, dataset, weights=options.weights).float_network
    inputs, source = calibration_inputs(dataset, network.model, options.seed)
    errors = channel_errors(network, inputs)
    for kilobytes in options.kilobytes:
        for (name, channels), zero in itertools.product(GROUPS.items(), ((), (NO_BITS,))):
            units = units_of(errors, channels, (*zero, *WIDTHS))
            error, bits = least_error(units, kilobytes * BITS_PER_KILOBYTE)
            label = f"{name}{OR_NO_BITS}" if zero else name
            row = {
                "benchmark": benchmark.name,
                "model": model,
                "kilobytes": f"{kilobytes:g}",
                "granularity": label,
                "seed": str(options.seed),
                "error": f"{error:.6g}",
                "bits": bits,
                "inputs": f"{len(inputs)} of {source}",
                "data": dataset.describe(),
                "commit": project_commit(),
                "command": command,
            }
            add_row(options.results, row, KEY)
            sys.stdout.write(f"{kilobytes:g} kB, {label}: {error:.5f}, {bits / BITS_PER_KILOBYTE:.2f} kB\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")
    with ending_in_words(parser, "stopped"):
        if options.report:
            write_results(REPORT, REPORT_COMMAND, [errors_table(read_csv(options.results))])
        else:
            _measure(options, command_line("benchmarks.studies.granularity", arguments))


if __name__ == "__main__":
    main()
