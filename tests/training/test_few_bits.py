"""The steps of a recipe for few bits: each is what its equation says, and a stop loses nothing."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from networks import state_of
from refusals import refusal

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Split, accuracy_score, validation_accuracy
from po2quant.bit_config import BitConfig
from po2quant.network import activation_quantizers, weight_quantizers
from po2quant.placement import Placement
from po2quant.recipe import Recipe
from po2quant.runs.names import BEST_WEIGHTS, LAYERS_FOLDER, STAGES_FOLDER
from po2quant.search.trial import TrialTraining
from po2quant.training import finetune as module
from po2quant.training import reconstruct as reconstruction
from po2quant.training.averaging import WeightAverage
from po2quant.training.distill import distill
from po2quant.training.finetune import Experiment, Workbench
from po2quant.training.prepare import calibration_inputs
from po2quant.training.reconstruct import Reconstruction, reconstruct
from po2quant.training.schedules import constant, cosine
from po2quant.training.stages import stages_of

STEPS = Recipe(
    "sparse_categorical_crossentropy",
    4,
    1,
    16,
    constant(0.01),
    ("accuracy",),
    annealing=cosine(warm_up=0.25),
    distillation=0.5,
    averaging=0.5,
    staged_bits=(8,),
    activation_alpha="learned_po2",
    centred=True,
)
QUICK = Reconstruction(samples=64, steps=20, batch_size=16)


def build():
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="relu", name="hidden")]
    return keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax", name="last")])


def split(samples, seed):
    x = np.random.default_rng(seed).normal(size=(samples, 6)).astype("float32")
    return Split(x, (x[:, 0] > 0).astype("int32"))


def task(recipe=STEPS):
    networks = {"net": NetworkSpec(build, Placement(), recipes={"strong": recipe})}
    plain = dataclasses.replace(recipe, distillation=0.0, staged_bits=(), averaging=0.0)
    return Benchmark("task", networks, lambda path, seed: data, plain, accuracy_score, validation_accuracy)


data = Dataset("noise", "own", split(64, 2), split(96, 0), split(32, 1))


def experiment(preset="strong", recipe=STEPS, **options):
    keras.utils.set_random_seed(5)
    return Experiment(task(recipe), "net", data, weights=build(), preset=preset, **options)


def flat(asked, bits=4):
    return asked.network.flat(bits)


def same(one, other):
    return dataclasses.replace(one, seconds=0) == dataclasses.replace(other, seconds=0)


def test_the_loss_of_a_training_step_is_the_mix_of_data_and_teacher_and_that_of_validation_is_of_the_data():
    keras.utils.set_random_seed(0)
    teacher, model, part = build(), build(), data.train
    expected, x, y = model.predict(part.x, verbose=0), part.x, part.y
    hard = keras.losses.sparse_categorical_crossentropy(y, expected).numpy().mean()
    soft = keras.losses.categorical_crossentropy(teacher.predict(x, verbose=0), expected).numpy().mean()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", run_eagerly=True)
    distill(model, teacher, "sparse_categorical_crossentropy", 0.25)
    assert model.train_on_batch(x, y) == pytest.approx(0.75 * hard + 0.25 * soft, rel=1e-5)
    assert model.test_on_batch(x, y) == pytest.approx(hard, rel=1e-5)


@pytest.mark.parametrize("name", ["SparseCategoricalCrossentropy", "CategoricalCrossentropy", "BinaryCrossentropy"])
def test_a_teacher_of_logits_teaches_its_probabilities(name):
    keras.utils.set_random_seed(1)
    loss = getattr(keras.losses, name)(from_logits=True)
    teacher, model = (keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)]) for _ in range(2))
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    distill(model, teacher, loss, 1.0)
    taught, learned = (network.predict(data.train.x, verbose=0).astype(np.float64) for network in (teacher, model))
    if name.startswith("Binary"):
        p, q = (1 / (1 + np.exp(-logits)) for logits in (taught, learned))
        expected = -np.mean(p * np.log(q) + (1 - p) * np.log(1 - q))
    else:
        p, q = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True) for logits in (taught, learned))
        expected = -np.mean(np.sum(p * np.log(q), -1))
    y = data.train.y if name.startswith("Sparse") else np.eye(2, dtype="float32")[data.train.y]
    assert model.train_on_batch(data.train.x, y) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_takes_no_outputs_as_targets_is_refused():
    assert "distillation needs a Keras loss" in refusal(distill, build(), build(), "no_such_loss", 0.5)


def test_the_average_is_that_of_its_equation_and_gives_way_again():
    model = build()
    average, weight = WeightAverage(model, 0.75), model.get_layer("last").kernel
    for epoch, value in enumerate((1.0, 2.0, 4.0)):
        weight.assign(np.full(weight.shape, value))
        average.update(epoch)
    with average.in_place():
        np.testing.assert_allclose(weight, 0.75 * (0.75 * 1.0 + 0.25 * 2.0) + 0.25 * 4.0)
    np.testing.assert_array_equal(weight, 4.0)
    assert not WeightAverage(model, 0.0).variables


def test_stages_fall_to_the_configuration_and_share_the_epochs():
    config = BitConfig.flat(["a"], ["b"], 4).with_widths({"a.kernel": 6})
    found = stages_of(config, dataclasses.replace(STEPS, staged_bits=(8, 5), staged_share=0.5), 10)
    widths = [(stage.config.kernel_bits("a"), stage.config.activation_bits("b")) for stage in found]
    assert widths == [(8, 8), (6, 5), (6, 4)] and [stage.epochs for stage in found] == [2, 2, 6]
    assert found[-1].config is config and sum(stage.epochs for stage in stages_of(config, STEPS, 1)) == 1


def test_only_activations_learn_their_scales_where_the_recipe_says_so():
    strong = experiment()
    model = Workbench(strong).prepare(flat(strong)).model
    assert all(quantizer.is_learned for _, quantizer in activation_quantizers(model))
    assert not any(weight.quantizer.is_learned for weight in weight_quantizers(model))
    plain = dataclasses.replace(strong, alpha="auto")
    assert plain.completed(flat(plain)).scales == "auto"


def stopped_after(count, train):
    """Return ``fit`` that is interrupted in the epoch after ``count`` of them, over all stages."""
    done = []

    def observe(epoch):
        done.append(epoch)
        if sum(epoch > 0 for epoch in done) > count:
            raise KeyboardInterrupt

    def fit(model, splits, recipe, monitor, *arguments):
        return train(model, splits, recipe, dataclasses.replace(monitor, observe=observe), *arguments)

    return fit


@pytest.mark.slow
def test_a_staged_run_that_was_stopped_anywhere_goes_on_to_the_bit(tmp_path, monkeypatch):
    asked = experiment(resume=True)
    whole = Workbench(asked).finetune_and_score("flat4", flat(asked), tmp_path / "whole", 4)
    assert (whole.epochs, whole.alpha) == (4, "auto_po2")
    for count in (1, 3):
        folder = tmp_path / f"stopped-{count}"
        with monkeypatch.context() as patch:
            patch.setattr(module, "fit", stopped_after(count, module.fit))
            with pytest.raises(KeyboardInterrupt):
                Workbench(asked).finetune_and_score("flat4", flat(asked), folder, 4)
        resumed = Workbench(asked).finetune_and_score("flat4", flat(asked), folder, 4)
        assert same(resumed, whole) and (folder / STAGES_FOLDER / "8").is_dir()
        one, other = (keras.models.load_model(path / "model.keras") for path in (folder, tmp_path / "whole"))
        np.testing.assert_equal(state_of(one), state_of(other))


@pytest.mark.slow
def test_a_distilled_run_needs_the_float_network(tmp_path):
    asked = experiment("published")
    Workbench(asked).finetune_and_score("flat8", flat(asked, 8), tmp_path / "run", 1)
    strong = dataclasses.replace(asked, weights=tmp_path / "run" / BEST_WEIGHTS, preset="strong")
    bench = Workbench(strong)
    config = strong.completed(flat(strong, 8)).with_activation_alpha("auto_po2")
    assert "preset 'strong' learns from the float network" in refusal(
        bench.finetune_and_score, "flat8", config, tmp_path / "new", 1
    )


@pytest.mark.slow
def test_a_network_is_reconstructed_before_it_is_trained_and_never_twice(tmp_path, monkeypatch):
    asked = experiment("published", reconstruction=QUICK, resume=True)
    config, network = flat(asked), asked.float_network
    x, _ = calibration_inputs(data, network.model, asked.seed, QUICK.samples)
    alone = reconstruct(network, config, x, QUICK)
    first = Workbench(asked).finetune_and_score("flat4", config, tmp_path, 0)
    saved = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(weight_quantizers(saved), weight_quantizers(alone), strict=True):
        np.testing.assert_array_equal(one.variable, other.variable)
        np.testing.assert_array_equal(one.quantizer.frozen_scale, other.quantizer.frozen_scale)
    ranges = [[quantizer.range for _, quantizer in activation_quantizers(model)] for model in (saved, alone)]
    assert ranges[0] == ranges[1]
    monkeypatch.setattr(reconstruction._Unit, "learn", lambda *arguments: 1 / 0)
    again = Workbench(asked).finetune_and_score("flat4", config, tmp_path, 0)
    assert same(again, first) and first.reconstructed is not None and first.finetuned is None
    trained = Workbench(asked).finetune_and_score("flat4", config, tmp_path, 1)
    assert trained.reconstructed == first.reconstructed and trained.finetuned is not None
    with pytest.raises(ZeroDivisionError):
        Workbench(asked).finetune_and_score("flat5", flat(asked, 5), tmp_path, 0)
    assert not (tmp_path / LAYERS_FOLDER).exists()


@pytest.mark.slow
def test_a_trial_begins_at_a_reconstruction_where_the_search_asks_for_it():
    asked = experiment("published", reconstruction=QUICK)
    training, config = TrialTraining.of(asked), flat(asked)
    x, _ = calibration_inputs(data, asked.float_network.model, asked.seed, QUICK.samples)
    alone = reconstruct(asked.float_network, config, x, QUICK)
    for _ in range(2):  # the second trial in the same graph
        rows = training.run(config, 0, 0)
        assert list(rows) == []
        found = {f"{one.layer.name}.{one.part}": one for one in weight_quantizers(training.network.model)}
        for expected in weight_quantizers(alone):
            one = found[f"{expected.layer.name}.{expected.part}"]
            np.testing.assert_array_equal(one.variable, expected.variable)
            assert one.quantizer.frozen == (one.part == "kernel")


@pytest.mark.parametrize(
    ("field", "value"),
    [("distillation", 1.5), ("averaging", 1.0), ("staged_share", -0.1), ("staged_bits", (5, 6)), ("staged_bits", (1,))],
)
def test_steps_out_of_range_are_refused(field, value):
    assert "must" in refusal(dataclasses.replace, STEPS, **{field: value})


def test_a_float_network_is_trained_without_the_steps():
    plain = STEPS.for_float()
    assert (plain.distillation, plain.averaging, plain.staged_bits, plain.rate(0, 4)) == (0.0, 0.0, (), 0.01)
    assert [round(STEPS.rate(epoch, 4), 6) for epoch in range(4)] == [0.005, 0.009330, 0.005, 0.00067]
