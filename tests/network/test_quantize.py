"""The quantized network against an evaluation by hand, and what may change without changing its outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import qkeras
import tensorflow as tf
from keras import layers
from networks import noise, numbered, outputs, randomize
from oracles import quantize_to_steps
from refusals import refusal

from po2quant.benchmark import benchmark_names, load_benchmark
from po2quant.bit_config import BitConfig, LayerBits
from po2quant.network import (
    Placement,
    activation_quantizers,
    calibrate,
    flat_config,
    fold_batch_norm,
    freeze_scales,
    place_quantizers,
    quantize_model,
    set_bits,
    weight_quantizers,
)
from po2quant.network.graph import read_graph
from po2quant.quantizers import quantized_bits, quantized_bits_featuremap

SIXTEEN_BITS_TOLERANCE = 1e-3
"""Of the largest output: ten roundings to 2**-15 of each tensor's range, some after a gain of about 2."""
REAL_SCALE_TOLERANCE = 1e-12
"""Of the largest output, in float64: real scales make sums inexact, so their order shows."""

PLAIN, REQUANTIZED = Placement(), Placement(requantize_shortcuts=True)


@pytest.fixture
def float64() -> Iterator[None]:
    """Compute in float64, where sums of 16-bit products are exact."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def residual_net() -> keras.Model:
    """Every kind of layer with weights, a shortcut, unsigned and signed tensors; 2x2 means are exact."""
    inputs = keras.Input((8, 8, 3), name="input")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    x = shortcut = layers.ReLU(name="stem_relu")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.ReLU(6.0, name="depthwise_relu")(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(4, 1, name="project")(x))
    x = layers.Add(name="add")([x, shortcut])
    x = layers.AveragePooling2D(2, name="pool")(x)
    x = layers.Conv2D(5, 3, strides=2, padding="same", name="down")(x)
    x = layers.Flatten(name="flatten")(x)
    return randomize(keras.Model(inputs, layers.Dense(3, name="dense")(x)))


def small_net(activation: str | None = None) -> keras.Model:
    stack = [keras.Input((6,), name="input"), layers.Dense(5, activation="relu", name="hidden")]
    return randomize(keras.Sequential([*stack, layers.Dense(3, activation=activation, name="dense")]))


def random_config(model: keras.Model, seed: int, kernels=(2, 4, 7, 8, 16), biases=(8, 16, 31)) -> BitConfig:
    rng = np.random.default_rng(seed)
    folded = fold_batch_norm(model)
    bits = {name: LayerBits(int(rng.choice(kernels)), int(rng.choice(biases))) for name in read_graph(folded).weighted}
    bits |= {slot.name: LayerBits(activation=int(rng.choice(kernels))) for slot in place_quantizers(folded)}
    return BitConfig(bits, f"random {seed}")


def quantized(model: keras.Model, config: BitConfig | int = 8, x: np.ndarray | None = None, **arguments) -> keras.Model:
    """Return a quantized and calibrated model."""
    if isinstance(config, int):
        config = flat_config(model, config, arguments.get("placement", PLAIN))
    result = quantize_model(model, config, **arguments)
    calibrate(result, noise(model) if x is None else x)
    return result


# The oracle: numpy, and the definition of each layer. Only the scales are read from the model.


def conv_by_hand(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, strides: int, depthwise: bool) -> np.ndarray:
    """Padding "same", as TensorFlow shares an odd number of zeros: the fewer before."""
    size, positions = kernel.shape[0], -(-x.shape[1] // strides)
    padding = max((positions - 1) * strides + size - x.shape[1], 0)
    edges = (padding // 2, padding - padding // 2)
    x = np.pad(x, ((0, 0), edges, edges, (0, 0)))
    span = (positions - 1) * strides + 1
    total = 0
    for row in range(size):
        for column in range(size):
            window = x[:, row : row + span : strides, column : column + span : strides]
            total = total + (window * kernel[row, column, :, 0] if depthwise else window @ kernel[row, column])
    return total + bias


def evaluate_by_hand(model: keras.Model, config: BitConfig, x: np.ndarray, requantized: bool) -> np.ndarray:
    scales = {name: quantizer.scale for name, quantizer in activation_quantizers(model)}
    weights = {}
    for weight in weight_quantizers(model):
        bits = config.kernel_bits if weight.part == "kernel" else config.bias_bits
        scale = np.asarray(weight.quantizer.compute_scale(weight.variable))
        values = quantize_to_steps(weight.variable.numpy(), scale, bits(weight.layer.name))
        weights.setdefault(weight.layer.name, []).append(values)
    names = iter(config_activations(config))

    def activation(x: np.ndarray, signed: bool) -> np.ndarray:
        name = next(names)
        return quantize_to_steps(x, scales[name], config.activation_bits(name), signed)

    def conv(name: str, x: np.ndarray, strides: int = 1, depthwise: bool = False) -> np.ndarray:
        return conv_by_hand(x, *weights[name], strides, depthwise)

    x = activation(x, signed=True)
    x = shortcut = activation(np.maximum(conv("stem", x), 0.0), signed=False)
    x = activation(np.clip(conv("depthwise", x, depthwise=True), 0.0, 6.0), signed=False)
    x = activation(conv("project", x), signed=True)
    if requantized:
        shortcut = activation(shortcut, signed=False)
    x = activation(x + shortcut, signed=True)
    x = activation(x.reshape(len(x), 4, 2, 4, 2, 4).mean(axis=(2, 4)), signed=True)
    x = activation(conv("down", x, strides=2), signed=True)
    kernel, bias = weights["dense"]
    x = activation(x.reshape(len(x), -1) @ kernel + bias, signed=True)
    assert next(names, None) is None
    return x


def config_activations(config: BitConfig) -> list[str]:
    return [name for name, bits in config.layers.items() if bits.activation is not None]


def check_against_evaluation_by_hand(model: keras.Model, config: BitConfig, x: np.ndarray, requantized: bool) -> None:
    expected = evaluate_by_hand(model, config, x.astype(np.float64), requantized)
    assert len(np.unique(expected)) > 3
    np.testing.assert_array_equal(outputs(model, x), expected)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("placement", [PLAIN, REQUANTIZED], ids=["plain", "requantized"])
def test_network_equals_the_evaluation_by_hand_bit_for_bit(float64, placement, seed):
    model = residual_net()
    config = random_config(model, seed)
    if placement.requantize_shortcuts:
        config = BitConfig({**config.layers, "activation_8": LayerBits(activation=5)})
    result = quantized(model, config, placement=placement)
    x = 1.5 * noise(model, seed=2)  # beyond the calibrated range, so that values are clipped
    check_against_evaluation_by_hand(result, config, x, placement.requantize_shortcuts)


def test_compiled_graph_equals_the_evaluation_by_hand_bit_for_bit(float64):
    model = residual_net()
    config = random_config(model, 2)
    result = quantized(model, config)
    x = noise(model, seed=2)
    expected = evaluate_by_hand(result, config, x, requantized=False)
    np.testing.assert_array_equal(result.predict(x, verbose=0), expected)


def test_small_widths_are_exact_in_float32_too():
    """Sums of 4-bit products and 8-bit biases have fewer than the 24 bits that float32 holds."""
    model = residual_net()
    folded = fold_batch_norm(model)
    slots = [slot.name for slot in place_quantizers(folded)]
    config = BitConfig.flat(read_graph(folded).weighted, slots, 4, bias_bits=8)
    check_against_evaluation_by_hand(quantized(model, config), config, noise(model, seed=2), requantized=False)


def test_real_scales_equal_the_evaluation_by_hand(float64):
    model = residual_net()
    config = random_config(model, 0, kernels=(4, 8))
    result = quantized(model, config, alpha="auto")
    x = noise(model, seed=2)
    expected = evaluate_by_hand(result, config, x, requantized=False)
    tolerance = REAL_SCALE_TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(outputs(result, x), expected, rtol=0, atol=tolerance)


# 16 bits hardly differ from float, whatever the arguments of the layers are.

STACKS: dict[str, tuple[tuple[int, ...], Callable[[], list[keras.Layer]]]] = {
    "valid": ((7, 8, 4), lambda: [layers.Conv2D(6, 3)]),
    "same with strides": ((7, 8, 4), lambda: [layers.Conv2D(6, 3, strides=2, padding="same")]),
    "uneven": ((7, 8, 4), lambda: [layers.Conv2D(6, (1, 3), strides=(2, 1))]),
    "dilation": ((7, 8, 4), lambda: [layers.Conv2D(6, 3, dilation_rate=2)]),
    "groups": ((7, 8, 4), lambda: [layers.Conv2D(6, 3, groups=2)]),
    "depthwise": ((7, 8, 4), lambda: [layers.DepthwiseConv2D(3, strides=2, padding="same")]),
    "depthwise dilation": ((7, 8, 4), lambda: [layers.DepthwiseConv2D(3, dilation_rate=2)]),
    "depth multiplier": ((7, 8, 4), lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2)]),
    "dense on a picture": ((5, 5, 4), lambda: [layers.Dense(3)]),
    "no bias": ((5, 5, 4), lambda: [layers.Conv2D(3, 3, use_bias=False), layers.ReLU()]),
    "folded": ((5, 5, 4), lambda: [layers.Conv2D(3, 3), layers.BatchNormalization(), layers.ReLU()]),
    "swish and sigmoid": ((6,), lambda: [layers.Dense(5, activation="swish"), layers.Dense(4, activation="sigmoid")]),
    "dropout": ((6,), lambda: [layers.Dense(5), layers.Dropout(0.5), layers.Dense(4)]),
    "padding and pooling": ((6, 6, 2), lambda: [layers.ZeroPadding2D(), layers.Conv2D(3, 3), layers.MaxPooling2D()]),
    "softmax": ((6,), lambda: [layers.Dense(5, activation="softmax")]),
}


def check_16_bits_are_close_to_float(model: keras.Model, **arguments) -> keras.Model:
    """Give a model random weights, compare its quantized form to it, and return that."""
    x = noise(randomize(model))
    result = quantized(model, 16, x, **arguments)
    expected, found = outputs(model, x), outputs(result, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=SIXTEEN_BITS_TOLERANCE * np.abs(expected).max())
    assert not np.array_equal(found, expected)
    return result


@pytest.mark.parametrize("name", STACKS)
def test_16_bits_are_close_to_float(name):
    shape, stack = STACKS[name]
    check_16_bits_are_close_to_float(keras.Sequential([keras.Input(shape), *stack()]))


def squeeze_excite_net() -> keras.Model:
    inputs = keras.Input((6, 6, 4), name="input")
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="expand")(inputs))
    x = layers.Activation("swish")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(2, 1, activation="swish", name="reduce")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="gate")(gate)
    x = layers.Conv2D(4, 1, name="project")(layers.Multiply()([x, gate]))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, inputs]))
    return randomize(keras.Model(inputs, layers.Dense(2, activation="softmax", name="head")(x)))


@pytest.mark.parametrize("build", [residual_net, squeeze_excite_net])
@pytest.mark.parametrize("bits", [2, 8])
def test_residual_and_squeeze_excite_nets_give_finite_values(build, bits):
    model = build()
    result = outputs(quantized(model, bits), noise(model, seed=3))
    assert np.all(np.isfinite(result))
    assert result.shape == (32, model.output_shape[-1])


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_error_shrinks_with_the_width(alpha):
    model = small_net(activation="swish")
    x = noise(model)
    errors = [
        np.abs(outputs(quantized(model, bits, x, alpha=alpha), x) - outputs(model, x)).max() for bits in (4, 8, 12)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0


# What the quantized model is made of.


def test_weights_are_the_folded_ones():
    model = residual_net()
    folded, result = fold_batch_norm(model), quantize_model(model, flat_config(model, 4))
    found = {(weight.layer.name, weight.part): weight.variable.numpy() for weight in weight_quantizers(result)}
    assert len(found) == 2 * 5
    for name in ("stem", "depthwise", "project", "down", "dense"):
        kernel, bias = folded.get_layer(name).get_weights()
        np.testing.assert_array_equal(found[name, "kernel"], kernel)
        np.testing.assert_array_equal(found[name, "bias"], bias)


def test_original_model_is_left_alone():
    model = residual_net()
    before, config, x = model.get_weights(), model.get_config(), noise(model)
    expected = outputs(model, x)
    quantized(model, 4)
    assert model.get_config() == config
    np.testing.assert_equal(model.get_weights(), before)
    np.testing.assert_array_equal(outputs(model, x), expected)


def test_layers_are_those_of_qkeras():
    model = residual_net()
    result = quantize_model(model, flat_config(model, 8))
    kinds = {layer.name: type(layer) for layer in result.layers}
    assert [kinds[name] for name in ("stem", "depthwise", "dense")] == [
        qkeras.QConv2D,
        qkeras.QDepthwiseConv2D,
        qkeras.QDense,
    ]
    slots = [slot.name for slot in place_quantizers(fold_batch_norm(model))]
    assert [name for name, kind in kinds.items() if kind is qkeras.QActivation] == slots
    assert not {layers.Conv2D, layers.DepthwiseConv2D, layers.Dense, layers.BatchNormalization} & set(kinds.values())


def test_quantizers_have_the_widths_and_signs_of_their_slots():
    model = residual_net()
    config = random_config(model, 4)
    result = quantize_model(model, config)
    for weight in weight_quantizers(result):
        bits = config.layers[weight.layer.name]
        assert isinstance(weight.quantizer, quantized_bits)
        assert weight.quantizer.bits == (bits.kernel if weight.part == "kernel" else bits.bias)
        assert weight.quantizer.signed and weight.quantizer.narrow_range
    found = {name: (quantizer.bits, quantizer.signed) for name, quantizer in activation_quantizers(result)}
    signs = (True, False, False, True, True, True, True, True)
    names = numbered("activation", 8)
    assert found == {name: (config.layers[name].activation, s) for name, s in zip(names, signs, strict=True)}
    assert all(isinstance(quantizer, quantized_bits_featuremap) for _, quantizer in activation_quantizers(result))


def test_quantizers_come_in_network_order():
    model = residual_net()
    result = quantize_model(model, flat_config(model, 8, REQUANTIZED), placement=REQUANTIZED)
    names = ("stem", "depthwise", "project", "down", "dense")
    assert [(weight.layer.name, weight.part) for weight in weight_quantizers(result)] == [
        (name, part) for name in names for part in ("kernel", "bias")
    ]
    slots = [slot.name for slot in place_quantizers(fold_batch_norm(model), REQUANTIZED)]
    assert [name for name, _ in activation_quantizers(result)] == slots
    for weight in weight_quantizers(result):
        assert weight.layer is result.get_layer(weight.layer.name)
        owner = {"kernel": getattr(weight.layer, "depthwise_kernel", None), "bias": weight.layer.bias}
        kernel = owner["kernel"] if owner["kernel"] is not None else weight.layer.kernel
        assert weight.variable is (kernel if weight.part == "kernel" else weight.layer.bias)


def test_requantized_shortcut_feeds_the_add_alone():
    model = residual_net()
    result = quantize_model(model, flat_config(model, 8, REQUANTIZED), placement=REQUANTIZED)
    fed_by = {tensor._keras_history.operation.name for tensor in result.get_layer("add").input}
    assert fed_by == {"activation_3", "activation_4"}
    assert result.get_layer("activation_4").input._keras_history.operation.name == "activation_1"
    assert result.get_layer("depthwise").input._keras_history.operation.name == "activation_1"


def test_layers_named_like_a_slot_do_not_collide():
    stack = [
        keras.Input((6,), name="input"),
        layers.Dense(5, name="first"),
        layers.Activation("relu", name="activation_1"),
        layers.Dense(4, name="second"),
        layers.Activation("swish", name="activation"),
        layers.Dropout(0.5, name="activation_3"),
        layers.Dense(3, name="third"),
    ]
    result = check_16_bits_are_close_to_float(keras.Sequential(stack))
    assert [name for name, _ in activation_quantizers(result)] == numbered("activation", 5)


def call_dense_twice(x: keras.KerasTensor) -> keras.KerasTensor:
    dense = layers.Dense(4)
    return dense(layers.ReLU()(dense(x)))


def call_relu_twice(x: keras.KerasTensor) -> keras.KerasTensor:
    relu = layers.ReLU()
    return relu(layers.Dense(3)(relu(layers.Dense(4)(x))))


@pytest.mark.parametrize(("build", "weight_layers"), [(call_dense_twice, 1), (call_relu_twice, 2)])
def test_shared_layer_has_its_quantizers_once_and_a_slot_for_each_call(build, weight_layers):
    inputs = keras.Input((4,))
    result = check_16_bits_are_close_to_float(keras.Model(inputs, build(inputs)))
    assert [weight.part for weight in weight_quantizers(result)] == ["kernel", "bias"] * weight_layers
    assert len(list(activation_quantizers(result))) == 3


@pytest.mark.parametrize("placement", [PLAIN, REQUANTIZED], ids=["plain", "requantized"])
def test_add_of_a_tensor_to_itself(placement):
    inputs = keras.Input((4,))
    x = layers.Dense(4)(inputs)
    check_16_bits_are_close_to_float(keras.Model(inputs, layers.Add()([x, x])), placement=placement)


@pytest.mark.parametrize("layer_class", [qkeras.QDense, type("OwnDense", (layers.Dense,), {})])
def test_subclass_of_a_known_layer_is_named(layer_class):
    """It may compute something else than the layer that would replace it."""
    model = keras.Sequential([keras.Input((4,)), layer_class(3, name="odd")])
    with pytest.raises(ValueError, match="'odd'"):
        quantize_model(model, BitConfig({"odd": LayerBits(8, 8), **flat_activations(2)}))


def flat_activations(count: int, bits: int = 8) -> dict[str, LayerBits]:
    return dict.fromkeys(numbered("activation", count), LayerBits(activation=bits))


def test_regularizers_stay():
    dense = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.25), name="dense")
    model = randomize(keras.Sequential([keras.Input((4,)), dense]))
    result = quantize_model(model, flat_config(model, 8))
    np.testing.assert_allclose(float(sum(result.losses)), 0.25 * np.sum(np.square(dense.kernel.numpy())), rtol=1e-6)


# Configurations that do not fit, and other wrong arguments.


def test_config_of_another_network_names_the_difference():
    message = refusal(quantize_model, small_net(), flat_config(residual_net(), 8))
    assert "'flat8' does not fit the network" in message
    assert "lacks hidden" in message and "unknown layers stem, depthwise, project, down" in message


@pytest.mark.parametrize("missing", ["hidden", "activation_1"])
def test_config_that_lacks_a_layer_names_it(missing):
    config = {name: bits for name, bits in flat_config(small_net(), 8).layers.items() if name != missing}
    with pytest.raises(ValueError, match=f"lacks {missing}\\."):
        quantize_model(small_net(), BitConfig(config))


def test_set_bits_with_a_config_that_does_not_fit():
    model = small_net()
    result = quantize_model(model, flat_config(model, 8))
    with pytest.raises(ValueError, match="does not fit the network"):
        set_bits(result, flat_config(residual_net(), 4))
    assert {weight.quantizer.bits for weight in weight_quantizers(result)} == {8, 31}


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [
        ({"alpha": "po2"}, "auto, auto_po2"),
        ({"alpha": None}, "auto, auto_po2"),
        ({"activation_scale": "dynamic"}, "static, per_sample"),
        ({"scale_rule": "least"}, "mse, max, nearest, stock"),
    ],
    ids=str,
)
def test_unknown_choice_lists_the_valid_ones(arguments, valid):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name} must be one of {valid}.*{value!r}"):
        quantize_model(small_net(), flat_config(small_net(), 8), **arguments)


def test_flat_config_covers_the_network():
    assert flat_config(residual_net(), 6, REQUANTIZED).layers == {
        **dict.fromkeys(("stem", "depthwise", "project", "down", "dense"), LayerBits(6, 31)),
        **flat_activations(9, 6),
    }


# Scales.


def is_power_of_two(value: float) -> bool:
    return math.frexp(value)[0] == 0.5


def weight_scales(model: keras.Model) -> dict[str, np.ndarray]:
    return {
        f"{weight.layer.name} {weight.part}": np.asarray(weight.quantizer.compute_scale(weight.variable))
        for weight in weight_quantizers(model)
    }


def all_scales(model: keras.Model) -> list[float]:
    weights = [float(scale) for scales in weight_scales(model).values() for scale in scales.flat]
    return weights + [quantizer.scale for _, quantizer in activation_quantizers(model)]


def test_auto_po2_has_powers_of_two_only():
    scales = all_scales(quantized(residual_net(), random_config(residual_net(), 5)))
    assert len(scales) == (4 + 4 + 4 + 5 + 3) + 5 + 8  # channels, biases, activations
    assert all(map(is_power_of_two, scales))


def test_auto_has_real_scales():
    scales = all_scales(quantized(residual_net(), random_config(residual_net(), 5), alpha="auto"))
    assert not any(map(is_power_of_two, scales))


@pytest.mark.parametrize("scale_rule", ["mse", "max"])
@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_kernels_have_one_scale_per_output_channel_and_biases_one(alpha, scale_rule):
    stack = [layers.Conv2D(4, 3, name="conv"), layers.DepthwiseConv2D(3, name="depthwise")]
    stack += [layers.DepthwiseConv2D(1, depth_multiplier=2, name="multiplied"), layers.Dense(5, name="dense")]
    model = randomize(keras.Sequential([keras.Input((8, 8, 3)), *stack]))
    result = quantize_model(model, flat_config(model, 8), alpha, scale_rule=scale_rule)
    assert {name: scale.shape for name, scale in weight_scales(result).items()} == {
        "conv kernel": (1, 1, 1, 4),
        "conv bias": (1,),
        "depthwise kernel": (1, 1, 4, 1),
        "depthwise bias": (1,),
        "multiplied kernel": (1, 1, 4, 2),
        "multiplied bias": (1,),
        "dense kernel": (1, 5),
        "dense bias": (1,),
    }


def test_depthwise_channels_of_different_size_have_different_scales():
    conv = layers.DepthwiseConv2D(3, name="depthwise")
    model = randomize(keras.Sequential([keras.Input((8, 8, 4)), conv]))
    conv.kernel.assign(conv.kernel * np.array([1.0, 16.0, 256.0, 4096.0]).reshape(1, 1, 4, 1))
    scales = weight_scales(quantize_model(model, flat_config(model, 8)))["depthwise kernel"].ravel()
    assert np.all(np.diff(scales) > 0)


def test_max_rule_is_the_smallest_power_of_two_that_clips_nothing():
    model = residual_net()
    result = quantize_model(model, flat_config(model, 6), scale_rule="max")
    for weight in weight_quantizers(result):
        kernel = weight.variable.numpy().astype(np.float64)
        scale = np.asarray(weight.quantizer.compute_scale(weight.variable), np.float64)
        largest = 2 ** ((6 if weight.part == "kernel" else 31) - 1) - 1
        axes = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
        max_abs = np.abs(kernel).max(axis=axes, keepdims=True)
        assert np.all(max_abs <= largest * scale)
        assert np.all(max_abs > largest * scale / 2)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_mse_rule_has_the_least_squared_error_of_all_powers_of_two(bits):
    model = randomize(keras.Sequential([keras.Input((9, 9, 6)), layers.Conv2D(4, 5, name="conv")]))
    result = quantize_model(model, flat_config(model, bits))
    kernel = result.get_layer("conv").kernel.numpy().astype(np.float64)
    found = weight_scales(result)["conv kernel"].ravel()
    candidates = [2.0**exponent for exponent in range(-20, 10)]
    for channel in range(4):
        values = kernel[..., channel]
        errors = [np.sum((values - quantize_to_steps(values, scale, bits)) ** 2) for scale in candidates]
        assert found[channel] == candidates[int(np.argmin(errors))]


def test_stock_rule_is_qkeras_own_quantizer():
    """The rule that made the study's networks collapse, kept to compare with: 16-bit kernels, 31-bit biases."""
    model = randomize(keras.Sequential([keras.Input((9, 9, 3)), layers.Conv2D(4, 3), layers.DepthwiseConv2D(3)]))
    result = quantize_model(model, flat_config(model, 16), scale_rule="stock")
    found = list(weight_quantizers(result))
    assert len(found) == 4
    for weight in found:
        bits = 16 if weight.part == "kernel" else 31
        stock = qkeras.quantizers.quantized_bits(bits, bits, 1, 1, alpha="auto_po2")
        values = weight.quantizer(tf.convert_to_tensor(weight.variable)).numpy()
        np.testing.assert_array_equal(values, stock(tf.convert_to_tensor(weight.variable)).numpy())
        if weight.part == "bias":
            np.testing.assert_array_equal(values, np.zeros(values.shape, np.float32))
    assert weight_scales(result)[f"{found[2].layer.name} kernel"].size == 1  # one scale for all depthwise channels


