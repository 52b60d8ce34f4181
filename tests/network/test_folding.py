"""Folding BatchNormalization: the same function as before, or one sentence that says why not."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers
from networks import noise, randomize
from refusals import refusal

from po2quant.network import fold, fold_batch_norm

FLOAT_TOLERANCE = 2e-5
"""Of the largest output: float32 has 6e-8, and sums of up to 100 products of another order differ by more."""
WEIGHT_ULPS = 1
"""Weights are folded in float64 here and there; the orders of operations may round apart once."""

Inputs = np.ndarray | list[np.ndarray]


def outputs_of(model: keras.Model, x: Inputs) -> list[np.ndarray]:
    outputs = model(x, training=False)
    return [np.asarray(output) for output in (outputs if isinstance(outputs, list) else [outputs])]


def check_folds(model: keras.Model) -> keras.Model:
    """Fold a model with random weights and compare it, and the one it was made from, to the original."""
    x = noise(randomize(model))
    before = outputs_of(model, x)
    weights = model.get_weights()
    config = model.get_config()

    folded = fold_batch_norm(model)

    for expected, found in zip(before, outputs_of(folded, x), strict=True):
        assert expected.shape == found.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT_TOLERANCE * np.abs(expected).max())
    assert not [layer.name for layer in folded.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in folded.layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
            assert layer.use_bias
            assert layer.activation is keras.activations.linear

    assert model.get_config() == config
    np.testing.assert_equal(model.get_weights(), weights)
    np.testing.assert_equal(outputs_of(model, x), before)
    originals = {id(weight) for weight in model.weights}
    assert not [weight.path for weight in folded.weights if id(weight) in originals]
    return folded


def sequence(shape: tuple[int, ...], *stack: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *stack])


CONVOLUTIONS = {
    "valid": {},
    "same": {"padding": "same"},
    "strides": {"strides": 2, "padding": "same"},
    "uneven strides": {"strides": (1, 2)},
    "dilation": {"dilation_rate": 2},
    "groups": {"groups": 2},
    "no bias": {"use_bias": False},
    "1x1": {"kernel_size": 1},
    "uneven kernel": {"kernel_size": (1, 3)},
}


@pytest.mark.parametrize("arguments", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_conv2d(arguments):
    check_folds(sequence((7, 8, 4), layers.Conv2D(6, **({"kernel_size": 3} | arguments)), layers.BatchNormalization()))


DEPTHWISE = {
    "valid": {},
    "same": {"padding": "same"},
    "strides": {"strides": 2, "padding": "same"},
    "dilation": {"dilation_rate": 2},
    "depth multiplier": {"depth_multiplier": 2},
    "depth multiplier without bias": {"depth_multiplier": 3, "use_bias": False},
    "no bias": {"use_bias": False},
}


@pytest.mark.parametrize("arguments", DEPTHWISE.values(), ids=DEPTHWISE)
def test_depthwise_conv2d(arguments):
    check_folds(sequence((7, 8, 4), layers.DepthwiseConv2D(3, **arguments), layers.BatchNormalization()))


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (3, 6)], ids=["vectors", "sequences"])
def test_dense(shape, use_bias):
    check_folds(sequence(shape, layers.Dense(5, use_bias=use_bias), layers.BatchNormalization()))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_batch_norm_without_scale_or_center(center, scale, epsilon):
    norm = layers.BatchNormalization(center=center, scale=scale, epsilon=epsilon)
    check_folds(sequence((5, 5, 3), layers.Conv2D(4, 3), norm))


def test_batch_norm_that_names_the_last_axis():
    check_folds(sequence((5, 5, 3), layers.Conv2D(4, 3), layers.BatchNormalization(axis=3)))


def test_batch_norm_over_another_axis_is_refused():
    """One gain per row of the picture is no gain per channel; as many rows as channels hides the mistake."""
    model = randomize(sequence((4, 4, 3), layers.Conv2D(4, 1), layers.BatchNormalization(axis=1, name="rows")))
    assert "'rows'" in refusal(fold_batch_norm, model)


def test_folded_weights_follow_the_formula():
    """Kernel * g and (bias - mean) * g + beta, g = gamma / sqrt(variance + epsilon), written out in float64."""
    conv, norm = layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(epsilon=0.01)
    folded = fold_batch_norm(randomize(sequence((5, 5, 3), conv, norm)))
    kernel, bias = (np.asarray(weight, np.float64) for weight in conv.get_weights())
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in norm.get_weights())
    gain = gamma / np.sqrt(variance + 0.01)
    found_kernel, found_bias = folded.get_layer("conv").get_weights()
    np.testing.assert_array_max_ulp(found_kernel, (kernel * gain).astype(np.float32), WEIGHT_ULPS)
    np.testing.assert_array_max_ulp(found_bias, ((bias - mean) * gain + beta).astype(np.float32), WEIGHT_ULPS)


def test_folded_depthwise_weights_follow_the_formula():
    conv, norm = layers.DepthwiseConv2D(3, depth_multiplier=2, name="conv"), layers.BatchNormalization()
    folded = fold_batch_norm(randomize(sequence((5, 5, 3), conv, norm)))
    kernel = np.asarray(conv.get_weights()[0], np.float64)
    gamma, _, _, variance = (np.asarray(weight, np.float64) for weight in norm.get_weights())
    gain = gamma / np.sqrt(variance + 1e-3)
    expected = np.empty(kernel.shape, np.float32)
    for channel in range(3):
        for multiple in range(2):  # output channel = input channel * depth_multiplier + multiple
            expected[:, :, channel, multiple] = kernel[:, :, channel, multiple] * gain[channel * 2 + multiple]
    np.testing.assert_array_max_ulp(folded.get_layer("conv").get_weights()[0], expected, WEIGHT_ULPS)


def test_weights_without_batch_norm_are_carried_over_bit_for_bit():
    model = randomize(sequence((5, 5, 2), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)))
    np.testing.assert_equal(fold_batch_norm(model).get_weights(), model.get_weights())


def test_missing_bias_becomes_zero():
    model = randomize(sequence((4,), layers.Dense(3, use_bias=False, name="dense")))
    kernel, bias = fold_batch_norm(model).get_layer("dense").get_weights()
    np.testing.assert_array_equal(kernel, model.get_weights()[0])
    np.testing.assert_array_equal(bias, np.zeros(3, np.float32))


@pytest.mark.parametrize("activation", ["relu", "relu6", "sigmoid", "softmax", "swish", "silu"])
def test_activation_inside_a_layer_becomes_a_layer(activation):
    folded = check_folds(sequence((4, 4, 2), layers.Conv2D(3, 3, activation=activation, name="conv")))
    assert len(folded.layers) == 3
    assert folded.layers[-1].name == f"conv_{'silu' if activation == 'swish' else activation}"


def test_activation_layers_are_kept():
    stack = [layers.Conv2D(4, 1), layers.BatchNormalization(), layers.ReLU(max_value=6.0, name="clipped")]
    stack += [layers.Dense(4), layers.Activation("swish", name="swish"), layers.Softmax(name="softmax")]
    folded = check_folds(sequence((4, 4, 2), *stack))
    assert [layer.name for layer in folded.layers][2:] == ["clipped", stack[3].name, "swish", "softmax"]


def test_layer_names_and_order_stay():
    model = sequence(
        (8, 8, 2), layers.Conv2D(3, 3, name="stem"), layers.BatchNormalization(name="stem_bn"), layers.ReLU(name="r")
    )
    folded = check_folds(model)
    assert [layer.name for layer in folded.layers][1:] == ["stem", "r"]
    assert folded.name == model.name


def test_name_of_the_new_activation_may_be_taken():
    check_folds(sequence((4,), layers.Dense(3, activation="relu", name="dense"), layers.Dense(3, name="dense_relu")))


def test_deep_sequential_with_pooling_flatten_and_dropout():
    check_folds(
        sequence(
            (8, 8, 3),
            layers.ZeroPadding2D(1),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SpatialDropout2D(0.5),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.MaxPooling2D(),
            layers.Dropout(0.5),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        )
    )


def test_sequential_that_was_built_without_an_input_layer():
    model = keras.Sequential([layers.Dense(4), layers.BatchNormalization()])
    model.build((None, 3))
    check_folds(model)


def conv_bn(x: keras.KerasTensor, filters: int, kernel_size: int = 3) -> keras.KerasTensor:
    return layers.BatchNormalization()(layers.Conv2D(filters, kernel_size, padding="same")(x))


def test_residual_adds():
    inputs = keras.Input((6, 6, 3))
    x = layers.ReLU()(conv_bn(inputs, 4))
    x = layers.ReLU()(layers.Add()([conv_bn(x, 4), x]))
    x = layers.Add()([conv_bn(x, 5), conv_bn(x, 5, kernel_size=1)])
    check_folds(keras.Model(inputs, x))


def test_squeeze_and_excitation():
    inputs = keras.Input((6, 6, 4))
    x = layers.Activation("swish")(conv_bn(inputs, 4))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(2, 1, activation="swish")(gate)
    gate = layers.Conv2D(4, 1, activation="sigmoid")(gate)
    x = layers.Add()([conv_bn(layers.Multiply()([x, gate]), 4), inputs])
    check_folds(keras.Model(inputs, x))


def test_multiply_by_itself():
    inputs = keras.Input((4,))
    x = layers.Dense(4)(inputs)
    check_folds(keras.Model(inputs, layers.Multiply()([x, x])))


def test_several_inputs_keep_their_order():
    first, second = keras.Input((4, 4, 2), name="first"), keras.Input((4, 4, 2), name="second")
    # The walk from the output meets the second input first.
    x = layers.Concatenate()([conv_bn(second, 3), conv_bn(first, 3)])
    folded = check_folds(keras.Model([first, second], x))
    assert [tensor.name for tensor in folded.inputs] == ["first", "second"]


def test_several_outputs_keep_their_order():
    inputs = keras.Input((4, 4, 2))
    x = conv_bn(inputs, 3)
    check_folds(keras.Model(inputs, [layers.Dense(2)(x), layers.ReLU()(x), x]))


def test_output_that_others_read_on():
    inputs = keras.Input((4,))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(3)(inputs)))
    check_folds(keras.Model(inputs, [x, layers.Dense(2)(x)]))


def test_input_that_two_layers_share():
    inputs = keras.Input((4, 4, 2))
    check_folds(keras.Model(inputs, layers.Add()([conv_bn(inputs, 3), conv_bn(inputs, 3, kernel_size=1)])))


def test_input_that_nothing_reads():
    used, unused = keras.Input((4,), name="used"), keras.Input((3,), name="unused")
    check_folds(keras.Model([used, unused], layers.BatchNormalization()(layers.Dense(2)(used))))


def test_layer_called_twice_keeps_shared_weights():
    inputs = keras.Input((4,))
    dense, relu = layers.Dense(4, name="shared"), layers.ReLU(name="relu")
    folded = check_folds(keras.Model(inputs, relu(dense(relu(dense(inputs))))))
    assert [layer.name for layer in folded.layers if layer.name == "shared"] == ["shared"]
    assert len(folded.weights) == 2


def test_layer_with_an_activation_called_twice():
    inputs = keras.Input((4,))
    dense = layers.Dense(4, activation="relu", name="shared")
    assert len(check_folds(keras.Model(inputs, dense(dense(inputs)))).weights) == 2


def test_siamese_inputs():
    left, right = keras.Input((4, 4, 2)), keras.Input((4, 4, 2))
    tower = layers.Conv2D(3, 3)
    check_folds(keras.Model([left, right], layers.Add()([tower(left), tower(right)])))


def test_dropout_still_drops_in_training_only():
    folded = check_folds(sequence((64,), layers.Dense(64), layers.Dropout(0.5, seed=1)))
    outputs = np.asarray(folded(noise(folded), training=True))
    assert 0.3 < np.mean(outputs == 0.0) < 0.7


def test_regularizers_constraints_and_trainable_stay():
    dense = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.25), kernel_constraint="non_neg", name="dense")
    dense.trainable = False
    copy = fold_batch_norm(sequence((4,), dense)).get_layer("dense")
    assert copy.kernel_regularizer.l2 == 0.25
    assert isinstance(copy.kernel_constraint, keras.constraints.NonNeg)
    assert not copy.trainable


def test_folding_twice_changes_nothing():
    model = check_folds(sequence((5, 5, 2), layers.Conv2D(3, 3, activation="relu"), layers.Conv2D(2, 1)))
    again = fold_batch_norm(model)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    np.testing.assert_equal(again.get_weights(), model.get_weights())


def functional(build: Callable[[keras.KerasTensor], keras.KerasTensor], shape: tuple[int, ...] = (4, 4, 3)):
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, build(inputs))


def check_becomes_depthwise(model: keras.Model) -> None:
    """A BatchNormalization that folds into no layer beside it is a depthwise convolution of its own."""
    assert isinstance(check_folds(model).get_layer("norm"), layers.DepthwiseConv2D)


def test_batch_norm_after_add():
    def build(x):
        return layers.BatchNormalization(name="norm")(layers.Add(name="sum")([layers.Conv2D(3, 1)(x), x]))

    check_becomes_depthwise(functional(build))


def test_batch_norm_after_an_activation_layer():
    stack = [layers.Conv2D(3, 1), layers.ReLU(name="relu"), layers.BatchNormalization(name="norm")]
    check_becomes_depthwise(sequence((4, 4, 3), *stack))


def test_batch_norm_after_a_layer_with_an_activation_inside():
    stack = [layers.Conv2D(3, 1, activation="relu", name="conv"), layers.BatchNormalization(name="norm")]
    check_becomes_depthwise(sequence((4, 4, 3), *stack))


def test_batch_norm_on_the_input():
    check_becomes_depthwise(functional(layers.BatchNormalization(name="norm")))


def test_batch_norm_after_pooling():
    stack = [layers.Conv2D(3, 1), layers.MaxPooling2D(name="pool"), layers.BatchNormalization(name="norm")]
    check_becomes_depthwise(sequence((4, 4, 3), *stack))


def test_batch_norm_before_a_padded_convolution():
    """Padding is zeros of what was normalized: no bias of the convolution stands for them."""
    stack = [layers.BatchNormalization(name="norm"), layers.Conv2D(3, 3, padding="same")]
    check_becomes_depthwise(sequence((4, 4, 3), *stack))


@pytest.mark.parametrize(
    "layer",
    [layers.Conv2D(5, 2), layers.DepthwiseConv2D(2, depth_multiplier=2), layers.Dense(2, use_bias=False)],
    ids=lambda layer: layer.__class__.__name__,
)
def test_batch_norm_folds_forwards_where_that_is_exact(layer):
    stack = [layers.ReLU(), layers.BatchNormalization(name="norm"), layer]
    folded = check_folds(sequence((4, 4, 3), *stack))
    assert not [one for one in folded.layers if one.name == "norm"]


def test_batch_norm_twice():
    stack = [layers.Dense(3), layers.BatchNormalization(name="first"), layers.BatchNormalization(name="norm")]
    check_becomes_depthwise(sequence((4,), *stack))


def test_batch_norm_beside_another_reader():
    def build(x):
        x = layers.Conv2D(3, 1, name="conv")(x)
        return layers.Add()([layers.BatchNormalization(name="norm")(x), x])

    check_becomes_depthwise(functional(build))


def test_batch_norm_beside_a_model_output():
    """Whoever reads the output gets the convolution, not the normalized one."""
    inputs = keras.Input((4, 4, 3))
    conv = layers.Conv2D(3, 1, name="conv")(inputs)
    check_becomes_depthwise(keras.Model(inputs, [conv, layers.BatchNormalization(name="norm")(conv)]))


def test_batch_norm_after_a_shared_layer():
    inputs = keras.Input((4,))
    dense = layers.Dense(4, name="dense")
    check_becomes_depthwise(keras.Model(inputs, layers.BatchNormalization(name="norm")(dense(dense(inputs)))))


def test_shared_batch_norm():
    inputs = keras.Input((4,))
    norm = layers.BatchNormalization(name="norm")
    model = keras.Model(inputs, layers.Add()([norm(layers.Dense(4)(inputs)), norm(layers.Dense(4)(inputs))]))
    check_becomes_depthwise(model)


def test_batch_norm_over_another_axis_than_the_last():
    message = refusal(fold_batch_norm, sequence((4, 4, 3), layers.BatchNormalization(axis=1, name="norm")))
    assert "'norm' must normalize the last axis" in message and "axis=1" in message


def test_nested_model():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization()], name="inner")
    check_folds(sequence((4,), inner, layers.Dense(2)))


def test_subclassed_model():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    message = refusal(fold_batch_norm, Subclassed(name="own"))
    assert "'own'" in message and "must be a functional model or a built Sequential" in message


def test_unbuilt_sequential():
    message = refusal(fold_batch_norm, keras.Sequential([layers.Dense(3)], name="unbuilt"))
    assert "'unbuilt'" in message and "must be a functional model or a built Sequential" in message


UNSUPPORTED = {
    "Lambda": ((4,), lambda: layers.Lambda(lambda x: 2 * x, name="odd")),
    "Conv3D": ((4, 4, 4, 3), lambda: layers.Conv3D(2, 3, name="odd")),
    "LayerNormalization": ((4,), lambda: layers.LayerNormalization(name="odd")),
    "Embedding": ((4,), lambda: layers.Embedding(3, 2, name="odd")),
}


@pytest.mark.parametrize("class_name", UNSUPPORTED)
def test_unsupported_layer(class_name):
    shape, layer = UNSUPPORTED[class_name]
    message = refusal(fold_batch_norm, sequence(shape, layer()))
    assert f"'odd' ({class_name}) cannot be quantized" in message
    if class_name == "Conv3D":
        assert "Replace it by supported layers: Conv2D, DepthwiseConv2D, Dense" in message


@pytest.mark.parametrize("layer", [layers.Dense, layers.Activation])
def test_unknown_activation(layer):
    name = "log_softmax"
    stack = layers.Dense(3, activation=name, name="odd") if layer is layers.Dense else layer(name, name="odd")
    message = refusal(fold_batch_norm, sequence((3,), stack))
    assert "'odd'" in message and "one of linear, relu, relu6, silu, sigmoid, softmax" in message
    assert f"'{name}'" in message


@pytest.mark.parametrize("operator", [lambda a, b: a + b, lambda a, b: a * b, keras.ops.subtract])
def test_operator_instead_of_a_layer(operator):
    inputs = keras.Input((4,))
    check_folds(keras.Model(inputs, operator(layers.Dense(4)(inputs), inputs)))


def test_operator_that_no_layer_stands_for():
    inputs = keras.Input((4,))
    tensor = keras.ops.cumsum(inputs)
    name = tensor._keras_history.operation.name
    message = refusal(fold_batch_norm, keras.Model(inputs, tensor))
    assert f"'{name}'" in message and "must be one of Absolute, Add, AveragePool, Clip, Concatenate" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["kernel", "bias"])
def test_weights_that_are_not_finite(part, value):
    model = randomize(sequence((4, 4, 2), layers.Conv2D(3, 3, name="sick"), layers.BatchNormalization()))
    variable = getattr(model.get_layer("sick"), part)
    values = variable.numpy()
    values.flat[1] = value
    variable.assign(values)
    message = refusal(fold_batch_norm, model)
    assert f"in the {part} of layer 'sick'" in message


@pytest.mark.parametrize("variable", ["gamma", "beta", "moving_mean", "moving_variance"])
def test_batch_norm_that_is_not_finite(variable):
    model = randomize(sequence((4, 4, 2), layers.Conv2D(3, 3, name="sick"), layers.BatchNormalization(name="norm")))
    getattr(model.get_layer("norm"), variable).assign([1.0, np.nan, 1.0])
    assert "'sick'" in refusal(fold_batch_norm, model)


def test_negative_variance_is_not_folded_into_nan():
    model = randomize(sequence((4,), layers.Dense(3, name="sick"), layers.BatchNormalization(name="norm")))
    model.get_layer("norm").moving_variance.assign([1.0, -2.0, 1.0])
    with np.errstate(invalid="ignore"):
        assert "'sick'" in refusal(fold_batch_norm, model)


def test_the_ends_of_a_network_are_found_behind_what_only_moves_its_values():
    image, number = keras.Input((4, 4, 1), name="image"), keras.Input((3,), name="number")
    x = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(layers.Reshape((4, 4, 1))(image)))
    joined = layers.Concatenate()([layers.Dense(3, name="hidden")(x), number])
    scores = layers.Softmax()(layers.Reshape((2,))(layers.Dense(2, name="scores")(joined)))
    network = fold(keras.Model([image, number], [scores, joined]))
    ends = {placed.slot.layer for placed in network.slots if placed.slot.name in network.io_slots}
    inner = {placed.slot.layer for placed in network.slots} - ends
    assert {"image", "number", "scores"} < ends and {"conv", "hidden"} == inner
