"""AutoQKeras end to end: the published dictionaries run, the best model is the one that was measured."""

import json

import keras
import numpy as np
import pytest
from selections import slow_but

from po2quant.autoqkeras import AutoQKeras
from po2quant.autoqkeras.arguments import own_dataset
from po2quant.bit_config import BitConfig
from po2quant.cost import ForgivingFactor, network_size
from po2quant.network import Placement, activation_quantizers, fold_batch_norm, weight_quantizers

KERNEL = {"quantized_bits(8,8,1,1,alpha='auto_po2')": 8}
BIAS = {f"quantized_bits({bits},{bits},1,1,alpha='auto_po2')": bits for bits in (16, 31)}
ACTIVATION = {f"quantized_bits_featuremap({bits},{bits},1,1,alpha='auto_po2')": bits for bits in (2, 4, 8, 16)}
ONE_FLAT = {"kernel": KERNEL, "bias": BIAS, "activation": ACTIVATION}


@pytest.fixture(scope="module")
def samples(digits_data):
    train, validation = digits_data.train, digits_data.validation
    return (train.inputs(slice(96)), train.y[:96]), (validation.inputs(slice(48)), validation.y[:48])


def build():
    layers = [
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Activation("relu", name="act"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(10, activation="softmax", name="dense"),
    ]
    return keras.Sequential([keras.Input((8, 8, 1), name="x"), *layers], name="tiny")


@pytest.fixture(scope="module")
def model(samples):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*samples[0], epochs=6, verbose=0)
    return model


def run(model, samples, folder, epochs=1, **arguments):
    """Return a search that has run, on a space with one flat configuration unless told otherwise."""
    arguments = {"quantization_config": ONE_FLAT, "max_trials": 1, "output_dir": folder} | arguments
    search = AutoQKeras(model, arguments.pop("metrics", ["accuracy"]), **arguments)
    search.fit(*samples[0], validation_data=samples[1], epochs=epochs)
    return search


def kernels(model):
    return np.concatenate([weight.variable.numpy().ravel() for weight in weight_quantizers(model)])


def trial_configs(search):
    files = sorted((search.output_dir / "trials").glob("*/config.json"))
    return [BitConfig.load(file).layers for file in files]


@pytest.fixture(scope="module")
def published(shared, model, samples, tmp_path_factory):
    run_config = json.loads(shared("published_configs/autoqkeras_run_config.json").read_text())
    before = model.get_weights()
    search = AutoQKeras(
        model, ["acc"], output_dir=tmp_path_factory.mktemp("published"), layer_indexes=range(4), **run_config
    )
    search.fit(*samples[0], validation_data=samples[1])
    np.testing.assert_equal(model.get_weights(), before)
    return search


def test_the_published_configuration_runs_unchanged(published):
    history = published.history()
    assert len(history["score"]) == 3
    assert history["score"] == sorted(history["score"], reverse=True)
    reference = network_size(
        published.layers, BitConfig.flat(["conv", "dense"], ["activation", "activation_1", "activation_2"], 16)
    ).total_bits
    for score, size, accuracy in zip(history["score"], history["trial_size"], history["val_acc"], strict=True):
        assert score == pytest.approx(accuracy * ForgivingFactor(0.05, 0.05)(size, reference), rel=1e-6)


def test_layer_indexes_and_limits_bound_every_trial(published):
    for layers in trial_configs(published):
        assert layers["conv"].kernel in (4, 8, 16)
        assert (layers["dense"].kernel, layers["dense"].bias, layers["activation"].activation) == (16, 31, 16)


def test_the_best_model_has_the_weights_that_were_measured(published, samples, model):
    best, history = published.get_best_model(), published.history(1)
    logs = best.evaluate(*samples[1], batch_size=512, verbose=0, return_dict=True)
    assert [logs["acc"]] == history["val_acc"]
    assert logs["loss"] == pytest.approx(history["val_loss"][0], rel=1e-6)
    assert not np.array_equal(kernels(best), kernels(published._quantize(model, published.get_best_config())))


def test_the_best_configuration_is_the_best_trials_and_on_disk(published):
    best, history = published.get_best_config(), published.history()
    assert best.provenance["trial"] == history["trial_id"][0]
    assert best.provenance["size_bits"] == history["trial_size"][0]
    assert best.provenance["alpha"] == "auto"
    assert BitConfig.load(published.output_dir / "best_config.json") == best
    assert {quantizer.alpha for _, quantizer in activation_quantizers(published.get_best_model())} == {"auto"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["random", "bayesian"])