def test_exact_rules_keep_the_biases_that_the_stock_rule_loses():
    model = residual_net()
    result = quantize_model(model, flat_config(model, 16))
    biases = [weight for weight in weight_quantizers(result) if weight.part == "bias"]
    for bias in biases:
        values = bias.variable.numpy()
        np.testing.assert_allclose(bias.quantizer(tf.convert_to_tensor(values)).numpy(), values, rtol=1e-6)


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_per_sample_scales_follow_each_sample(alpha):
    """128 times the sample gives 128 times the integers' scale, whatever else is in the batch."""
    model = keras.Sequential([keras.Input((6,), name="input"), layers.Identity()])
    x = noise(model, samples=4)
    batch = np.concatenate([x, 128 * x, 3 * x])
    config = BitConfig(flat_activations(1, 5))
    result = quantize_model(model, config, alpha, activation_scale="per_sample")
    calibrate(result, x)
    found = outputs(result, batch)
    np.testing.assert_array_equal(found[4:8], 128 * found[:4])
    np.testing.assert_array_equal(outputs(result, x), found[:4])
    assert all(len(np.unique(sample)) > 3 for sample in found)


def test_static_scale_is_the_same_for_every_sample():
    model = keras.Sequential([keras.Input((6,), name="input"), layers.Identity()])
    x = noise(model, samples=64)
    result = quantize_model(model, BitConfig(flat_activations(1, 5)))
    calibrate(result, x)
    ((_, quantizer),) = activation_quantizers(result)
    batch = np.concatenate([x, 128 * x])
    np.testing.assert_array_equal(outputs(result, batch), quantize_to_steps(batch, quantizer.scale, 5))


