"""The bookkeeping of the performance benchmark; times themselves are not tested."""

import itertools

import keras
import numpy as np
import pytest
import qkeras

from benchmarks.studies import performance
from benchmarks.studies.performance import (
    BITS,
    EXPONENT_INTERVAL,
    MODELS,
    OURS,
    STOCK,
    Timings,
    Workload,
    builders,
    in_turn,
    main,
    measure_model,
    network_of,
    rows_of,
    stock_network,
)
from benchmarks.studies.rows import replace_rows
from po2quant.benchmark import NetworkSpec, Recipe
from po2quant.files import read_csv
from po2quant.network import Placement, slot_quantizers
from po2quant.quantizers import Quantizer

LABEL = "digits/ds_cnn"
FACTS = {"data": "random", "batch_size": 32}


def tiny_spec():
    def build():
        inputs = keras.Input((4, 4, 2), name="input")
        x = keras.layers.Conv2D(3, 3, padding="same", name="conv2d")(inputs)
        x = keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization(name="bn")(x))
        x = keras.layers.DepthwiseConv2D(3, name="depthwise_conv2d")(x)
        return keras.Model(inputs, keras.layers.Dense(5, name="dense")(keras.layers.Flatten(name="flatten")(x)))

    return NetworkSpec(build, Placement())


def recipe(loss="sparse_categorical_crossentropy"):
    return Recipe(loss, epochs=1, float_epochs=1, batch_size=8, learning_rate=lambda epoch: 0.001)


def test_tasks_run_in_turn_after_one_untimed_call():
    calls = []
    seconds = in_turn({name: lambda name=name: calls.append(name) for name in "ABC"}, rounds=2, repeats=2)
    assert "".join(calls) == "ABC" + "AABBCC" * 2
    assert {name: len(times) for name, times in seconds.items()} == {"A": 2, "B": 2, "C": 2}
    counted = itertools.count()
    assert in_turn({"A": lambda: None}, rounds=2, repeats=4, clock=lambda: float(next(counted))) == {"A": [0.25, 0.25]}


def test_rows_have_medians_and_ratios_to_both_float_networks():
    timings = Timings(
        {
            "training_step": {"float": [0.2, 0.1, 0.9], "float_folded": [0.1, 0.1, 0.1], "auto": [0.3, 0.4, 0.5]},
            "calibration": {"auto": [2.0]},
            "later_setup": {"auto": [1.0]},
        },
        {"stock_auto": "TypeError: no"},
        trial_samples=46,
    )
    rows = rows_of(LABEL, timings, FACTS)
    by_key = {(row["measure"], row["variant"]): row for row in rows}
    auto = by_key["training_step", "auto"]
    assert (auto["milliseconds"], auto["ratio_to_float"], auto["ratio_to_folded_float"]) == (400.0, 2.0, 4.0)
    assert auto["rounds"] == 3 and auto["data"] == "random"
    assert (auto["benchmark"], auto["model"]) == ("digits", "ds_cnn")
    calibration = by_key["calibration", "auto"]
    assert (calibration["milliseconds"], calibration["ratio_to_float"]) == (2000.0, None)
    failed = by_key["training_step", "stock_auto"]
    assert (failed["milliseconds"], failed["error"]) == (None, "TypeError: no")
    assert calibration["calibration_samples"] == 256
    assert by_key["later_setup", "auto"]["calibration_samples"] == 46
    assert len(rows) == 6


def test_a_model_measured_again_replaces_its_rows_alone(tmp_path):
    path = tmp_path / "results" / "performance.csv"
    row = {"measure": "inference", "variant": "float", "milliseconds": 1.0}
    for label, milliseconds in (("a/one", 1.0), ("a/two", 2.0), ("a/one", 3.0)):
        benchmark, model = label.split("/")
        replace_rows(
            path, [{"benchmark": benchmark, "model": model, **row, "milliseconds": milliseconds}], performance.KEY
        )
    assert [(row["model"], row["milliseconds"]) for row in read_csv(path)] == [("two", "2.0"), ("one", "3.0")]


@pytest.mark.slow
def test_an_interrupted_run_keeps_the_models_that_are_done(tmp_path, monkeypatch):
    measured = []

    def measure(variants, work, rounds, steps, line):
        measured.append(work)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return Timings({"training_step": {"float": [0.1] * rounds}})

    monkeypatch.setattr(performance, "measure_model", measure)
    path = tmp_path / "performance.csv"
    arguments = ["--models", LABEL, "anomaly_detection/autoencoder", "--rounds", "3", "--output", str(path)]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 130
    (row,) = read_csv(path)
    assert (row["model"], row["rounds"], row["data"], row["batch_size"]) == ("ds_cnn", "3", "random", "32")
    assert row["command"] == f"python -m benchmarks.studies.performance {' '.join(arguments)}"
    assert "tensorflow=" in row["versions"] and int(row["cores"]) > 0 and row["machine"] and "commit" in row


