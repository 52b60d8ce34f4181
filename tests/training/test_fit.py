"""The training loop: seeded, resumable to the bit, keeps its best epoch."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
from networks import state_of
from selections import slow_but

from po2quant.benchmark import Recipe, Split, validation_accuracy
from po2quant.files import read_csv
from po2quant.network import activation_quantizers, calibrate, flat_config, quantize_model, weight_quantizers
from po2quant.quantizers import LOG2_THRESHOLD, threshold_rate
from po2quant.runs.names import BEST_WEIGHTS, CHECKPOINT, EPOCHS_CSV
from po2quant.training.fit import DivergedError, Monitor, fit
from po2quant.training.schedules import constant, exponential_decay

RECIPE = Recipe("sparse_categorical_crossentropy", 4, 4, 16, exponential_decay(0.01, 0.9), ("accuracy",))


@pytest.fixture
def splits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 6)).astype("float32")
    y = (x[:, 0] + 0.5 * rng.normal(size=160) > 0).astype("int32")
    return Split(x[:128], y[:128]), Split(x[128:], y[128:])


def network(x, alpha="auto_po2"):
    """Return a quantized network with dropout, so that every kind of state is at stake."""
    keras.utils.set_random_seed(3)
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.3)]
    model = keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])
    quantized = quantize_model(model, flat_config(model, 6), alpha)
    calibrate(quantized, x)
    return quantized


def run(splits, folder, epochs, resume=False, recipe=RECIPE):
    model = network(splits[0].x)
    return model, fit(model, splits, recipe, Monitor(validation_accuracy), folder, epochs, seed=1, resume=resume)


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(splits, tmp_path):
    whole, whole_state = run(splits, tmp_path / "whole", 4)
    run(splits, tmp_path / "parts", 2)
    resumed, resumed_state = run(splits, tmp_path / "parts", 4, resume=True)
    assert without_seconds(resumed_state.rows) == without_seconds(whole_state.rows)
    np.testing.assert_equal(state_of(resumed), state_of(whole))


@pytest.mark.parametrize("alpha", slow_but(("learned_po2",), ("auto", "learned_po2")))
def test_a_step_is_traced_once(splits, tmp_path, alpha):
    """A trace that makes variables, be they of optimizer, loss or metrics, would be followed by a second one."""
    model, traces = network(splits[0].x, alpha), []

    def counted(name):
        step = getattr(model, name)
        setattr(model, name, lambda data: traces.append(name) or step(data))

    counted("train_step")
    counted("test_step")
    fit(model, splits, RECIPE, Monitor(validation_accuracy), tmp_path, 2)
    assert traces == ["train_step", "test_step"]


@pytest.mark.slow
def test_a_run_that_learns_scales_and_is_interrupted_goes_on_to_the_bit(splits, tmp_path):
    def learned_run(folder, resume=False, interrupted_after=None):
        model = network(splits[0].x, "learned_po2")

        def observe(epoch):
            if epoch == interrupted_after:
                raise KeyboardInterrupt

        state = fit(model, splits, RECIPE, Monitor(validation_accuracy, observe=observe), folder, 4, 1, resume)
        return model, without_seconds(state.rows)

    whole, whole_rows = learned_run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        learned_run(tmp_path / "parts", interrupted_after=2)
    resumed, resumed_rows = learned_run(tmp_path / "parts", resume=True)
    assert resumed_rows == whole_rows
    np.testing.assert_equal(state_of(resumed), state_of(whole))
    np.testing.assert_equal(
        [variable.numpy() for variable in resumed.optimizer.variables],
        [variable.numpy() for variable in whole.optimizer.variables],
    )


@pytest.mark.parametrize(("epochs", "learning_epochs"), slow_but(((4, 2),), ((1, 1), (4, 2), (5, 3))))
def test_thresholds_learn_for_half_of_the_steps_and_weights_for_all(splits, tmp_path, epochs, learning_epochs):
    model, seen = network(splits[0].x, "learned_po2"), []
    recipe = dataclasses.replace(RECIPE, thresholds_frozen_after=0.5)

    def observe(epoch):
        variables = [(variable.name == "log2_threshold", variable.numpy()) for variable in model.trainable_variables]
        thresholds = [value for is_threshold, value in variables if is_threshold]
        assert len(thresholds) == 7
        seen.append((thresholds, [value for is_threshold, value in variables if not is_threshold]))

    def differ(now, before):
        return any(np.any(a != b) for a, b in zip(now, before, strict=True))

    fit(model, splits, recipe, Monitor(validation_accuracy, observe=observe), tmp_path, epochs, 1)
    changed = [tuple(map(differ, now, before)) for before, now in itertools.pairwise(seen)]
    assert changed == [(epoch < learning_epochs, True) for epoch in range(epochs)]


def test_thresholds_have_the_rates_of_their_widths(splits, tmp_path):
    model = network(splits[0].x, "learned_po2")
    for weight, bits in zip(weight_quantizers(model), (4, 16, 8, 31), strict=True):
        weight.quantizer.bits = bits
    calibrate(model, splits[0].x)
    fit(model, splits, RECIPE, Monitor(validation_accuracy), tmp_path, 4, 1)
    expected = {
        id(quantizer.threshold): threshold_rate(quantizer.bits, 26, RECIPE.threshold_travel, RECIPE.threshold_rate)
        for quantizer in (
            *(weight.quantizer for weight in weight_quantizers(model)),
            *(quantizer for _, quantizer in activation_quantizers(model)),
        )
    }
    thresholds = [variable for variable in model.trainable_variables if variable.name == LOG2_THRESHOLD]
    assert len(set(expected.values())) == 4  # 4 and 6 bits have the largest rate in so few steps
    assert model.optimizer.threshold_rates == pytest.approx([expected[id(threshold)] for threshold in thresholds])


@pytest.mark.slow
def test_an_observer_sees_the_network_before_and_after_each_epoch_trained_here(splits, tmp_path):
    seen = []

    def observed_run(epochs, resume=False):
        model = network(splits[0].x)

        def observe(epoch):
            seen.append((epoch, model.optimizer.iterations.numpy() // 8, (tmp_path / CHECKPOINT).exists()))

        fit(model, splits, RECIPE, Monitor(validation_accuracy, observe=observe), tmp_path, epochs, 1, resume)

    observed_run(2)
    assert seen == [(0, 0, False), (1, 1, False), (2, 2, True)]
    seen.clear()
    observed_run(3, resume=True)
    assert seen == [(2, 2, True), (3, 3, True)]


def test_the_model_is_left_with_its_best_epoch(splits, tmp_path):
    model, state = run(splits, tmp_path, 4)
    values = [row["val_accuracy"] for row in state.rows]
    assert state.best_value == max(values)
    assert state.best_epoch == values.index(max(values))
    logits = model.predict(splits[1].x, verbose=0)
    assert np.mean(np.argmax(logits, axis=1) == splits[1].y) == pytest.approx(max(values), abs=1e-6)


def test_epochs_csv_has_a_row_per_epoch_and_tensorboard_its_events(splits, tmp_path):
    run(splits, tmp_path, 3)
    rows = read_csv(tmp_path / EPOCHS_CSV)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["learning_rate"]) == 0.01 * 0.9**2
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(rows[0])
    assert list((tmp_path / "tensorboard").glob("events.*"))
    assert (tmp_path / BEST_WEIGHTS).exists()


@pytest.mark.slow
def test_a_run_that_is_killed_before_its_checkpoint_has_the_row_of_its_last_epoch(splits, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("po2quant.training.fit._save_checkpoint", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(splits, tmp_path, 1)
    assert len(read_csv(tmp_path / EPOCHS_CSV)) == 1
    run(splits, tmp_path, 1, resume=True)
    assert len(read_csv(tmp_path / EPOCHS_CSV)) == 1


def test_patience_ends_a_run_that_no_longer_improves(splits, tmp_path):
    recipe = Recipe("sparse_categorical_crossentropy", 9, 9, 16, constant(0.0), ("accuracy",), patience=2)
    _, state = run(splits, tmp_path, 9, recipe=recipe)
    assert state.best_epoch == 0
    assert state.epoch == 3


def test_a_diverging_loss_is_an_error_that_says_so(splits, tmp_path):
    recipe = Recipe("mean_squared_error", 1, 1, 16, constant(1e30))
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    with pytest.raises(DivergedError, match=r"loss of epoch 1 is (nan|inf)"):
        fit(model, splits, recipe, Monitor(lambda logs: -logs["loss"]), tmp_path, 1)


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_checkpoint_is_named(splits, tmp_path, share):
    run(splits, tmp_path, 1)
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"checkpoint .*checkpoint\.npz is damaged"):
        run(splits, tmp_path, 2, resume=True)