# Widths that change.


@pytest.mark.parametrize(("build", "alpha"), [(residual_net, "auto_po2"), (squeeze_excite_net, "auto")])
def test_set_bits_then_calibrate_equals_a_fresh_model(build, alpha):
    model = build()
    x, other = noise(model), noise(model, seed=5)
    reused = quantized(model, random_config(model, 0), x, alpha=alpha)
    config = random_config(model, 1)
    set_bits(reused, config)
    calibrate(reused, x)
    fresh = quantized(model, config, x, alpha=alpha)
    np.testing.assert_array_equal(outputs(reused, other), outputs(fresh, other))
    ranges = [{name: quantizer.range for name, quantizer in activation_quantizers(net)} for net in (reused, fresh)]
    assert ranges[0] == ranges[1]


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_set_bits_then_calibrate_equals_a_fresh_model_in_a_compiled_graph(alpha):
    model = small_net(activation="softmax")
    x, other = noise(model), noise(model, seed=5)
    reused = quantized(model, random_config(model, 0), x, alpha=alpha)
    reused.predict(other, verbose=0)
    config = random_config(model, 1)
    set_bits(reused, config)
    calibrate(reused, x)
    fresh = quantized(model, config, x, alpha=alpha)
    np.testing.assert_array_equal(reused.predict(other, verbose=0), fresh.predict(other, verbose=0))