def test_the_training_step_alone_is_measured_at_the_batch_size_of_the_recipe(tmp_path, monkeypatch):
    batches = []

    def measure(variants, work, rounds, steps):
        batches.append(len(work.x))
        return Timings({"training_step": {name: [0.1] * rounds for name in variants}})

    monkeypatch.setattr(performance, "measure_training_step", measure)
    path = tmp_path / "step.csv"
    main(["--training-step", "--models", LABEL, "--rounds", "2", "--output", str(path)])
    rows, batch_size = read_csv(path), network_of(LABEL)[1].batch_size
    assert batches == [batch_size] and {row["batch_size"] for row in rows} == {str(batch_size)}
    assert [row["variant"] for row in rows] == list(performance.STEP_VARIANTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "digits"], "must read <benchmark>/<model>"),
        (["--models", "digits/other"], "must be one of ds_cnn"),
        (["--models", LABEL, "other/x"], "benchmark must be one of"),
        (["--steps", "0"], "--rounds and --steps must be 1 or more. Received: 5, 0"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(tmp_path / "performance.csv")])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "performance.csv").exists()


def test_the_default_models_exist():
    assert [network_of(label)[0].mpq_config.stem.split("-")[0] for label in MODELS] == [m.split("/")[0] for m in MODELS]


def test_random_data_fit_the_loss():
    work = Workload.random(tiny_spec(), recipe())
    assert work.x.shape == (32, 4, 4, 2) and work.y.shape == (32,) and work.calibration_inputs.shape == (256, 4, 4, 2)
    assert set(work.y.numpy()) <= set(range(5))
    regression = Workload.random(tiny_spec(), recipe("mean_squared_error"))
    np.testing.assert_array_equal(regression.y, regression.x)


@pytest.mark.parametrize("alpha", STOCK.values())
def test_a_stock_network_computes_with_the_quantizers_of_qkeras_alone(alpha, monkeypatch):
    spec = tiny_spec()
    model = stock_network(spec, alpha)
    monkeypatch.setattr(Quantizer, "__call__", lambda *arguments, **keywords: pytest.fail("one of ours was called"))
    x = np.random.default_rng(0).normal(size=(6, 4, 4, 2)).astype(np.float32)
    stock = qkeras.quantizers.quantized_bits(BITS, BITS, 1, 1, alpha=alpha)
    kernel = model.get_layer("conv2d").kernel
    expected = keras.ops.relu(
        keras.ops.conv(stock(x), stock(kernel), padding="same") + stock(model.get_layer("conv2d").bias)
    )
    inner = keras.Model(model.input, model.get_layer("depthwise_conv2d").input)
    np.testing.assert_allclose(inner(x), stock(expected), rtol=1e-5, atol=1e-6)
    model(x)


@pytest.mark.slow
def test_a_failed_stock_variant_leaves_the_others():
    spec = tiny_spec()
    variants = builders(spec)

    def fail():
        raise TypeError("not\nhere")

    variants = {name: variants[name] for name in ("float", "float_folded", "auto")} | {"stock_auto": fail}
    timings = measure_model(variants, Workload.random(spec, recipe()), rounds=2, steps=1)
    assert timings.errors == {"stock_auto": "TypeError: not here"}
    measured = {measure: list(seconds) for measure, seconds in timings.seconds.items()}
    everyone = ["float", "float_folded", "auto"]
    assert measured == {
        "first_setup": everyone,
        "training_step": everyone,
        "inference": everyone,
        "calibration": ["auto"],
        "later_setup": ["auto"],
    }
    with pytest.raises(TypeError, match="not"):
        measure_model(variants | {next(iter(OURS)): fail}, Workload.random(spec, recipe()), rounds=1, steps=1)


@pytest.mark.slow
def test_learned_scales_are_in_training_when_steps_are_timed():
    spec, models, learning = tiny_spec(), [], []

    def build():
        models.append(builders(spec)["learned_po2"]())
        return models[-1]

    class Line:
        def update(self, message):
            if message == "training_step":
                learning.extend(quantizer.learning for quantizer in slot_quantizers(models[0]).values())

        def advance(self):
            pass

    variants = {"float": spec.new_network, "learned_po2": build}
    timings = measure_model(variants, Workload.random(spec, recipe()), rounds=1, steps=1, line=Line())
    assert learning and all(learning)
    assert all("learned_po2" in seconds for seconds in timings.seconds.values())


@pytest.mark.slow
def test_steps_that_keep_exponents_search_at_every_interval(monkeypatch):
    spec, searches = tiny_spec(), []
    monkeypatch.setattr(performance, "search_exponents", lambda model: searches.append(model))
    variants = {name: builders(spec)[name] for name in ("float", "auto_po2_kept")}
    timings = measure_model(variants, Workload.random(spec, recipe()), rounds=2, steps=EXPONENT_INTERVAL)
    assert len(timings.seconds["training_step"]["auto_po2_kept"]) == 2
    assert list(timings.seconds["inference"]) == ["float"]
    assert len(searches) == 1 + 1 + 2  # before the first step, in the untimed call, and in each round
