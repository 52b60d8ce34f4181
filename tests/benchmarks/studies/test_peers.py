"""What peers make of a network, and the table of it."""

import dataclasses

import numpy as np
import pytest

from benchmarks.studies.peers.__main__ import main, run_peer
from benchmarks.studies.peers.outcomes import HGQ2, PEERS, Given
from benchmarks.studies.peers.report import draw_peers, peers_table
from po2quant.training.finetune import Experiment
from po2quant.training.prepare import calibration_inputs, network_inputs

FLOAT_SCORE = 0.9
ROW = {
    "benchmark": "digits",
    "model": "ds_cnn",
    "metric": "accuracy",
    "float_score": "0.9",
    "data": "digits",
    "scales": "s",
}


def row(peer, widths, score, size=1024, stage="calibrated"):
    return {
        **ROW,
        "peer": peer,
        "widths": widths,
        "score": str(score),
        "bytes": str(size),
        "stage": stage,
        "epochs": "3",
    }


def test_the_table_has_a_line_for_each_tool_and_stage_with_the_mean_of_its_seeds():
    rows = [row("QKeras", "w8a8", 0.5), row("QKeras", "w8a8", 0.7), row("HGQ2", "w4a8", 0.8, 512, "finetuned")]

    lines = peers_table([*rows, row("po2quant", "w4a8", 0.85, 512)]).splitlines()

    assert lines[2:] == [
        "| ds_cnn | w8a8 | 1.0 | QKeras | s | untrained | 0.6000 ± 0.1414, 2 seeds | -0.3000 |",
        "| ds_cnn | w4a8 | 0.5 | HGQ2 | s | fine-tuned, 3 epochs | 0.8000 | -0.1000 |",
        "| ds_cnn | w4a8 | 0.5 | po2quant | s | untrained | 0.8500 | -0.0500 |",
    ]


def test_the_picture_has_a_panel_for_each_network_and_a_mark_for_each_row():
    rows = [row("QKeras", "w8a8", 0.5), row("po2quant", "w8a8", 0.8), {**row("QKeras", "w8a8", 0.7), "model": "other"}]

    panels = draw_peers(rows).axes

    assert [(axes.get_title(), len(axes.lines)) for axes in panels] == [
        ("ds_cnn", 3),
        ("other", 2),
    ]  # float's line, too


@pytest.mark.parametrize("task", ["digits", "digits=weights.h5"])
def test_a_task_without_its_files_is_refused_in_a_sentence(task, capsys):
    with pytest.raises(SystemExit):
        main(["--tasks", task])

    assert f"a task must be TASK[/MODEL]=WEIGHTS,DATA. Received: {task!r}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"), [("litert-w8a8", 0.9), ("litert-w8a16-io16", 0.9), ("qkeras-w8a8", 0.5)]
)  # QKeras loses many decisions at 8 bits: docs/po2-collapse.md
def test_a_peer_of_eight_bits_predicts_what_the_float_network_does(name, least, digits, digits_data, digits_weights):
    pytest.importorskip("ai_edge_litert")
    experiment = Experiment(digits, "ds_cnn", digits_data, weights=digits_weights)
    network = experiment.float_network
    inputs, _ = calibration_inputs(digits_data, network.model, 0)
    x = network_inputs(digits_data.test.inputs(), network.model)

    outcome = PEERS[name].outcome(Given(network, inputs, digits_data, experiment.recipe, 0))

    assert outcome.kernel_bits == 8 * sum(layer.kernel_parameters for layer in network.layers)
    agreement = np.argmax(outcome.predict(x), -1) == np.argmax(network.model.predict(x, verbose=0), -1)
    assert np.mean(agreement) >= least


@pytest.mark.slow
@pytest.mark.skipif(bool(HGQ2.refusal()), reason=str(HGQ2.refusal()))
def test_hgq2_trains_the_network_to_no_more_bits_than_it_was_given(digits, digits_data, digits_weights):
    splits = {name: getattr(digits_data, name).head(64) for name in ("train", "validation", "test")}
    experiment = Experiment(digits, "ds_cnn", dataclasses.replace(digits_data, **splits), weights=digits_weights)

    made = run_peer(experiment, PEERS["hgq2-w4a8"], FLOAT_SCORE, "command")

    weights = sum(layer.kernel_parameters for layer in experiment.network.layers)
    assert 0 < made["kernel_bytes"] <= 4.2 * weights / 8
    assert made["test_samples"] == 64