def test_set_bits_thaws_frozen_scales_even_where_the_width_stays():
    model = randomize(small_net())
    config, x = flat_config(model, 8), noise(model)
    reused = quantized(model, config, x)
    freeze_scales(reused)
    for weight in weight_quantizers(reused):
        weight.variable.assign(4.0 * weight.variable)
    set_bits(reused, config)
    calibrate(reused, x)
    fresh = quantize_model(model, config)
    for weight in weight_quantizers(fresh):
        weight.variable.assign(4.0 * weight.variable)
    calibrate(fresh, x)
    np.testing.assert_array_equal(outputs(reused, x), outputs(fresh, x))


def test_set_bits_changes_the_outputs_of_a_compiled_graph():
    model = small_net()
    x = noise(model)
    result = quantized(model, 8, x)
    before = result.predict(x, verbose=0)
    set_bits(result, flat_config(model, 3))
    assert not np.array_equal(result.predict(x, verbose=0), before)


def test_set_bits_changes_the_loss_of_a_compiled_training_step():
    model = small_net()
    x = noise(model)
    y = outputs(model, x)
    result = quantized(model, 3, x)
    result.compile(keras.optimizers.SGD(0.0), "mse")
    coarse = result.fit(x, y, batch_size=len(x), verbose=0).history["loss"][0]
    set_bits(result, flat_config(model, 16))
    calibrate(result, x)
    fine = result.fit(x, y, batch_size=len(x), verbose=0).history["loss"][0]
    assert fine < coarse / 100


