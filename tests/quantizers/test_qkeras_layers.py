"""Our quantizers inside QKeras layers: saving, loading, training, freezing and new widths, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import qkeras
import tensorflow as tf

from po2quant.quantizers import Quantizer, quantized_bits, quantized_bits_featuremap

pytestmark = pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")

INPUT_SHAPE = (6, 6, 3)
WEIGHT_PARTS = ("kernel_quantizer_internal", "depthwise_quantizer_internal", "bias_quantizer_internal")


def _build(
    form: str = "object", alpha: str | float | None = "auto_po2", seed: int = 0, run_eagerly: bool = True
) -> keras.Model:
    """Return a network of all four layers, its quantizers given as objects or in serialized form.

    It runs eagerly where a graph is not the point: making graphs would take most of the time.
    """
    keras.utils.set_random_seed(seed)

    def weights(bits: int, scale_axis: tuple[int, ...] | None = None) -> quantized_bits | dict:
        quantizer = quantized_bits(bits, 0, 1, 1, alpha=alpha, scale_axis=scale_axis)
        return keras.saving.serialize_keras_object(quantizer) if form == "serialized" else quantizer

    def activation(bits: int, signed: int, name: str) -> keras.layers.Layer:
        return qkeras.QActivation(quantized_bits_featuremap(bits, 2, 1, signed, alpha=alpha, momentum=0.5), name=name)

    inputs = keras.Input(INPUT_SHAPE)
    x = activation(8, 1, "input_q")(inputs)
    x = qkeras.QConv2D(
        4, 3, kernel_quantizer=weights(4, (3,)), bias_quantizer=weights(16), bias_initializer="normal", name="conv"
    )(x)
    x = keras.layers.ReLU()(x)
    x = activation(8, 0, "conv_q")(x)
    x = qkeras.QDepthwiseConv2D(
        3,
        depthwise_quantizer=weights(8, (2, 3)),
        bias_quantizer=weights(31),
        bias_initializer="normal",
        name="depthwise",
    )(x)
    x = activation(6, 1, "depthwise_q")(x)
    x = keras.layers.Flatten()(x)
    x = qkeras.QDense(
        5, kernel_quantizer=weights(8), bias_quantizer=weights(16), bias_initializer="normal", name="dense"
    )(x)
    model = keras.Model(inputs, activation(8, 1, "dense_q")(x))
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse", run_eagerly=run_eagerly)
    return model


def _inputs(seed: int = 1, samples: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (samples, *INPUT_SHAPE)).astype(np.float32)


def _targets(samples: int = 8) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 1, (samples, 5)).astype(np.float32)


def _outputs(model: keras.Model) -> np.ndarray:
    return model(_inputs(), training=False).numpy()


def _quantizers(model: keras.Model) -> dict[str, Quantizer]:
    """Return every quantizer by layer and part."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, qkeras.QActivation):
            found[f"{layer.name}/activation"] = layer.activation
        found |= {f"{layer.name}/{part}": getattr(layer, part) for part in WEIGHT_PARTS if hasattr(layer, part)}
    return found


def _weights_of(layer: keras.layers.Layer, part: str) -> keras.Variable:
    name = part.removesuffix("_quantizer_internal")
    return getattr(layer, {"depthwise": "depthwise_kernel"}.get(name, name))


def _train(model: keras.Model) -> None:
    for step in range(2):
        model.train_on_batch(_inputs(seed=10 + step), _targets())


def _move_thresholds(model: keras.Model) -> None:
    """Move learned scales away from those that start anew would give."""
    for quantizer in _quantizers(model).values():
        if quantizer.learning:
            (threshold,) = quantizer.trainable_variables
            threshold.assign_sub(np.full(threshold.shape, 1.25))


def _freeze(model: keras.Model) -> None:
    """Freeze everything, then move the weights, so that live scales would differ."""
    _train(model)
    for layer in model.layers:
        if isinstance(layer, qkeras.QActivation):
            layer.activation.frozen = True
        for part in WEIGHT_PARTS:
            if hasattr(layer, part):
                weights = _weights_of(layer, part)
                getattr(layer, part).freeze(weights)
                weights.assign(weights * 0.3)


def _change_bits(model: keras.Model) -> None:
    _train(model)
    for name, quantizer in _quantizers(model).items():
        quantizer.bits = 5 + len(name) % 3


def _change_some_bits(model: keras.Model) -> None:
    """Change the widths of two quantizers, whose scales are computed anew from then on."""
    for name, bits in (("conv/kernel_quantizer_internal", 3), ("conv_q/activation", 5)):
        _quantizers(model)[name].bits = bits


