"""The comparison of rules: each differs from ours where it says, runs are done once and go on after a stop."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import qkeras
from networks import randomize

from benchmarks.studies.document import END, begin_mark
from benchmarks.studies.po2_collapse import __main__ as program
from benchmarks.studies.po2_collapse import cells, report
from benchmarks.studies.po2_collapse.cells import RANDOM_START, Cell, prepare, run_cell
from benchmarks.studies.po2_collapse.rules import CAUSES, EXACT, STOCK, parse_rule, parse_rules, quantize_under
from po2quant.benchmark import Dataset, NetworkSpec, Recipe
from po2quant.diagnostics.recorder import Recorder
from po2quant.files import read_csv
from po2quant.network import (
    Placement,
    activation_quantizers,
    calibrate,
    flat_config,
    fold_batch_norm,
    weight_quantizers,
)
from po2quant.training.finetune import Experiment

EPOCHS = 2
NEVER_NEGATIVE = {"activation", "activation_1", "activation_2"}


def tiny():
    x = keras.Input((8, 8, 1), name="input")
    y = keras.layers.Conv2D(4, 3, strides=2, name="conv2d")(x)
    y = keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization(name="bn")(y))
    y = keras.layers.DepthwiseConv2D(3, name="depthwise_conv2d")(y)
    y = keras.layers.ReLU(name="relu_1")(y)
    return keras.Model(x, keras.layers.Dense(10, activation="softmax", name="dense")(keras.layers.Flatten()(y)))


SPEC = NetworkSpec(tiny, Placement(signed_input=False))


@pytest.fixture(scope="module")
def float_network():
    keras.utils.set_random_seed(0)
    return fold_batch_norm(randomize(tiny()))


@pytest.fixture
def experiment(digits, digits_data, float_network):
    recipe = Recipe("sparse_categorical_crossentropy", 1, 1, 32, lambda epoch: 0.01, ("accuracy",))
    benchmark = dataclasses.replace(digits, networks={"tiny": SPEC}, recipe=recipe)
    splits = (getattr(digits_data, part).head(64) for part in ("test", "train", "validation"))
    return Experiment(benchmark, "tiny", Dataset("digits", "subset", *splits), weights=float_network, resume=True)


def quantized(float_network, digits_data, rule, bits=16):
    model = quantize_under(parse_rule(rule), float_network, flat_config(tiny(), bits), SPEC.placement)
    calibrate(model, digits_data.train.inputs(slice(64)))
    return model


def weights_of(model):
    return {(w.layer.name, w.part): w.quantizer(w.variable).numpy() for w in weight_quantizers(model)}


def test_learned_rules_train_the_thresholds_of_everything_or_of_activations(float_network, digits_data):
    def thresholds(rule):
        model = quantized(float_network, digits_data, rule, bits=4)
        weights = [weight.quantizer for weight in weight_quantizers(model)]
        activations = [quantizer for _, quantizer in activation_quantizers(model)]
        return {quantizer.is_learned for quantizer in weights}, {quantizer.is_learned for quantizer in activations}

    assert thresholds("exact") == ({False}, {False})
    assert thresholds("learned") == ({True}, {True})
    assert thresholds("learned_activations") == ({False}, {True})


ALL_WEIGHTS = {(layer, part) for layer in ("conv2d", "depthwise_conv2d", "dense") for part in ("kernel", "bias")}
CHANGED_WEIGHTS = {
    "floor": ALL_WEIGHTS,
    "rounding": ALL_WEIGHTS,
    "depthwise": {("depthwise_conv2d", "kernel")},
    "relu": set(),
    "gradient": set(),
    "per_sample": set(),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_changes_the_weights_that_it_names_and_no_others(float_network, digits_data, cause):
    exact, changed = (
        weights_of(quantized(float_network, digits_data, f"{EXACT}{plus}", 4)) for plus in ("", f"+{cause}")
    )
    differing = {tensor for tensor in exact if not np.array_equal(exact[tensor], changed[tensor])}
    assert differing <= CHANGED_WEIGHTS[cause]
    assert bool(differing) == bool(CHANGED_WEIGHTS[cause])


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_changes_the_activations_and_gradients_that_it_names(float_network, digits_data, cause):
    quantizers = dict(activation_quantizers(quantized(float_network, digits_data, f"{EXACT}+{cause}")))
    unsigned = {name for name, quantizer in quantizers.items() if not quantizer.signed}
    assert unsigned == (set() if cause == "relu" else NEVER_NEGATIVE)
    assert {quantizer.is_static for quantizer in quantizers.values()} == {cause != "per_sample"}
    assert {quantizer.clipped_gradient for quantizer in quantizers.values()} == {cause != "gradient"}


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_stock_rule_is_qkeras_own(float_network, digits_data, bits):
    for weight in weight_quantizers(quantized(float_network, digits_data, STOCK, bits)):
        width = weight.quantizer.bits
        qkeras_own = qkeras.quantizers.quantized_bits(width, width, 1, 1, alpha="auto_po2")
        np.testing.assert_array_equal(weight.quantizer(weight.variable), qkeras_own(weight.variable))


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_without_the_floor_alone_kernels_are_those_of_qkeras_with_integer_0(float_network, digits_data, bits):
    for weight in weight_quantizers(quantized(float_network, digits_data, f"{STOCK}-floor", bits)):
        if weight.part == "kernel":
            qkeras_own = qkeras.quantizers.quantized_bits(bits, 0, 1, 1, alpha="auto_po2")
            qkeras_own(weight.variable)
            step = np.asarray(qkeras_own.scale) * 2.0 ** (1 - bits)
            np.testing.assert_array_equal(weight.quantizer.compute_scale(weight.variable), step)


def test_under_the_floor_no_scale_is_smaller_and_all_others_are_as_before(float_network, digits_data):
    exact, floored = (quantized(float_network, digits_data, rule) for rule in (EXACT, f"{EXACT}+floor"))
    for before, after in zip(weight_quantizers(exact), weight_quantizers(floored), strict=True):
        scale = before.quantizer.compute_scale(before.variable).numpy()
        expected = np.maximum(scale, 2.0 ** (before.quantizer.bits - 23))
        np.testing.assert_array_equal(after.quantizer.compute_scale(after.variable), expected)


def test_stock_without_all_causes_is_exact():
    everything_off = parse_rule(STOCK + "".join(f"-{cause}" for cause in CAUSES))
    assert everything_off.causes == parse_rule(EXACT).causes
    assert parse_rule(f"{EXACT}+relu+floor").causes == ("floor", "relu")


def test_causes_stand_for_each_alone_and_all_but_each():
    names = [rule.name for rule in parse_rules(["stock", "causes", "stock"])]
    assert names == ["stock", *(f"exact+{cause}" for cause in CAUSES), *(f"stock-{cause}" for cause in CAUSES)]


@pytest.mark.parametrize(
    "name", ["stocks", "exact+flor", "learned+floor", "learned_activations+relu", "float-floor", "+floor", ""]
)
def test_an_unknown_rule_ends_in_one_sentence(name, capsys):
    with pytest.raises(SystemExit):
        program.main(["--rules", name])
    assert f"Received: {name!r}" in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["float", "exact"])
def test_the_penalty_is_on_every_kernel(experiment, rule):
    model, _ = prepare(experiment, Cell("flat8", parse_rule(rule), l2=0.5))
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]
    expected = 0.5 * sum(float(np.sum(np.square(kernel))) for kernel in kernels)
    assert len(kernels) == 3
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert not prepare(experiment, Cell("flat8", parse_rule(rule)))[0].losses


def test_a_random_network_passes_its_signal_on(experiment):
    model, inputs = prepare(experiment, Cell("float", parse_rule("float"), start=RANDOM_START))
    outputs = keras.Model(model.input, model.get_layer("relu").output)(inputs).numpy()
    assert np.sqrt(np.mean(np.square(outputs))) == pytest.approx(np.sqrt(0.5), rel=0.2)  # of a unit normal's ReLU


def facts(row):
    return {name: value for name, value in row.items() if name not in ("seconds", "command")}


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_gives_the_row_of_one_that_never_stopped(experiment, tmp_path, monkeypatch):
    cell = Cell("flat4", parse_rule(f"{EXACT}+floor"), epochs=EPOCHS)
    whole = run_cell(experiment, cell, tmp_path / "whole", "command")
    observe = Recorder.observe

    def stop(recorder, epoch):
        if epoch == EPOCHS:
            raise KeyboardInterrupt
        observe(recorder, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "observe", stop)
        with pytest.raises(KeyboardInterrupt):
            run_cell(experiment, cell, tmp_path / "stopped", "command")
    assert facts(run_cell(experiment, cell, tmp_path / "stopped", "command")) == facts(whole)
    first, second = (next((tmp_path / name).rglob("diagnostics.csv")) for name in ("whole", "stopped"))
    assert first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")


def test_a_row_that_is_there_is_not_run_again(experiment, tmp_path, monkeypatch):
    results, runs = tmp_path / "results.csv", []

    def record(experiment, cell, root, command):
        runs.append(cell.rule.name)
        return dict(zip(cells.KEY, cell.key(experiment), strict=True)) | {
            "metric": "accuracy",
            "score_calibrated": 0.5,
            "score_trained": None,
        }

    monkeypatch.setattr(program, "run_cell", record)
    wanted = [Cell("flat16", rule) for rule in parse_rules(["exact", "stock"])]
    program.run(experiment, wanted[:1], tmp_path, results, "command")
    program.run(experiment, wanted, tmp_path, results, "command")
    program.run(experiment, [dataclasses.replace(wanted[0], l2=0.1)], tmp_path, results, "command")
    assert runs == ["exact", "stock", "exact"]
    assert [(row["rule"], row["l2"]) for row in read_csv(results)] == [
        ("exact", "0.0"),
        ("exact", "0.1"),
        ("stock", "0.0"),
    ]


def row(rule, score, config="flat16", seed=0, **values):
    columns = ("validation", "kernel_zero_ratio_before", "bias_zero_ratio_before", "kernel_zero_ratio_after")
    columns += ("bias_zero_ratio_after", "kernel_unchanged_ratio")
    key = dict(zip(cells.KEY, ("digits", "tiny", config, rule, "0.0", "trained", str(seed), "5"), strict=True))
    result = {"metric": "accuracy", "score_calibrated": "0.1", "score_trained": str(score), "outcome": "trained"}
    return key | result | dict.fromkeys(columns, "0.25") | {"data": "digits", "commit": "abc"} | values


def test_the_report_has_every_rule_and_cause_and_leaves_the_text_alone(tmp_path):
    document = tmp_path / "po2-collapse.md"
    document.write_text(f"before\n{begin_mark(report.COMMAND)}\nold\n{END}\nafter\n", encoding="utf-8")
    rows = [row("exact", 0.9), row("exact", 0.8, seed=1), row("stock", 0.5), row("stock-floor", 0.75)]
    rows += [row("exact+floor", 0.6), row("stock", 0.4, epochs="2"), row("float", 0.95, "float")]
    report.write_report(rows, tmp_path / "runs", document)
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| flat16 | 0.1000 to **0.5000** | 0.1000 to **0.8500** ± 0.0707 |  |" in text
    assert text.index("#### From trained weights, epochs: 2") < text.index("| flat16 | 0.1000 to **0.4000** |  |")
    assert text.index("| flat16 | 0.1000 to **0.4000** |  |") < text.index("#### From trained weights, epochs: 5")
    assert "| floor | 0.1000 to **0.6000** | 0.1000 to **0.7500** |" in text
    pictures = {path.name for path in (tmp_path / "images").iterdir()}
    assert pictures == {
        f"po2-collapse-digits-tiny-{name}.png" for name in ("trained-5-rules", "trained-5-causes", "trained-2-rules")
    }
