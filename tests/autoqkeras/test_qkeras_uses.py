"""What QKeras' own test and notebook do, written anew: the same calls and dictionaries, with imports changed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_iris

from po2quant.autoqkeras import AutoQKeras, AutoQKerasScheduler
from po2quant.bit_config import BitConfig
from po2quant.network import weight_quantizers

QKERAS_DEFAULT = {
    "kernel": {
        "binary": 1,
        "stochastic_binary": 1,
        "ternary": 2,
        "stochastic_ternary": 2,
        "quantized_bits(2,1,1,alpha=1.0)": 2,
        "quantized_bits(4,0,1)": 4,
        "quantized_bits(8,0,1)": 8,
        "quantized_po2(4,1)": 4,
    },
    "bias": {"quantized_bits(4,0,1)": 4, "quantized_bits(8,3,1)": 8, "quantized_po2(4,8)": 4},
    "activation": {
        "binary": 1,
        "binary(alpha='auto_po2')": 1,
        "ternary": 2,
        "quantized_relu(3,1)": 3,
        "quantized_relu(4,2)": 4,
        "quantized_relu(8,2)": 8,
        "quantized_relu(8,4)": 8,
        "quantized_relu(16,8)": 16,
        "quantized_relu_po2(4,4)": 4,
    },
    "linear": {
        "binary": 1,
        "ternary": 2,
        "quantized_bits(4,1)": 4,
        "quantized_bits(8,2)": 8,
        "quantized_bits(16,10)": 16,
        "quantized_po2(6,4)": 6,
    },
}
BITS = {
    "type": "bits",
    "params": {
        "delta_p": 8.0,
        "delta_n": 8.0,
        "rate": 2.0,
        "stress": 1.0,
        "input_bits": 8,
        "output_bits": 8,
        "ref_bits": 8,
        "config": {"default": ["parameters", "activations"]},
    },
}
ENERGY = {
    "type": "energy",
    "params": {
        "delta_p": 8.0,
        "delta_n": 8.0,
        "rate": 2.0,
        "stress": 1.0,
        "process": "horowitz",
        "parameters_on_memory": ["sram", "sram"],
        "activations_on_memory": ["sram", "sram"],
        "rd_wr_on_io": [False, False],
        "min_sram_size": [0, 0],
        "source_quantizers": ["int8"],
        "reference_internal": "int8",
        "reference_accumulator": "int32",
    },
}
LIMIT = {"Dense": [4], "Conv2D": [4], "DepthwiseConv2D": [4], "Activation": [4], "BatchNormalization": []}


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = ((x - x.mean(0)) / x.std(0))[order].astype(np.float32), keras.utils.to_categorical(y[order])
    return (x[:100], y[:100]), (x[100:], y[100:])


def dense_model():
    """Return a network in blocks, as QKeras' test has it."""
    x = x_in = keras.layers.Input((4,), name="input")
    for number, units in enumerate((20, 40, 20)):
        x = keras.layers.Dense(units, name=f"dense_{number}")(x)
        x = keras.layers.BatchNormalization(name=f"bn_{number}")(x)
        x = keras.layers.Activation("relu", name=f"relu_{number}")(x)
    x = keras.layers.Dense(3, name="dense_last")(x)
    model = keras.Model(x_in, keras.layers.Activation("softmax", name="softmax")(x))
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["acc"])
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("goal", "schedule"), [(BITS, "sequential"), (ENERGY, "cost")])
def test_a_scheduler_tunes_filters_and_widths_block_by_block(iris, tmp_path, goal, schedule):
    model, (train, validation) = dense_model(), iris
    run_config = {
        "output_dir": str(tmp_path / "out"),
        "goal": goal,
        "quantization_config": QKERAS_DEFAULT,
        "learning_rate_optimizer": False,
        "transfer_weights": False,
        "mode": "random",
        "seed": 42,
        "limit": {"Dense": [4], "Activation": [4], "BatchNormalization": []},
        "tune_filters": "layer",
        "tune_filters_exceptions": "^dense_1",
        "layer_indexes": range(1, len(model.layers) - 1),
        "max_trials": 2,
        "blocks": ["^.*_0$", "^.*_1$", "^.*(_2|_last)$"],
        "schedule_block": schedule,
    }
    scheduler = AutoQKerasScheduler(model, metrics=["acc"], custom_objects={}, **run_config)
    with pytest.warns(UserWarning, match="binary is left out of the search: it has no 0"):
        scheduler.fit(*train, validation_data=validation, batch_size=32, epochs=2, verbose=0)
    costs = [cost for _, cost in scheduler.schedule()]
    assert len(scheduler.get_history()) == 3
    assert schedule == "sequential" or costs == sorted(costs, reverse=True)
    qmodel = scheduler.get_best_model()
    assert qmodel.get_layer("dense_1").units == 40
    assert qmodel.get_layer("dense_0").units in (10, 15, 20, 30, 40)
    assert all(weight.quantizer.bits <= 4 for weight in weight_quantizers(qmodel) if weight.part == "kernel")
    qmodel.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["acc"])
    before = qmodel.evaluate(*train, verbose=0)[0]
    qmodel.fit(*train, epochs=10, batch_size=32, verbose=0)
    assert qmodel.evaluate(*train, verbose=0)[0] < before