def test_set_bits_after_freezing_equals_a_fresh_model():
    """A frozen scale belongs to its width, as a static range does."""
    model = small_net()
    x = noise(model)
    reused = quantized(model, 4, x)
    freeze_scales(reused)
    set_bits(reused, flat_config(model, 8))
    calibrate(reused, x)
    np.testing.assert_array_equal(outputs(reused, x), outputs(quantized(model, 8, x), x))


# Saving and loading.


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "not frozen"])
@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_keras_file_round_trip(tmp_path, alpha, frozen):
    model = residual_net()
    result = quantized(model, random_config(model, 3), alpha=alpha)
    if frozen:
        freeze_scales(result)
    result.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    check_same_state(loaded, result)


def test_keras_file_round_trip_in_a_compiled_graph(tmp_path):
    model = small_net(activation="softmax")
    x = noise(model, seed=7)
    result = quantized(model, 5)
    freeze_scales(result)
    expected = result.predict(x, verbose=0)
    result.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras").predict(x, verbose=0), expected)


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "not frozen"])
def test_weights_file_round_trip(tmp_path, frozen):
    """The file brings widths, ranges and frozen scales into a model of other widths and weights."""
    model = squeeze_excite_net()
    result = quantized(model, random_config(model, 3))
    if frozen:
        freeze_scales(result)
    result.save_weights(tmp_path / "model.weights.h5")
    loaded = quantize_model(randomize(squeeze_excite_net(), seed=9), flat_config(model, 8))
    loaded.load_weights(tmp_path / "model.weights.h5")
    check_same_state(loaded, result)


