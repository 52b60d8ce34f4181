"""Each rule speaks where it should, and is silent just before."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from po2quant.diagnostics import findings
from po2quant.diagnostics.arrays import ArraySummary
from po2quant.diagnostics.findings import ERROR, NOTE, WARNING, find, find_in_arrays
from po2quant.diagnostics.measurement import COLUMNS, Measurement

SOUND = {
    "update_relative_mean": 0.01,
    "update_lsb_mean": 0.5,
    "flip_ratio": 0.2,
    "oscillation_ratio": 0.02,
    "zero_ratio": 0.1,
    "clip_ratio": 0.001,
    "exponent_change_ratio": 0.0,
    "effective_bits": 7.0,
    "sqnr_db": 40.0,
}


def row(epoch=1, layer="conv", part="kernel", bits=8, values=4096, after="", **measures):
    return Measurement(epoch, layer, part, after, bits, values, **SOUND | measures)


def run(epochs=8, **measures):
    """Return a run of a kernel; a list gives a measure for each epoch, from the first."""
    per_epoch = {name: value if isinstance(value, list) else [value] * epochs for name, value in measures.items()}
    return [row(epoch + 1, **{name: values[epoch] for name, values in per_epoch.items()}) for epoch in range(epochs)]


def rules(rows, losses=None):
    return [rule for finding in find(rows, losses) for rule in finding.rules]


FALLING = {epoch: 1.0 / epoch for epoch in range(1, 20)}
CONSTANT = dict.fromkeys(range(1, 20), 0.5)


def test_a_sound_tensor_is_not_mentioned():
    for part in ("kernel", "bias", "activation"):
        assert find(run(part=part), FALLING) == []


@pytest.mark.parametrize(
    ("rule", "guilty", "innocent"),
    [
        ("dead", {"flip_ratio": [0.1] * 3 + [0.0] * 5}, {"flip_ratio": [0.0] * 4 + [0.1] + [0.0] * 3}),
        ("vanishing", {"update_relative_mean": 0.9e-4}, {"update_relative_mean": 1e-4}),
        ("vanishing", {"update_relative_mean": [1.0] * 3 + [1e-5] * 5}, {"update_relative_mean": [1e-5] * 7 + [0.1]}),
        ("exploding", {"update_relative_mean": [0.1] * 4 + [1.1] + [0.1] * 3}, {"update_relative_mean": [9] + [1] * 7}),
        ("exploding", {"update_relative_mean": 2.0}, {"update_relative_mean": 2.0, "part": "bias"}),
        ("outliers", {"tail_bits": 4.1}, {"tail_bits": 4.0}),
        ("contradicted", {"negative_ratio": 0.001}, {"negative_ratio": 0.0}),
        ("zeros", {"zero_ratio": 0.9}, {"zero_ratio": 0.89}),
        ("zeros", {"zero_ratio": 1.0}, {"zero_ratio": 1.0, "sqnr_db": None}),
        ("levels", {"effective_bits": 5.9}, {"effective_bits": 6.1}),
        ("levels", {"bits": 16, "values": 1024, "effective_bits": 7.9}, {"bits": 16, "values": 256}),
        ("clipped", {"clip_ratio": 0.051}, {"clip_ratio": 0.05}),
        ("flapping", {"exponent_change_ratio": 0.2}, {"exponent_change_ratio": [0.9] * 3 + [0.0] * 5}),
        ("flapping", {"exponent_change_ratio": 0.11}, {"exponent_change_ratio": [0.0] * 6 + [1.0] * 2}),
        ("oscillating", {"oscillation_ratio": 0.11}, {"oscillation_ratio": 0.09}),
        ("noisy", {"sqnr_db": 24.0}, {"sqnr_db": 24.5}),
        ("noisy", {"bits": 31, "sqnr_db": 120.0}, {"bits": 31, "sqnr_db": 121.0}),
    ],
)
def test_a_rule_speaks_beyond_its_threshold_only(rule, guilty, innocent):
    assert rule in rules(run(**guilty), FALLING)
    assert rule not in rules(run(**innocent), FALLING)


def test_nothing_is_dead_where_the_network_does_not_learn():
    still = run(flip_ratio=0.0)
    assert "dead" in rules(still, FALLING)
    assert "dead" not in rules(still, CONSTANT)
    assert "dead" in rules(still, None)


def test_the_last_epochs_count_not_the_order_of_rows():
    assert "clipped" in rules(list(reversed(run(clip_ratio=[0.0] * 7 + [0.5]))))
    assert "clipped" not in rules(list(reversed(run(clip_ratio=[0.5] * 7 + [0.0]))))


def test_an_input_that_never_changes_is_not_dead_and_its_few_levels_are_its_own():
    rows = run(part="activation", flip_ratio=0.0, update_relative_mean=0.0, effective_bits=2.0)
    assert find(rows, FALLING) == []


def test_zeros_after_a_relu_are_a_note_and_a_silent_activation_is_an_error():
    (many,) = find(run(part="activation", zero_ratio=0.95, after="relu"))
    assert (many.severity, many.text) == (NOTE, "conv (after relu): 95 % of its 8-bit values are zero")
    (all_of_them,) = find(run(part="activation", zero_ratio=1.0, sqnr_db=None))
    assert all_of_them.severity == ERROR


def test_noise_that_leaves_a_clean_signal_is_a_note():
    (finding,) = find(run(bits=16, values=16, effective_bits=4.0, sqnr_db=50.0))
    assert finding.severity == NOTE
    (finding,) = find(run(bits=16, values=16, effective_bits=4.0, sqnr_db=30.0))
    assert finding.severity == WARNING


def test_what_is_wrong_with_one_tensor_is_one_sentence():
    dead = run(layer="conv2d_7", bits=16, flip_ratio=0.0, zero_ratio=0.97, effective_bits=11.5, sqnr_db=80.0, epochs=12)
    (finding,) = find(dead, FALLING)
    assert finding.text == (
        "conv2d_7 kernel: no kernel value has changed for 12 epochs; 97 % of its 16-bit values are zero"
    )
    assert (finding.severity, finding.rules) == (ERROR, ("dead", "zeros"))


def test_the_worst_comes_first_then_the_order_of_the_network():
    rows = [
        *run(layer="a", part="activation", zero_ratio=0.95),
        *run(layer="b", clip_ratio=0.2),
        *run(layer="c", zero_ratio=1.0, sqnr_db=0.0),
        *run(layer="d", clip_ratio=0.3),
    ]
    assert [(finding.layer, finding.severity) for finding in find(rows)] == [
        ("c", ERROR),
        ("b", WARNING),
        ("d", WARNING),
        ("a", NOTE),
    ]


def network(*ratios):
    return [
        row(layer=f"activation_{index}", part="activation", network_sqnr_db=ratio) for index, ratio in enumerate(ratios)
    ]


def test_the_error_jumps_where_it_falls_far_below_all_before():
    found = find(network(math.inf, 30.0, 28.0, 12.0, 25.0, 11.0))
    assert [(finding.layer, finding.rules) for finding in found] == [("activation_3", ("jump",))]
    assert "from 28 to 12 dB" in found[0].text


@pytest.mark.parametrize("ratios", [(math.inf, 15.0), (90.0, 35.0), (25.0, 16.0, 12.0, 11.0), ()])
def test_no_jump_where_the_error_grows_slowly_or_stays_small(ratios):
    assert "jump" not in rules(network(*ratios))


def test_a_lost_output_is_told_by_the_last_activation():
    (finding,) = find(network(30.0, 21.0, 11.5, 7.0))
    assert (finding.layer, finding.rules) == ("activation_3", ("poor_output",))
    assert "20 % of the output's power" in finding.text
    assert find(network(30.0, 21.0, 11.5, 10.0)) == []


def array(name="kernel", zeros=0.0, is_finite=True):
    return ArraySummary("conv", name, (3, 3), -1.0, 1.0, 0.5, zeros, 9, is_finite)


@pytest.mark.parametrize(
    ("summary", "severity"),
    [
        (array(zeros=1.0), ERROR),
        (array(zeros=0.92), WARNING),
        (array(is_finite=False), ERROR),
        (array("bias", is_finite=False), ERROR),
    ],
)
def test_arrays_of_a_weight_file_have_rules_too(summary, severity):
    (finding,) = find_in_arrays([array(), summary])
    assert finding.severity == severity


def test_zero_biases_of_a_float_file_are_as_the_float_network_has_them():
    assert find_in_arrays([array("bias", zeros=1.0), array(zeros=0.5)]) == []


def test_the_documentation_has_every_column_rule_and_threshold():
    text = (Path(__file__).parents[2] / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    names = [
        *COLUMNS,
        *(rule.__name__.removeprefix("_") for rule in findings.RULES),
        "jump",
        "poor_output",
        "not_finite",
    ]
    assert [name for name in names if f"`{name}`" not in text] == []