def test_debug_writes_the_blocks_and_searches_nothing(tmp_path, capsys):
    arguments = {"blocks": ["dense.*", ".*"], "debug": True, "output_dir": tmp_path / "out", "max_trials": 30}
    scheduler = AutoQKerasScheduler(dense_model(), ["acc"], **arguments)
    scheduler.fit(None, None)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("block 0: dense.*, ") and first.endswith(": dense_0, dense_1, dense_2, dense_last")
    assert "relu_0" in second and not (tmp_path / "out").exists()
    assert scheduler.get_best_model() is None and scheduler.get_learning_rate() == pytest.approx(0.01)


def test_a_block_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"blocks must each match a layer of input, dense_0.*Received: 'conv'"):
        AutoQKerasScheduler(dense_model(), ["acc"], blocks=["dense", "conv"], output_dir=tmp_path)


def test_arguments_stand_in_qkeras_order(tmp_path):
    model = dense_model()
    search = AutoQKeras(
        model,
        ["acc"],
        {},
        BITS,
        tmp_path / "out",
        "random",
        None,
        False,
        None,
        4,
        LIMIT,
        "none",
        "",
        False,
        [1, 2, 3],
        QKERAS_DEFAULT,
        True,
        None,
        "val_score",
        max_trials=3,
    )
    assert search.mode == "random" and search.max_trials == 3
    choices = search.space.choices(search.layers)
    assert choices["dense_0.kernel"] == (2, 4) and choices["dense_1.kernel"] == (8,)
    assert search.output_dir == tmp_path / "out"


@pytest.mark.slow
def test_learning_rate_callbacks_and_executions_of_a_trial(iris, tmp_path):
    class Counting(keras.callbacks.Callback):
        begun, steps = [], []

        def on_train_begin(self, logs=None):
            self.begun.append(True)

        def on_train_batch_end(self, batch, logs=None):
            self.steps.append(batch)

        def on_epoch_end(self, epoch, logs=None):
            assert "val_acc" in logs
            self.model.stop_training = True

    model, (train, validation) = dense_model(), iris
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "categorical_crossentropy", metrics=["acc"])
    arguments = {"learning_rate_optimizer": True, "mode": "random", "max_trials": 3, "executions_per_trial": 2}
    search = AutoQKeras(model, ["acc"], output_dir=tmp_path / "out", **arguments, max_retries_per_trial=1)
    weights = {0: 2.0, 1: 1.0, 2: 1.0}
    search.fit(*train, 25, 3, 0, validation_data=validation, callbacks=[Counting()], class_weight=weights)
    assert len(Counting.begun) == 6 and len(Counting.steps) == 6 * 4
    rates = {trial.hyperparameters.values["learning_rate"] for trial in search.tuner.oracle.trials.values()}
    assert {round(rate / float(model.optimizer.learning_rate), 3) for rate in rates} <= {0.5, 0.65, 0.8, 1.0, 1.1}
    best = search.get_best_model()
    assert search.get_best_lr(best) == pytest.approx(search.learning_rate) == pytest.approx(search.get_learning_rate())
    assert type(best.optimizer) is keras.optimizers.SGD
    assert len(search.tuner.get_best_models(2)) == 2
    assert len(search.history()["trial_id"]) == 3


@pytest.mark.slow
def test_weights_of_samples_change_what_is_trained(iris, tmp_path):
    model, (train, validation) = dense_model(), iris
    arguments = {"mode": "random", "max_trials": 1, "seed": 3}
    data = {
        "plain": {},
        "weighted": {"sample_weight": np.linspace(0, 2, 100)},
        "ones": {"sample_weight": np.ones(100)},
    }
    losses = {}
    for name, extra in data.items():
        search = AutoQKeras(model, ["acc"], output_dir=tmp_path / name, **arguments)
        search.fit(*train, validation_data=validation, epochs=1, verbose=0, **extra)
        losses[name] = search.history()["loss"][0]
    assert losses["plain"] == pytest.approx(losses["ones"], rel=1e-5) != losses["weighted"]
    batches = tf.data.Dataset.from_tensor_slices(train).batch(32)
    search = AutoQKeras(model, ["acc"], output_dir=tmp_path / "set", **arguments)
    search.fit(batches, validation_data=tf.data.Dataset.from_tensor_slices(validation).batch(32), epochs=1, verbose=0)
    assert search.history()["loss"][0] == pytest.approx(losses["plain"], rel=1e-6)


