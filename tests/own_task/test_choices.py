"""The loss, metric and sign that a network and its data ask for, and scores that fit them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from refusals import refusal

from po2quant.benchmark import Dataset, Split
from po2quant.own_task.choices import choices, ending_of
from po2quant.own_task.metrics import LOSSES, METRICS, keras_loss

RNG = np.random.default_rng(0)


def network(outputs, activation=None, *after):
    return keras.Sequential([keras.Input((3,)), layers.Dense(outputs, activation=activation), *after])


def data(y, x=None):
    y = None if y is None else np.asarray(y)
    x = RNG.normal(size=(len(y), 3)).astype(np.float32) if x is None else x
    return Dataset("data", "own", Split(x, y))


ONE_HOT = np.eye(4, dtype=np.int32)
CASES = {
    "classes, softmax": (4, "softmax", [0, 1, 3], "sparse_categorical_crossentropy", "accuracy"),
    "classes, logits": (4, None, [0, 1, 3], "sparse_categorical_crossentropy_from_logits", "accuracy"),
    "classes as floats": (4, "softmax", [0.0, 3.0], "sparse_categorical_crossentropy", "accuracy"),
    "one-hot, softmax": (4, "softmax", ONE_HOT, "categorical_crossentropy", "accuracy"),
    "one-hot, logits": (4, None, ONE_HOT, "categorical_crossentropy_from_logits", "accuracy"),
    "one-hot, sigmoid": (4, "sigmoid", ONE_HOT, "binary_crossentropy", "binary_accuracy"),
    "several of four": (4, "sigmoid", [[0, 0, 1, 1], [0, 0, 0, 0]], "binary_crossentropy", "binary_accuracy"),
    "yes or no": (1, "sigmoid", [0, 1, 1], "binary_crossentropy", "binary_accuracy"),
    "yes or no, logits": (1, None, [0, 1, 1], "binary_crossentropy_from_logits", "binary_accuracy"),
    "one number": (1, None, [0.5, 1.0, 3.0], "mean_squared_error", "r2"),
    "zeros and ones as numbers": (1, None, [0.0, 1.0], "mean_squared_error", "r2"),
    "several numbers": (2, None, [[0.5, 1.0], [2.0, -1.0]], "mean_squared_error", "r2"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_loss_follows_from_targets_and_ending(case):
    outputs, activation, y, loss, metric = CASES[case]
    found = choices(network(outputs, activation), data(y))
    assert (found.loss, found.metric) == (loss, metric)
    assert f"loss {loss}, metric {metric}" in found.reason


def test_inputs_are_the_targets_of_an_autoencoder():
    x = np.abs(RNG.normal(size=(5, 3))).astype(np.float32)
    found = choices(network(3), data(None, x))
    assert (found.loss, found.metric, found.signed_input) == ("mean_squared_error", "r2", False)
    assert choices(network(3), data(None, -x)).signed_input


def test_what_is_said_wins_and_the_metric_follows_it():
    found = choices(network(4), data([0, 1]), loss="mean_absolute_error")
    assert (found.loss, found.metric) == ("mean_absolute_error", "r2")
    assert choices(network(4), data([0, 1]), metric="r2").metric == "r2"


def test_the_ending_is_found_behind_changes_of_shape():
    assert ending_of(network(4, "softmax", layers.Reshape((2, 2)), layers.Dropout(0.5))) == "softmax"
    assert ending_of(network(4, None, layers.Softmax(), layers.Flatten())) == "softmax"
    assert ending_of(network(4, None, layers.Activation("sigmoid"), layers.Activation("linear"))) == "sigmoid"
    assert ending_of(network(4, "relu")) is None
    x = keras.Input((3,))
    assert ending_of(keras.Model(x, keras.ops.sigmoid(layers.Dense(2)(x)))) == "sigmoid"


def test_targets_that_do_not_fit_the_outputs_are_refused():
    assert "classes in [0, 4), of which the network has so many. Received: 0 to 4" in refusal(
        choices, network(4), data([0, 4])
    )
    assert "or have the shape of the network's outputs, (4,). Received: (3,)" in refusal(
        choices, network(4), data(np.zeros((2, 3)))
    )


@pytest.mark.parametrize("case", CASES)
def test_the_logged_metric_is_the_score(case):
    outputs, activation, y, loss, metric = CASES[case]
    model, dataset = network(outputs, activation), data(y)
    model.compile("adam", keras_loss(loss), metrics=list(METRICS[metric].logged(loss)))
    logs = model.evaluate(dataset.test.x, dataset.test.y, verbose=0, return_dict=True)
    score = METRICS[metric].score(lambda x: model.predict(x, verbose=0), dataset.test, loss)
    assert METRICS[metric].selection(logs, dataset.test.y) == pytest.approx(max(score.value, 0.0), abs=1e-5)
    assert score.samples == len(dataset.test) and np.isfinite(logs["loss"])


def test_every_loss_is_one_of_keras():
    assert all(isinstance(keras_loss(name), keras.losses.Loss) for name in LOSSES)