def test_the_same_seed_gives_the_same_trials(model, samples, tmp_path, mode):
    first, second = (
        run(model, samples, tmp_path / name, mode=mode, max_trials=4, seed=1) for name in ("first", "second")
    )
    assert (first.output_dir / "sensitivity.csv").exists() == (mode == "bayesian")
    assert trial_configs(first) == trial_configs(second)
    assert first.history() == second.history()
    assert len({str(layers) for layers in trial_configs(first)}) == 4


@pytest.mark.parametrize("transfer_weights", slow_but((True,), (True, False)))
def test_trials_start_from_the_models_weights_or_from_random_ones(samples, model, tmp_path, transfer_weights):
    frozen = build()
    frozen.set_weights(model.get_weights())
    frozen.compile(keras.optimizers.Adam(0.0), "sparse_categorical_crossentropy")
    best = run(frozen, samples, tmp_path, transfer_weights=transfer_weights).get_best_model()
    folded = fold_batch_norm(model)
    is_same = np.array_equal(best.get_layer("conv").kernel, folded.get_layer("conv").kernel)
    assert is_same == transfer_weights
    assert np.std(best.get_layer("conv").kernel) > 0


@pytest.mark.slow
def test_hyperband_continues_its_best_trials(model, samples, tmp_path):
    search = run(model, samples, tmp_path, mode="hyperband", epochs=3, max_trials=1)
    history = search.history()
    epochs = {trial: search._epochs(row) for row in search.tuner.log.rows for trial in [row.trial_id]}
    longer = [trial for trial, rows in epochs.items() if len(rows) == 3]
    assert len(history["score"]) == len(epochs) > len(longer) > 0
    configs = {trial: BitConfig.load(tmp_path / "trials" / trial / "config.json").layers for trial in epochs}
    continued = [(a, b) for a in longer for b in epochs if len(epochs[b]) == 1 and configs[a] == configs[b]]
    assert continued
    for a, b in continued:
        assert epochs[a][0] == epochs[b][0]
    best = search.get_best_model().evaluate(*samples[1], verbose=0, return_dict=True)
    assert [best["accuracy"]] == history["val_accuracy"][:1]


@pytest.mark.slow
def test_an_unfinished_search_goes_on_and_another_one_is_refused(model, samples, tmp_path):
    first = run(model, samples, tmp_path / "run", max_trials=1)
    renamed = keras.Sequential([keras.Input((8, 8, 1), name="x"), *model.layers], name="sequential_7")
    renamed.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    longer = run(renamed, samples, tmp_path / "run", max_trials=2, overwrite=False)
    assert longer.tuner.log.rows[0] == first.tuner.log.rows[0]
    assert len(longer.history()["score"]) == 2
    with pytest.raises(ValueError, match="holds another run: seed was 0 and is 5"):
        run(model, samples, tmp_path / "run", seed=5, overwrite=False)
    again = AutoQKeras(model, output_dir=tmp_path / "run")
    assert again.output_dir == tmp_path / "run_1"


@pytest.mark.slow
def test_a_function_of_the_logs_is_maximised(model, samples, tmp_path):
    metrics = [lambda logs: 1 / (1 + logs["loss"] ** 10), "accuracy"]
    search = run(model, samples, tmp_path, metrics=metrics, max_trials=2, epochs=2)
    history = search.history()
    best = search.tuner.log.best()
    assert best.metric == pytest.approx(1 / (1 + history["val_loss"][0] ** 10))
    assert max(row.score for row in search.tuner.log.rows) == history["score"][0]


def test_a_metric_that_the_logs_lack_ends_the_search_before_its_first_trial(model, samples, tmp_path):
    with pytest.raises(ValueError, match=r"must use the logs loss\. Received: 'accuracy'"):
        run(model, samples, tmp_path, metrics=lambda logs: logs["accuracy"])
    assert not (tmp_path / "trials.csv").exists()


def test_a_validation_split_is_the_end_of_the_samples():
    x, y = np.arange(10.0)[:, None], np.arange(10)
    dataset = own_dataset(x, y, None, 0.3)
    assert (dataset.train.y.tolist(), dataset.validation.y.tolist()) == (list(range(7)), [7, 8, 9])