def test_weights_file_loads_over_a_frozen_model(tmp_path):
    model = small_net()
    result = quantized(model, 5)
    result.save_weights(tmp_path / "model.weights.h5")
    loaded = quantized(randomize(small_net(), seed=9), 8)
    freeze_scales(loaded)
    loaded.load_weights(tmp_path / "model.weights.h5")
    check_same_state(loaded, result)


def check_same_state(found: keras.Model, expected: keras.Model) -> None:
    x = noise(expected, seed=7)
    np.testing.assert_array_equal(outputs(found, x), outputs(expected, x))
    for one, other in zip(weight_quantizers(found), weight_quantizers(expected), strict=True):
        assert (one.quantizer.bits, one.quantizer.frozen) == (other.quantizer.bits, other.quantizer.frozen)
        np.testing.assert_array_equal(one.variable.numpy(), other.variable.numpy())
    for one, other in zip(activation_quantizers(found), activation_quantizers(expected), strict=True):
        assert one[0] == other[0]
        assert (one[1].bits, one[1].frozen, one[1].range) == (other[1].bits, other[1].frozen, other[1].range)


def test_loaded_keras_file_takes_other_widths(tmp_path):
    model = small_net()
    x = noise(model)
    quantized(model, 8, x).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    set_bits(loaded, flat_config(model, 3))
    calibrate(loaded, x)
    np.testing.assert_array_equal(outputs(loaded, x), outputs(quantized(model, 3, x), x))


