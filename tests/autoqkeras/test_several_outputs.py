"""AutoQKeras on networks with several outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from po2quant.autoqkeras import AutoQKeras
from po2quant.autoqkeras.arguments import own_dataset
from po2quant.autoqkeras.objective import MetricObjective
from po2quant.deploy.from_keras import integer_program
from po2quant.integer.interpreter import run
from po2quant.network import freeze_scales

LIMIT = {"Conv2D": [8, 16, 8], "Dense": [8, 16, 8], "Activation": [8]}
LOSSES = {"digit": "sparse_categorical_crossentropy", "odd": "binary_crossentropy"}
OUTPUTS = ("digit", "odd")


def two_heads(as_dict):
    x = keras.Input((4, 4, 1), name="x")
    hidden = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, activation="relu", name="conv")(x))
    digit = keras.layers.Dense(3, activation="softmax", name="digit")(hidden)
    odd = keras.layers.Dense(1, activation="sigmoid", name="odd")(hidden)
    return keras.Model(x, {"digit": digit, "odd": odd} if as_dict else [digit, odd])


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 3, 48)
    x = (digits[:, None, None, None] + rng.normal(0, 0.1, (48, 4, 4, 1))).astype("float32")
    return x, digits, (digits % 2).astype("float32")[:, None]


@pytest.mark.slow
@pytest.mark.parametrize("as_dict", [True, False])
def test_several_outputs_are_trained_scored_by_one_and_become_integers(as_dict, samples, tmp_path):
    x, digits, odd = samples
    model = two_heads(as_dict)
    losses = LOSSES if as_dict else list(LOSSES.values())
    weights = {"digit": 1.0, "odd": 0.5} if as_dict else [1.0, 0.5]
    model.compile(keras.optimizers.Adam(0.02), losses, loss_weights=weights)
    targets = {"digit": digits, "odd": odd} if as_dict else (digits, odd)
    metrics = {"digit": ["accuracy"], "odd": ["accuracy"]}
    search = AutoQKeras(
        model, metrics, head_name="odd", limit=LIMIT, max_trials=3, mode="random", output_dir=tmp_path / "result"
    )
    held_out = {name: y[:32] for name, y in targets.items()} if as_dict else [y[:32] for y in targets]
    search.fit(x, targets, validation_data=(x[:32], held_out), epochs=2, verbose=0)
    history = search.history()
    logged = {f"val_{name}_{value}" for name in OUTPUTS for value in ("loss", "accuracy")}
    assert logged <= history.keys()
    factors = [search._network_goal.factor(size) for size in history["trial_size"]]
    assert history["score"] == pytest.approx(np.multiply(history["val_odd_accuracy"], factors))
    whole = np.array(history["val_digit_loss"]) + 0.5 * np.array(history["val_odd_loss"])
    assert history["val_loss"] == pytest.approx(whole, rel=1e-5)
    best = search.get_best_model()
    freeze_scales(best)
    program = integer_program(best)
    inputs = program.tensor[program.inputs[0]].format
    integers = run(program, [inputs.to_int(x[:4])])
    *_, last = program.outputs
    expected = best.predict(x[:4], verbose=0)
    expected = expected["odd"] if as_dict else expected[1]
    np.testing.assert_array_equal(program.tensor[last.tensor].format.to_float(integers[last.tensor]), expected)


def test_targets_are_told_apart_by_name_or_order(samples):
    x, digits, odd = samples
    by_name = own_dataset(x, {"odd": odd, "digit": digits}, validation_split=0.25, outputs=OUTPUTS)
    for targets in ((digits, odd), [digits, odd]):
        by_order = own_dataset(x, targets, validation_split=0.25, outputs=OUTPUTS)
        assert by_order.fingerprint() == by_name.fingerprint()
    batches = tf.data.Dataset.from_tensor_slices((x, {"digit": digits, "odd": odd})).batch(10)
    assert own_dataset(batches, validation_split=0.25, outputs=OUTPUTS).fingerprint() == by_name.fingerprint()
    assert (
        by_name.fingerprint() != own_dataset(x, (digits, 1 - odd), validation_split=0.25, outputs=OUTPUTS).fingerprint()
    )
    np.testing.assert_array_equal(by_name.validation.y["odd"], odd[36:])


@pytest.mark.parametrize("given", [lambda y: {"digit": y}, lambda y: (y,), lambda y: y])
def test_targets_that_an_output_lacks_are_refused(given, samples):
    x, digits, _ = samples
    with pytest.raises(ValueError, match="y must have targets of each output, in a list or by name: digit, odd"):
        own_dataset(x, given(digits), validation_split=0.25, outputs=OUTPUTS)


def test_class_weights_are_refused_with_several_outputs(samples):
    x, digits, odd = samples
    with pytest.raises(ValueError, match="class_weight must come with targets of one output"):
        own_dataset(x, (digits, odd), validation_split=0.25, class_weight={0: 2.0}, outputs=OUTPUTS)


def test_the_objective_is_the_first_metric_of_a_head():
    metrics = {"digit": ["accuracy"], "odd": ["AUC", "accuracy"]}
    logs = {"loss": 1.0, "digit_accuracy": 0.5, "odd_AUC": 0.75}
    assert MetricObjective.of(metrics, outputs=OUTPUTS)(logs) == 0.5
    objective = MetricObjective.of(metrics, "odd", outputs=OUTPUTS)
    assert objective(logs) == 0.75 and objective.name == "odd_AUC"
    assert objective.metrics == {"digit": ("accuracy",), "odd": ("AUC", "accuracy")}
    assert MetricObjective.of(None, outputs=OUTPUTS).metrics == {"digit": ("accuracy",)}
    assert MetricObjective.of(metrics, "odd", "val_digit_accuracy", outputs=OUTPUTS)(logs) == 0.5
    of_logs = MetricObjective.of([lambda logs: 1.0 / logs["loss"], "mae"], "odd", outputs=OUTPUTS)
    assert of_logs(logs) == 1.0 and of_logs.metrics == {"odd": ("mae",)}
    with pytest.raises(ValueError, match=r"must be outputs: digit, odd. Received: 'even'"):
        MetricObjective.of({"even": ["accuracy"]}, outputs=OUTPUTS)