STATES: dict[str, Callable[[keras.Model], None]] = {
    "fresh": lambda model: None,
    "trained": _train,
    "frozen": _freeze,
    "new_bits": _change_bits,
    "frozen_then_new_bits": lambda model: (_freeze(model), _change_bits(model)),
}

CASES = [(state, "object") for state in STATES] + [("trained", "serialized"), ("frozen_then_new_bits", "serialized")]


def _state(quantizer: Quantizer) -> tuple:
    ranges = quantizer.range if isinstance(quantizer, quantized_bits_featuremap) and quantizer.is_static else None
    config = quantizer.get_config()
    return quantizer.bits, quantizer.frozen, ranges, config.get("frozen_scale"), config.get("log2_threshold")


def _reload(model: keras.Model, path: Path) -> keras.Model:
    model.save(path)
    copy = keras.models.load_model(path)
    copy.run_eagerly = model.run_eagerly
    return copy


def _assert_equal(model: keras.Model, other: keras.Model) -> None:
    np.testing.assert_array_equal(_outputs(other), _outputs(model))
    expected = {name: (type(quantizer), _state(quantizer)) for name, quantizer in _quantizers(model).items()}
    assert {name: (type(quantizer), _state(quantizer)) for name, quantizer in _quantizers(other).items()} == expected


# ---------------------------------------------------------------- .keras files


@pytest.mark.parametrize(("state", "form"), CASES)
def test_a_saved_model_comes_back_bit_for_bit(state, form, tmp_path):
    model = _build(form)
    STATES[state](model)
    copy = _reload(model, tmp_path / "model.keras")
    _assert_equal(model, copy)
    _assert_equal(model, _reload(copy, tmp_path / "again.keras"))


@pytest.mark.parametrize("alpha", ["auto", None, 0.5])
def test_models_of_other_scales_come_back_bit_for_bit(alpha, tmp_path):
    model = _build(alpha=alpha)
    _train(model)
    _assert_equal(model, _reload(model, tmp_path / "model.keras"))


@pytest.mark.slow
@pytest.mark.parametrize(("state", "form"), CASES)
def test_models_of_learned_scales_come_back_bit_for_bit(state, form, tmp_path):
    model = _build(form, alpha="learned_po2")
    STATES[state](model)
    _move_thresholds(model)
    copy = _reload(model, tmp_path / "model.keras")
    _assert_equal(model, copy)
    _assert_equal(model, _reload(copy, tmp_path / "again.keras"))


@pytest.mark.parametrize("state", ["trained", "frozen", "new_bits"])
def test_a_weights_file_carries_learned_scales(state, tmp_path):
    model, other = (_build("serialized", alpha="learned_po2", seed=seed) for seed in (0, 1))
    STATES[state](model)
    _move_thresholds(model)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    _assert_equal(model, other)
    _train(model)
    _train(other)
    for name, quantizer in _quantizers(other).items():
        assert quantizer.learning == (state != "frozen"), name


def test_loaded_quantizers_are_our_classes(tmp_path):
    quantizers = _quantizers(_reload(_build(), tmp_path / "model.keras"))
    assert len(quantizers) == 4 + 3 * 2
    for name, quantizer in quantizers.items():
        assert type(quantizer) is (quantized_bits_featuremap if name.endswith("activation") else quantized_bits), name


def test_the_states_differ():
    """Else the reload tests above would compare nothing."""
    outputs = []
    for change in STATES.values():
        model = _build()
        change(model)
        outputs.append(_outputs(model))
    for i, first in enumerate(outputs):
        assert not any(np.array_equal(first, second) for second in outputs[i + 1 :])


@pytest.mark.slow
def test_a_loaded_model_predicts_the_same_bits_in_a_graph(tmp_path):
    model = _build(run_eagerly=False)
    _freeze(model)
    copy = _reload(model, tmp_path / "model.keras")
    predicted = model.predict(_inputs(), verbose=0)
    np.testing.assert_array_equal(copy.predict(_inputs(), verbose=0), predicted)
    np.testing.assert_array_equal(predicted, _outputs(model))


def test_a_loaded_model_trains_on_as_the_saved_one(tmp_path):
    model = _build()
    _train(model)
    copy = _reload(model, tmp_path / "model.keras")
    _train(model)
    _train(copy)
    _assert_equal(model, copy)