# Training.


def trained(model: keras.Model, x: np.ndarray, y: np.ndarray, learning_rate: float = 0.05) -> keras.Model:
    model.compile(keras.optimizers.SGD(learning_rate), "mse", jit_compile=False)
    model.fit(x, y, epochs=1, batch_size=8, verbose=0)
    return model


def test_training_moves_every_weight_and_keeps_frozen_ranges():
    model = residual_net()
    x = noise(model)
    result = quantized(model, 8, x)
    ranges = {name: quantizer.range for name, quantizer in activation_quantizers(result)}
    before = [weight.variable.numpy() for weight in weight_quantizers(result)]
    trained(result, 2 * x, outputs(model, x))
    for weight, old in zip(weight_quantizers(result), before, strict=True):
        assert np.any(weight.variable.numpy() != old), f"{weight.layer.name} {weight.part}"
    assert {name: quantizer.range for name, quantizer in activation_quantizers(result)} == ranges


def test_training_lowers_the_loss():
    model = small_net()
    x = noise(model, samples=256)
    y = np.tanh(outputs(randomize(small_net(), seed=8), x))
    result = quantized(model, 6, x)
    before = np.mean((outputs(result, x) - y) ** 2)
    result.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    result.fit(x, y, epochs=10, batch_size=32, verbose=0)
    assert np.mean((outputs(result, x) - y) ** 2) < 0.5 * before