@pytest.mark.slow
def test_energy_is_a_goal_and_both_sizes_are_told(iris, tmp_path):
    model, (train, validation) = dense_model(), iris
    search = AutoQKeras(model, ["acc"], goal=ENERGY, mode="random", max_trials=2, output_dir=tmp_path / "out")
    search.fit(*train, validation_data=validation, epochs=1, verbose=0)
    row = search.tuner.log.rows[0]
    assert row.size_ratio < 1.0 and row.score > row.metric
    sizes = search.sizes()
    assert sizes["qkeras"] > 0 and sizes["reference"] > 0
    config = BitConfig.load(search.output_dir / "best_config.json")
    assert config == search.get_best_config()


@pytest.mark.slow
def test_a_metric_of_ones_own_is_maximised_as_in_qkeras(iris, tmp_path):
    def closeness(y_true, y_pred):
        return 1.0 - keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)

    model, (train, validation) = dense_model(), iris
    metrics = {"softmax": [closeness, "acc"]}
    search = AutoQKeras(model, metrics, mode="random", max_trials=2, output_dir=tmp_path / "out")
    search.fit(*train, validation_data=validation, epochs=1, verbose=0)
    history = search.history()
    assert history["score"][0] >= history["score"][1] and 0 < history["val_closeness"][0] < 1


@pytest.mark.slow
def test_a_score_metric_is_maximised_whatever_the_size(iris, tmp_path):
    model, (train, validation) = dense_model(), iris
    arguments = {"score_metric": "val_acc", "mode": "random", "max_trials": 2, "output_dir": tmp_path / "out"}
    search = AutoQKeras(model, ["acc", "mse"], **arguments)
    search.fit(*train, validation_data=validation, epochs=1, verbose=0)
    assert search.history()["score"] == search.history()["val_acc"]


def notebook_models():
    """Return the four kinds of networks of QKeras' notebook on AutoQKeras, small: BatchNormalization in all places."""
    layers = keras.layers

    def closed(x_in, x):
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(10, name="dense")(x)
        return keras.Model(x_in, layers.Activation("softmax", name="softmax")(x))

    def plain(x):
        for number, filters in enumerate((4, 8)):
            x = layers.Conv2D(filters, 3, padding="same", name=f"conv_{number}")(x)
            x = layers.BatchNormalization(name=f"bn_{number}")(x)
            x = layers.Activation("relu", name=f"act_{number}")(x)
        return layers.MaxPooling2D(2, name="pool")(x)

    def pooled_first(x):
        x = layers.BatchNormalization(name="bn_first")(x)
        x = layers.Conv2D(4, 3, name="conv", activation="relu")(x)
        x = layers.MaxPooling2D(2, name="pool")(x)
        return layers.BatchNormalization(name="bn_after_pool")(x)

    def separable(x):
        x = layers.DepthwiseConv2D(3, name="dw", activation="relu")(x)
        x = layers.AveragePooling2D(2, name="pool")(x)
        x = layers.BatchNormalization(name="bn")(x)
        x = layers.Conv2D(6, 1, name="pw")(x)
        return layers.Activation("relu", name="act")(x)

    def residual(x):
        x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
        y = layers.Conv2D(4, 3, padding="same", name="branch")(layers.ReLU(name="relu")(x))
        x = layers.BatchNormalization(name="bn")(layers.Add(name="add")([x, y]))
        return layers.GlobalAveragePooling2D(name="pool", keepdims=True)(x)

    for build in (plain, pooled_first, separable, residual):
        keras.utils.set_random_seed(0)
        x = layers.Input((8, 8, 1), name="input")
        yield closed(x, build(x))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_the_networks_of_the_notebook_are_searched(digits_data, tmp_path, number):
    model = list(notebook_models())[number]
    model.compile(keras.optimizers.Nadam(0.005, clipnorm=1.0), "sparse_categorical_crossentropy", metrics=["acc"])
    train, validation = digits_data.train, digits_data.validation
    data = (train.inputs(slice(300)), train.y[:300])
    model.fit(*data, epochs=4, verbose=0)
    arguments = {"goal": BITS, "limit": LIMIT, "quantization_config": QKERAS_DEFAULT, "mode": "bayesian"}
    arguments |= {"seed": 42, "max_trials": 3, "enable_bn_folding": False, "output_dir": str(tmp_path / "out")}
    search = AutoQKeras(model, metrics=["acc"], custom_objects={}, **arguments)
    search.fit(*data, validation_data=(validation.inputs(slice(100)), validation.y[:100]), epochs=1, verbose=0)
    assert len(search.history()["score"]) == 3
    best = search.get_best_model()
    assert best.evaluate(*data, verbose=0)[1] > 0.2