def test_per_sample_scales_are_the_literal_meaning_of_scale_axis(model, samples, tmp_path):
    search = run(model, samples, tmp_path, activation_scale="per_sample", placement=Placement(signed_input=False))
    quantizers = dict(activation_quantizers(search.get_best_model()))
    assert not any(quantizer.is_static for quantizer in quantizers.values())
    assert not quantizers["activation"].signed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["mse"]}, "which is minimised"),
        ({"goal": {"type": "energy", "params": {"process": "28nm"}}}, "process must be 'horowitz'"),
        ({"mode": "greedy"}, "mode must be one of bayesian, random, hyperband. Received: mode='greedy'"),
        ({"max_trials": 0}, "max_trials must be"),
        ({"tune_filters": "all"}, "tune_filters must be one of none, block, layer. Received: 'all'"),
        ({"tune_filters_exceptions": "("}, "tune_filters_exceptions must be a regular expression"),
        ({"frozen_layers": ["convolution"]}, "frozen_layers must be names of layers: .*Received: 'convolution'"),
        ({"executions_per_trial": 0}, "executions_per_trial must be an integer of at least 1"),
        ({"custom_tuner": "mine"}, "custom_tuner must be None: trials share one compiled graph"),
        ({"score_metric": "loss"}, "score_metric must be val_score or a validation value"),
        ({"distribution_strategy": "mirrored"}, "distribution_strategy must be"),
        ({"factor": 3}, "options with mode='bayesian' must be among.*Received: 'factor'"),
        ({"colour": 1}, "Received: 'colour'"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        AutoQKeras(model, **arguments)


def test_all_that_is_not_offered_is_said_at_once(model):
    arguments = {"metrics": ["mse"], "goal": {"type": "speed"}, "tune_filters": "all", "colour": 1, "max_trials": 0}
    with pytest.raises(ValueError) as caught:
        AutoQKeras(model, **arguments)
    words = ("5 things must be changed", "max_trials", "tune_filters", "'colour'", "minimised", "must read like")
    assert all(word in str(caught.value) for word in words)


def test_neutral_values_of_old_options_are_accepted(model):
    AutoQKeras(model, tune_filters="none", tune_filters_exceptions="^dense", frozen_layers=[], head_name=None)
    AutoQKeras(model, mode="hyperband", max_epochs=3, factor=2, hyperband_iterations=1)


def test_the_model_must_be_compiled():
    with pytest.raises(ValueError, match="must be compiled"):
        AutoQKeras(build())


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD(0.1, clipnorm=1.0), keras.optimizers.AdamW(0.1)])
def test_trials_have_a_fresh_optimizer_of_the_models_kind(samples, tmp_path, optimizer):
    model = build()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    recipe = AutoQKeras(model, output_dir=tmp_path)._make_recipe(own_dataset(*samples[0], samples[1], 0.0), 32, 2)
    fresh = recipe.optimizer(0.25)
    assert type(fresh) is type(optimizer) and fresh is not optimizer
    assert fresh.get_config() == optimizer.get_config() | {"learning_rate": 0.25}


def test_a_schedule_is_read_at_the_start_of_each_epoch(samples):
    model = build()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=3, decay_rate=0.5)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
    search = AutoQKeras(model)
    recipe = search._make_recipe(own_dataset(*samples[0], samples[1], 0.0), batch_size=32, epochs=2)
    assert [recipe.learning_rate(epoch) for epoch in range(3)] == pytest.approx([0.01, 0.005, 0.0025])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "must have validation_data"),
        ({"validation_split": 1.0}, "must have validation_data.*Received: validation_split=1.0"),
        ({"validation_data": "x"}, r"validation_data must be \(x, y\)"),
        ({"validation_split": 0.5, "callbacks": ["stop"]}, "callbacks must be a list of Keras callbacks"),
        ({"validation_split": 0.5, "shuffle": False}, "shuffle must be True"),
        ({"validation_split": 0.5, "initial_epoch": 1}, "Received: 'initial_epoch'"),
        ({"validation_split": 0.5, "callbacks": [], "class_weight": None, "epochs": 0}, "epochs must be an integer"),
        ({"validation_split": 0.5, "epochs": 0}, "epochs must be an integer above 0"),
    ],
)
def test_fit_refuses_what_it_cannot_use(model, samples, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        AutoQKeras(model, output_dir=tmp_path / "run").fit(*samples[0], **arguments)
    assert not (tmp_path / "run").exists()


def test_samples_must_fit_the_model(model, samples, tmp_path):
    (x, y), _ = samples
    search = AutoQKeras(model, output_dir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"samples must have shape \(8, 8, 1\)"):
        search.fit(x[:, :4], y, validation_split=0.5)
    with pytest.raises(ValueError, match="must be arrays of numbers"):
        search.fit(["a"], y[:1], validation_split=0.5)
    with pytest.raises(ValueError, match="fit must be called first"):
        search.history()