@pytest.mark.parametrize("constraint", [None, "non_neg"])
def test_training_step_of_length_zero_changes_no_weight(constraint):
    """Neither a width's fixed-point range, which these scales do not have, nor the grid may touch the weights."""
    dense = layers.Dense(3, kernel_constraint=constraint, name="dense")
    model = randomize(keras.Sequential([keras.Input((6,)), dense]))
    dense.kernel.assign(100 * np.abs(dense.kernel))
    x = noise(model)
    result = trained(quantized(model, 4, x), x, outputs(model, x), learning_rate=0.0)
    np.testing.assert_array_equal(result.get_layer("dense").kernel.numpy(), dense.kernel.numpy())


# Frozen scales.


def test_freezing_leaves_the_outputs_of_a_compiled_graph():
    model = small_net()
    x = noise(model, seed=4)
    result = quantized(model, random_config(model, 6))
    expected = result.predict(x, verbose=0)
    freeze_scales(result)
    np.testing.assert_array_equal(result.predict(x, verbose=0), expected)


@pytest.mark.parametrize("alpha", ["auto", "auto_po2"])
def test_freezing_leaves_the_outputs_bit_for_bit(alpha):
    model = residual_net()
    x = noise(model, seed=4)
    result = quantized(model, random_config(model, 6), alpha=alpha)
    expected = outputs(result, x)
    freeze_scales(result)
    np.testing.assert_array_equal(outputs(result, x), expected)
    assert all(weight.quantizer.frozen for weight in weight_quantizers(result))
    assert all(quantizer.frozen for _, quantizer in activation_quantizers(result))


SIX_BITS = BitConfig.flat(["hidden", "dense"], numbered("activation", 3), 6, bias_bits=16)


def check_weights_are_quantized_with(model: keras.Model, scales: dict[str, np.ndarray], factor: float = 1.0) -> None:
    for weight in weight_quantizers(model):
        values = weight.variable.numpy()
        scale = factor * scales[f"{weight.layer.name} {weight.part}"]
        expected = quantize_to_steps(values, scale, 6 if weight.part == "kernel" else 16)
        np.testing.assert_array_equal(weight.quantizer(tf.convert_to_tensor(values)).numpy(), expected)


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "not frozen"])
def test_frozen_scales_stay_when_weights_change(frozen):
    model = small_net()
    result = quantized(model, SIX_BITS)
    scales = weight_scales(result)
    if frozen:
        freeze_scales(result)
    for weight in weight_quantizers(result):
        weight.variable.assign(8 * weight.variable)
    check_weights_are_quantized_with(result, scales, factor=1 if frozen else 8)


@pytest.mark.parametrize("freeze_again", [False, True])
def test_frozen_scales_stay_in_training_and_when_they_are_frozen_again(freeze_again):
    model = small_net()
    x = noise(model)
    result = quantized(model, SIX_BITS, x)
    freeze_scales(result)
    scales = weight_scales(result)
    for weight in weight_quantizers(result):
        weight.variable.assign(weight.variable * 0.2)
    trained(result, x, outputs(model, x))
    if freeze_again:
        freeze_scales(result)
    check_weights_are_quantized_with(result, scales)


def test_a_network_that_was_not_calibrated_cannot_be_frozen():
    """Frozen means that inference computes no scale."""
    model = small_net()
    assert "calibrate" in refusal(freeze_scales, quantize_model(model, flat_config(model, 6)))


# The networks of the benchmarks.

NETWORKS = [
    (name, model)
    for name in benchmark_names()
    for model, spec in load_benchmark(name).networks.items()
    if spec.mpq_config is not None
]


QUICK_NETWORKS = (("keyword_spotting", "ds_cnn"), ("image_classification", "resnet8"))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(pair, marks=() if pair in QUICK_NETWORKS else pytest.mark.slow, id="-".join(pair))
        for pair in NETWORKS
    ],
)
def benchmark_network(request) -> tuple[keras.Model, BitConfig, Path]:
    """A benchmark's network with its mixed-precision configuration, built once for all tests."""
    name, model = request.param
    spec = load_benchmark(name).networks[model]
    if not spec.mpq_config.exists():
        pytest.skip(f"{spec.mpq_config.name} is not found yet")
    config = BitConfig.load(spec.mpq_config)
    return quantize_model(spec.build(), config, placement=spec.placement), config, spec.mpq_config


def test_benchmark_network_has_the_widths_of_its_configuration(benchmark_network):
    model, config, _ = benchmark_network
    found = {name: LayerBits(activation=quantizer.bits) for name, quantizer in activation_quantizers(model)}
    widths: dict[str, list[int]] = {}
    for weight in weight_quantizers(model):
        widths.setdefault(weight.layer.name, []).append(weight.quantizer.bits)
    found |= {name: LayerBits(*bits) for name, bits in widths.items()}
    assert found == dict(config.layers)


@pytest.mark.slow
def test_resnet8_gives_probabilities_after_calibration():
    benchmark = load_benchmark("image_classification")
    spec = benchmark.networks["resnet8"]
    model = quantize_model(spec.build(), BitConfig.load(spec.mpq_config), placement=spec.placement)
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    calibrate(model, x)
    np.testing.assert_allclose(outputs(model, x).sum(axis=1), 1.0, rtol=1e-5)