def test_loaded_quantizers_still_follow_new_bits_and_unfreezing(tmp_path):
    model = _build()
    _freeze(model)
    copy = _reload(model, tmp_path / "model.keras")
    for each in (model, copy):
        _outputs(each)
        for quantizer in _quantizers(each).values():
            quantizer.bits = 3
            if isinstance(quantizer, quantized_bits):
                quantizer.unfreeze()
    _assert_equal(model, copy)


# ---------------------------------------------------------------- .weights.h5 files


@pytest.mark.parametrize(
    ("state", "form"),
    [("trained", "object"), ("frozen", "object"), ("new_bits", "object"), ("frozen_then_new_bits", "serialized")],
)
def test_a_weights_file_carries_bits_ranges_and_frozen_scales(state, form, tmp_path):
    model = _build(form)
    STATES[state](model)
    called, uncalled = _build(form, seed=1), _build(form, seed=1)
    assert not np.array_equal(_outputs(called), _outputs(model))
    model.save_weights(tmp_path / "model.weights.h5")
    for other in (called, uncalled):
        other.load_weights(tmp_path / "model.weights.h5")
        _assert_equal(model, other)


def test_a_weights_file_overrides_the_state_of_the_model_that_loads_it(tmp_path):
    model, other = _build(), _build(seed=1)
    _train(model)
    _freeze(other)
    _change_bits(other)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    _assert_equal(model, other)


def test_a_reloaded_model_takes_the_weights_file_of_its_original(tmp_path):
    model = _build("serialized")
    copy = _reload(model, tmp_path / "model.keras")
    _freeze(model)
    _change_bits(model)
    model.save_weights(tmp_path / "model.weights.h5")
    copy.load_weights(tmp_path / "model.weights.h5")
    _assert_equal(model, copy)


# ---------------------------------------------------------------- weights, and the state beside them


@pytest.mark.parametrize("alpha", ["auto_po2", "learned_po2"])
def test_a_clone_with_the_same_weights_computes_the_same_bits(alpha):
    model = _build(alpha=alpha)
    _train(model)
    _move_thresholds(model)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    _assert_equal(model, clone)
    frozen = _build(alpha=alpha)
    _freeze(frozen)
    _change_some_bits(frozen)
    clone = keras.models.clone_model(frozen)
    clone.set_weights(frozen.get_weights())
    _assert_equal(frozen, clone)


def test_a_clone_has_quantizers_of_its_own():
    model = _build()
    _freeze(model)
    before = [_state(quantizer) for quantizer in _quantizers(model).values()]
    clone = keras.models.clone_model(model)
    for quantizer in _quantizers(clone).values():
        quantizer.bits = 3
        if isinstance(quantizer, quantized_bits_featuremap):
            quantizer.frozen = False
            quantizer.calibrate(7 * _inputs())
    assert [_state(quantizer) for quantizer in _quantizers(model).values()] == before


@pytest.mark.parametrize("alpha", ["auto_po2", "auto", None])
def test_layers_have_the_weights_of_layers_without_quantizers(alpha):
    model = _build(alpha=alpha)
    _freeze(model)
    before = [_state(quantizer) for quantizer in _quantizers(model).values()]
    for name in ("conv", "depthwise", "dense"):
        layer = model.get_layer(name)
        kernel = layer.weights[0]
        assert layer.count_params() == kernel.numpy().size + layer.bias.numpy().size
        layer.set_weights([np.zeros(kernel.shape), np.ones(layer.bias.shape)])
        assert not kernel.numpy().any() and layer.bias.numpy().all()
    assert len(model.weights) == 3 * 2
    model.set_weights([np.zeros(weight.shape) for weight in model.weights])
    assert [_state(quantizer) for quantizer in _quantizers(model).values()] == before


def test_thresholds_are_weights_since_they_are_trained():
    model = _build(alpha="learned_po2")
    _outputs(model)
    thresholds = [quantizer.threshold for quantizer in _quantizers(model).values()]
    assert len(model.weights) == 3 * 2 + len(thresholds)
    assert {id(variable) for variable in model.trainable_weights} >= {id(threshold) for threshold in thresholds}


def test_an_h5_file_of_keras_2s_form_carries_widths_ranges_and_frozen_scales(tmp_path):
    model = _build("serialized")
    _freeze(model)
    _change_some_bits(model)
    model.save(tmp_path / "model.h5")
    _assert_equal(model, keras.models.load_model(tmp_path / "model.h5", compile=False))


# ---------------------------------------------------------------- behaviour inside layers


