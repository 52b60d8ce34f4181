"""Exponents that are kept between searches: when they are searched, what they count for, and that runs repeat."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import keras
import numpy as np
import pytest
from networks import state_of

from po2quant.benchmark import Recipe, Split, validation_accuracy
from po2quant.network import calibrate, flat_config, freeze_scales, quantize_model, weight_quantizers
from po2quant.training.exponents import search_exponents
from po2quant.training.fit import Monitor, compile_model, fit, train_epoch
from po2quant.training.pipeline import Pipeline
from po2quant.training.schedules import constant

STEPS = 8
RECIPE = Recipe("sparse_categorical_crossentropy", 3, 3, 16, constant(0.1), ("accuracy",), exponent_interval=3)
"""A rate that moves the exponents of 4-bit weights in every step."""
EVERY_STEP = dataclasses.replace(RECIPE, exponent_interval=1)


def splits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16 * STEPS + 32, 6)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    return Split(x[:-32], y[:-32]), Split(x[-32:], y[-32:])


def network(alpha="auto_po2"):
    keras.utils.set_random_seed(3)
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2, activation="softmax")]
    quantized = quantize_model(keras.Sequential(layers), flat_config(keras.Sequential(layers), 4), alpha)
    calibrate(quantized, splits()[0].x)
    return quantized


def compiled(recipe, alpha="auto_po2"):
    model = network(alpha)
    compile_model(model, recipe)
    return model


def train(model, recipe, epochs=1):
    for epoch in range(epochs):
        train_epoch(model, Pipeline(splits()[0]), recipe, epoch, seed=0)


def state(model):
    return [variable.numpy() for variable in [*model.trainable_variables, *model.optimizer.variables]]


class ScalesOfSteps(keras.callbacks.Callback):
    """Records, after each step, the scales in training and those of the present weights."""

    def __init__(self):
        super().__init__()
        self.kept, self.present = [], []

    def on_train_batch_end(self, batch, logs=None):
        weights = list(weight_quantizers(self.model))
        self.kept.append([weight.quantizer._frozen_scale.numpy() for weight in weights])
        self.present.append([weight.quantizer.compute_scale(weight.variable).numpy() for weight in weights])


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_exponents_are_searched_at_the_first_step_of_an_epoch_and_every_so_many_after(monkeypatch):
    record, model = ScalesOfSteps(), compiled(RECIPE)
    original = model.fit
    monkeypatch.setattr(
        model, "fit", lambda *args, callbacks, **options: original(*args, callbacks=[*callbacks, record], **options)
    )
    start = [weight.quantizer.compute_scale(weight.variable).numpy() for weight in weight_quantizers(model)]
    train(model, RECIPE, epochs=2)
    before_step = [start, *record.present[:-1]]
    for step in range(2 * STEPS):
        if step % STEPS % RECIPE.exponent_interval == 0:
            assert same(record.kept[step], before_step[step]), step
        else:
            assert same(record.kept[step], record.kept[step - 1]), step
    assert any(not same(kept, before) for kept, before in zip(record.kept, before_step, strict=True))


def test_training_steps_use_what_was_kept_and_nothing_else_does():
    model = compiled(RECIPE)
    search_exponents(model)
    (weight, *_) = weight_quantizers(model)
    kept = weight.quantizer._frozen_scale.numpy()
    moved = 8 * weight.variable.numpy()
    np.testing.assert_array_equal(weight.quantizer(moved, training=True), np.clip(np.rint(moved / kept), -7, 7) * kept)
    for training in (False, None):
        np.testing.assert_array_equal(weight.quantizer(moved, training=training), network_quantizer()(moved))
    weight.quantizer.freeze(moved)
    np.testing.assert_array_equal(weight.quantizer.get_config()["frozen_scale"], 8 * kept)


def network_quantizer():
    return next(iter(weight_quantizers(network()))).quantizer


def test_a_search_before_every_step_equals_one_within_every_step_to_the_bit():
    kept, searched = compiled(RECIPE), compiled(EVERY_STEP)
    for model in (kept, searched):
        train(model, EVERY_STEP, epochs=2)
    for got, expected in zip(state(kept), state(searched), strict=True):
        np.testing.assert_array_equal(got, expected)
    train(kept, RECIPE)
    train(searched, EVERY_STEP)
    assert not same(state(kept), state(searched))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_bit(tmp_path):
    def run(folder, epochs, resume=False):
        model = network()
        result = fit(
            model, splits(), RECIPE, Monitor(validation_accuracy), tmp_path / folder, epochs, seed=1, resume=resume
        )
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in result.rows]
        return state_of(model), rows

    whole_weights, whole_rows = run("whole", 3)
    run("parts", 1)
    weights, rows = run("parts", 3, resume=True)
    assert rows == whole_rows
    np.testing.assert_equal(weights, whole_weights)


def test_frozen_scales_stay():
    model = network()
    freeze_scales(model)
    compile_model(model, RECIPE)
    scales = [weight.quantizer._frozen_scale.numpy() for weight in weight_quantizers(model)]
    train(model, RECIPE)
    assert same([weight.quantizer._frozen_scale.numpy() for weight in weight_quantizers(model)], scales)


@pytest.mark.parametrize("alpha", ["auto", "learned_po2"])
def test_other_kinds_of_scales_are_not_kept(alpha):
    results = []
    for recipe in (RECIPE, EVERY_STEP):
        model = compiled(recipe, alpha)
        train(model, recipe)
        results.append(state(model))
    assert same(*results)


def test_the_search_of_a_model_goes_with_it():
    model = compiled(RECIPE)
    search_exponents(model)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_an_interval_below_1_is_named():
    with pytest.raises(ValueError, match=r"exponent_interval must be 1 or more\. Received: 0"):
        compile_model(network(), dataclasses.replace(RECIPE, exponent_interval=0))
