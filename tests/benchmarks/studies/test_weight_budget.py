"""Widths of kernels under a budget of bytes, and the table of what came of them."""

import pytest

from benchmarks.studies.weight_budget import BITS_PER_KILOBYTE, Cell, allocated, budgets_table, main, run_cell
from po2quant.cost import WEIGHTS
from po2quant.files import read_csv
from po2quant.search.sensitivity import Sensitivity
from po2quant.search.space import widths_of_config
from po2quant.training.finetune import Experiment
from po2quant.uniform import UniformWidths

KERNEL_BITS = (2, 4, 8)


@pytest.fixture(scope="module")
def network(digits):
    return digits.network("ds_cnn")[1].fold()


def test_kernels_keep_the_budget_and_the_sensitive_ones_are_wider(network):
    base = network.uniform(UniformWidths(8, 8, 8), "base")
    parameters = {layer.name: layer.kernel_parameters for layer in network.layers if layer.kind == WEIGHTS}
    sensitive = max(parameters, key=lambda name: -parameters[name])
    rows = [
        Sensitivity(slot, bits, 0.0, (8 - bits) * (100.0 if slot == f"{sensitive}.kernel" else 1.0))
        for slot, own in widths_of_config(base).items()
        for bits in (KERNEL_BITS if slot.endswith(".kernel") else (own,))
    ]
    budget = 4 * sum(parameters.values()) / BITS_PER_KILOBYTE

    config, bits = allocated(network, rows, base, budget)

    assert bits == sum(config.kernel_bits(name) * count for name, count in parameters.items())
    assert bits <= budget * BITS_PER_KILOBYTE
    assert config.kernel_bits(sensitive) == 8
    assert all(config.layers[name] == own for name, own in base.layers.items() if own.activation is not None)


def test_the_table_has_a_line_for_each_network_with_its_stages_and_its_loss():
    head = {
        "benchmark": "b",
        "model": "m",
        "kilobytes": "15",
        "keep": "0.6",
        "widths": "2-3",
        "float_epochs": "1",
        "float_rate": "0.1",
    }
    row = {**head, "epochs": "4", "seed": "0", "kernel_kilobytes": "14.9", "kernel_bits": "conv=2x432 dense=3x640"}
    scores = {"float": "0.8", "calibrated": "0.2", "reconstructed": "0.7", "finetuned": "0.75"}

    lines = budgets_table([{**row, "stage": stage, "score": score} for stage, score in scores.items()]).splitlines()

    kernels = "2 bits x 432, 3 bits x 640"
    assert lines[2:] == [f"| 14.9 | 0.6 | {kernels} | 1 at 0.1, 4 | 0.8000 | 0.7000 | 0.7500 | -0.0500 |"]


def test_a_run_without_weights_is_refused_in_a_sentence(capsys):
    with pytest.raises(SystemExit):
        main(["--kilobytes", "26"])

    assert "weights must be a file of float weights. Received: none" in capsys.readouterr().err


@pytest.mark.slow
def test_a_pruned_network_is_trained_in_float_allocated_reconstructed_and_scored_once(
    digits, digits_data, digits_weights, tmp_path
):
    experiment = Experiment(digits, "ds_cnn", digits_data, weights=digits_weights, resume=True)
    weights = sum(layer.kernel_parameters for layer in experiment.network.layers)
    cell = Cell(weights * 2.5 / BITS_PER_KILOBYTE, 0.7, KERNEL_BITS, 1, None, 1)
    results = tmp_path / "results.csv"

    for _ in range(2):
        run_cell(experiment, cell, tmp_path / "runs", results, "command")

    rows = read_csv(results)
    assert [row["stage"] for row in rows] == ["calibrated", "finetuned", "float"]
    assert float(rows[0]["kernel_kilobytes"]) <= cell.kilobytes
    left = sum(int(part.rpartition("x")[2]) for part in rows[0]["kernel_bits"].split())
    assert left <= 0.7 * weights