def test_new_bits_reach_a_compiled_model():
    model = _build(run_eagerly=False)
    model(_inputs(), training=True)
    before = model.predict(_inputs(), verbose=0)
    quantizers = _quantizers(model)
    old = {name: quantizer.bits for name, quantizer in quantizers.items()}
    for quantizer in quantizers.values():
        quantizer.bits = 2
    assert np.any(model.predict(_inputs(), verbose=0) != before)
    for name, quantizer in quantizers.items():
        quantizer.bits = old[name]
    np.testing.assert_array_equal(model.predict(_inputs(), verbose=0), before)


def test_training_moves_ranges_and_inference_does_not():
    model = _build(run_eagerly=False)
    ranges = lambda: [q.range for q in _quantizers(model).values() if isinstance(q, quantized_bits_featuremap)]  # noqa: E731
    _outputs(model)
    model.test_on_batch(_inputs(), _targets())
    assert ranges() == [(0.0, 0.0)] * 4
    model.train_on_batch(_inputs(), _targets())
    first = ranges()
    assert first[0] == (float(_inputs().min()), float(_inputs().max()))
    assert all(low < high for low, high in first)
    model.train_on_batch(_inputs(seed=5), _targets())
    assert ranges() != first


def test_training_moves_every_weight_and_no_quantizer_is_trainable():
    model = _build()
    before = [variable.numpy() for variable in model.trainable_variables]
    assert len(before) == 3 * 2
    _train(model)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.any(variable.numpy() != old), variable.path


@pytest.mark.parametrize("name", ["conv", "depthwise", "dense"])
def test_layers_compute_with_the_quantized_weights(name):
    model = _build()
    layer = model.get_layer(name)
    expected_kernel, expected_bias = (
        quantizer(weights)
        for quantizer, weights in (
            (layer.depthwise_quantizer_internal, layer.depthwise_kernel)
            if name == "depthwise"
            else (layer.kernel_quantizer_internal, layer.kernel),
            (layer.bias_quantizer_internal, layer.bias),
        )
    )
    x = tf.constant(np.random.default_rng(3).normal(0, 1, (2, *layer.input.shape[1:])), tf.float32)
    operation = {
        "conv": lambda: keras.ops.conv(x, expected_kernel, padding="valid"),
        "depthwise": lambda: keras.ops.depthwise_conv(x, expected_kernel, padding="valid"),
        "dense": lambda: keras.ops.matmul(x, expected_kernel),
    }[name]
    np.testing.assert_array_equal(layer(x), operation() + expected_bias)
    levels = np.unique(expected_kernel.numpy()[..., 0])
    assert len(levels) < expected_kernel.numpy()[..., 0].size or name == "dense"


def test_a_depthwise_kernel_has_one_scale_per_channel():
    layer = qkeras.QDepthwiseConv2D(3, depthwise_quantizer=quantized_bits(8, 8, 1, 1, alpha="auto_po2"))
    layer(np.zeros((1, 6, 6, 4), np.float32))
    layer.depthwise_kernel.assign(np.full((3, 3, 4, 1), 1.0) * 10.0 ** -np.arange(4).reshape(1, 1, 4, 1))
    layer.depthwise_quantizer_internal.freeze(layer.depthwise_kernel)
    scale = np.array(layer.depthwise_quantizer_internal.get_config()["frozen_scale"])
    assert scale.shape == (1, 1, 4, 1)
    np.testing.assert_array_equal(np.log2(scale.ravel()), [-6, -10, -13, -16])


@pytest.mark.parametrize("alpha", [None, 0.5, "auto"])
def test_layers_leave_alpha_alone(alpha):
    layer = qkeras.QDense(2, kernel_quantizer=quantized_bits(4, 0, 1, alpha=alpha), bias_quantizer=None)
    layer(np.zeros((1, 3), np.float32))
    assert layer.kernel_quantizer_internal.alpha == alpha


@pytest.mark.slow
def test_float64_layers_compute_in_float64():
    quantizer = quantized_bits(32, 0, 1, 1, alpha="auto_po2", dtype="float64")
    layer = qkeras.QDense(2, kernel_quantizer=quantizer, use_bias=False, dtype="float64")
    x = np.eye(3)
    layer(x)
    kernel = np.random.default_rng(0).normal(0, 1, (3, 2))
    layer.kernel.assign(kernel)
    y = layer(x)
    assert y.dtype == tf.float64
    assert 0 < np.max(np.abs(y.numpy() - kernel)) < 2.0**-29  # 32 bits, more than float32 has
