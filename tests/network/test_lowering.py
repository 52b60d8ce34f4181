"""Layers outside the core: each is lowered to layers that compute the same, and goes all the way to C."""

import functools

import keras
import numpy as np
import pytest
from frozen_networks import frozen, noise
from keras import layers, ops
from refusals import refusal

from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.reference import compare
from po2quant.export.c.run import run_c
from po2quant.export.c.source import write_c
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.network import fold
from po2quant.network.kinds import find_kind
from po2quant.network.lowering import obstacles_of

IMAGE, SEQUENCE, VECTOR = (6, 5, 4), (7, 4), (6,)
TOLERANCE = 1e-5
"""Largest difference of the lowered float model, relative to the largest output: the order of float32 sums."""


def randomize(model, seed=0):
    """Give every weight a value that makes it matter."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        low, high = (0.5, 1.5) if "variance" in variable.name else (-0.7, 0.7)
        if variable.dtype.startswith("float"):
            variable.assign(rng.uniform(low, high, variable.shape))
    return model


def functional(shape, build):
    x = keras.Input(shape, name="x")
    return keras.Model(x, build(x))


def chain(*stack):
    def build(x):
        for layer in stack:
            x = layer(x)
        return x

    return build


def conv(*arguments, **options):
    return layers.Conv2D(4, 1, *arguments, **options)


def nested(x):
    def block(x):
        inner = keras.Input(x.shape[1:])
        y = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 1, name="conv")(inner))
        return keras.Model(inner, layers.Add(name="sum")([inner, layers.ReLU(name="relu")(y)]))(x)

    return layers.GlobalAveragePooling2D()(block(block(conv()(x))))


def twice(x):
    """One inner model on two tensors, as in a siamese network."""
    inner = keras.Sequential([keras.Input((6, 5, 2)), conv(), layers.BatchNormalization(), layers.ReLU()])
    left, right = ops.split(x, 2, axis=-1)
    return layers.Subtract()([inner(left), inner(right)])


def shuffled(x):
    """The channel shuffle of ShuffleNet."""
    y = ops.reshape(x, (-1, 6, 5, 2, 2))
    return conv()(ops.reshape(ops.transpose(y, (0, 1, 2, 4, 3)), (-1, 6, 5, 4)))


def operators(x):
    y = conv()(x)
    y = ops.relu(y * 0.5 + 1.0 - y) * ops.sigmoid(y)
    y = ops.concatenate([y[:, 1:5, ::2], -y[:, :4, :3]], axis=-1)
    return ops.mean(ops.maximum(y, 0) / 2.0, axis=(1, 2))


def gate(x):
    y = conv()(x)
    return layers.Multiply()([y, layers.Dense(4, activation="hard_sigmoid")(layers.GlobalAveragePooling2D()(y))])


def dense_net(x):
    y = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Concatenate()([x, layers.Conv2D(2, 3, padding="same")(y)])
    return layers.Conv2D(3, 1)(layers.BatchNormalization()(y))


def pair(layer_class):
    return lambda x: layer_class()([layers.Dense(4)(x), layers.Dense(4)(x)])


MODELS = {
    "nested models with equal names": (IMAGE, nested),
    "one inner model called twice": (IMAGE, twice),
    "operators": (IMAGE, operators),
    "channel shuffle": (IMAGE, shuffled),
    "Conv1D": (
        SEQUENCE,
        chain(
            layers.Conv1D(6, 3, 2, "same"),
            layers.BatchNormalization(axis=2),
            layers.ReLU(),
            layers.Conv1D(4, 2, dilation_rate=2, padding="causal", activation="tanh"),
            layers.MaxPooling1D(2),
            layers.Flatten(),
            layers.Dense(3),
        ),
    ),
    "DepthwiseConv1D": (SEQUENCE, chain(layers.DepthwiseConv1D(3, 2, "same", depth_multiplier=2))),
    "SeparableConv1D": (SEQUENCE, chain(layers.SeparableConv1D(5, 3, 2, "same", depth_multiplier=2))),
    "Conv1DTranspose": (SEQUENCE, chain(layers.Conv1DTranspose(3, 3, 2, "same"))),
    "1D": (
        SEQUENCE,
        chain(
            layers.ZeroPadding1D((2, 1)),
            layers.SpatialDropout1D(0.3),
            layers.AveragePooling1D(3, 2, "same"),
            layers.Cropping1D((1, 0)),
            layers.UpSampling1D(2),
            layers.GlobalMaxPooling1D(),
        ),
    ),
    "GlobalAveragePooling1D": (SEQUENCE, chain(layers.Dense(5), layers.GlobalAveragePooling1D(), layers.Dense(2))),
    "SeparableConv2D": (IMAGE, chain(layers.SeparableConv2D(5, 3, 2, "same", activation="relu"))),
    "Conv2DTranspose same": (IMAGE, chain(layers.Conv2DTranspose(3, 3, 2, "same", activation="relu"))),
    "Conv2DTranspose valid": (IMAGE, chain(layers.Conv2DTranspose(3, (2, 3), (3, 1)))),
    "Conv2DTranspose without overlap": (IMAGE, chain(layers.Conv2DTranspose(2, 2, 2))),
    "Conv2DTranspose even": (IMAGE, chain(layers.Conv2DTranspose(2, 4, 2, "same", use_bias=False))),
    "BatchNormalization first, and over a vector": (
        VECTOR,
        chain(layers.BatchNormalization(), layers.ReLU(), layers.BatchNormalization(), layers.Dense(3)),
    ),
    "BatchNormalization before a padded convolution": (
        IMAGE,
        chain(layers.BatchNormalization(), layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()),
    ),
    "BatchNormalization after an activation inside": (
        IMAGE,
        chain(conv(activation="relu"), layers.BatchNormalization(), layers.DepthwiseConv2D(2, depth_multiplier=2)),
    ),
    "BatchNormalization over a sequence": (SEQUENCE, chain(layers.BatchNormalization(), layers.ReLU())),
    "BatchNormalization of a dense net": (IMAGE, dense_net),
    "Rescaling of an input": (IMAGE, chain(layers.Rescaling(1 / 127.5, -1), layers.Conv2D(3, 3, 2, "same"))),
    "Rescaling before a convolution": (IMAGE, chain(layers.Rescaling(1 / 255), layers.Conv2D(3, 3))),
    "Rescaling of channels": (VECTOR, chain(layers.Rescaling([1.0, 2, 3, 4, 5, 6], 0.5), layers.ReLU())),
    "Normalization": (
        VECTOR,
        chain(layers.Normalization(mean=np.arange(6.0), variance=np.arange(1.0, 7)), layers.Dense(3)),
    ),
    "Normalization by numbers": (
        VECTOR,
        chain(layers.Normalization(mean=0.5, variance=4.0, axis=None), layers.ReLU()),
    ),
    "noise": (
        IMAGE,
        chain(
            layers.GaussianNoise(0.2),
            layers.RandomFlip(),
            conv(),
            layers.GaussianDropout(0.2),
            layers.ActivityRegularization(0.1),
            layers.AlphaDropout(0.2),
        ),
    ),
    "Permute": (IMAGE, chain(layers.Permute((3, 1, 2)), conv())),
    "RepeatVector": (VECTOR, chain(layers.RepeatVector(3), layers.Conv1D(2, 2))),
    "Cropping2D and UpSampling2D": (IMAGE, chain(layers.Cropping2D(((1, 2), (0, 1))), layers.UpSampling2D((2, 3)))),
    "Resizing": (IMAGE, chain(conv(), layers.Resizing(12, 15, "nearest"))),
    "Subtract": (VECTOR, pair(layers.Subtract)),
    "Average": (VECTOR, pair(layers.Average)),
    "Maximum": (VECTOR, pair(layers.Maximum)),
    "Minimum": (VECTOR, pair(layers.Minimum)),
    "a gate of one vector": (IMAGE, gate),
    "PReLU": (IMAGE, chain(conv(), layers.PReLU(shared_axes=[1, 2]))),
    "LeakyReLU": (VECTOR, chain(layers.Dense(4), layers.LeakyReLU(0.1))),
    "LeakyReLU inside": (VECTOR, chain(layers.Dense(4, activation=layers.LeakyReLU(0.1)))),
    "ELU": (VECTOR, chain(layers.Dense(4), layers.ELU(0.5))),
    "ReLU with a limit": (VECTOR, chain(layers.Dense(4), layers.ReLU(1.0))),
    "ReLU with a slope and a threshold": (VECTOR, chain(layers.Dense(4), layers.ReLU(2.0, 0.1, 0.25))),
    "softmax before Flatten": (
        IMAGE,
        chain(layers.GlobalAveragePooling2D(keepdims=True), layers.Softmax(), layers.Flatten()),
    ),
    "softmax inside before Reshape": (IMAGE, chain(conv(activation="softmax"), layers.Reshape((-1, 4)))),
    "softmax inside a Conv1D": (SEQUENCE, chain(layers.Conv1D(3, 2, activation="softmax"))),
    "softmax over the last of four axes": (IMAGE, chain(conv(), layers.Softmax(axis=3))),
}
FUNCTIONS = ("tanh", "elu", "selu", "gelu", "mish", "softplus", "softsign", "exponential", "hard_sigmoid", "hard_silu")
MODELS |= {name: (VECTOR, chain(layers.Dense(4, activation=name), layers.Dense(3))) for name in FUNCTIONS}


@functools.cache
def model_of(name):
    """The model of a name, which all tests share: each gives it weights."""
    return functional(*MODELS[name])


def samples(model, count=8, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(0.3, 1.0, (count, *x.shape[1:])).astype(np.float32) for x in model.inputs]


def outputs(model, x):
    return np.asarray(model(x, training=False))


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_is_lowered_to_computes_the_same(name):
    model = randomize(model_of(name))
    network, x = fold(model), samples(model)
    assert all(find_kind(node.layer) is not None for node in network.graph.nodes)
    assert obstacles_of(model) == []
    first = outputs(model, x)
    np.testing.assert_allclose(outputs(network.model, x), first, rtol=0, atol=TOLERANCE * np.abs(first).max())
    randomize(model, seed=1)
    network.take_weights()
    second = outputs(model, x)
    assert not model.weights or not np.array_equal(first, second)
    np.testing.assert_allclose(outputs(network.model, x), second, rtol=0, atol=TOLERANCE * np.abs(second).max())


COMPILED = ("nested models with equal names", "operators", "Conv1D", "a gate of one vector", "PReLU", "Minimum")
DEPLOYED = (
    *COMPILED,
    "channel shuffle",
    "one inner model called twice",
    "SeparableConv1D",
    "Conv2DTranspose same",
    "BatchNormalization of a dense net",
    "Rescaling of an input",
    "Normalization",
    "Permute",
    "Cropping2D and UpSampling2D",
    "Subtract",
    "ReLU with a slope and a threshold",
    "softmax before Flatten",
    "softmax inside before Reshape",
    "softmax inside a Conv1D",
    *FUNCTIONS,
)


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_lowered_model_goes_all_the_way(name, tmp_path):
    """The integer program, Keras in float64 and C have the same integers in every tensor."""
    quantized = frozen(randomize(model_of(name)))
    program, x = integer_program(quantized), noise(quantized, 8)
    assert compare(program, quantized, x).mismatches == 0
    if name in COMPILED:
        integers = quantize_inputs(program, x)
        found, expected = (
            run_c(write_c(program, tmp_path, "net"), integers, tmp_path, trace=True),
            run(program, integers),
        )
        for tensor in expected:
            np.testing.assert_array_equal(found[tensor], expected[tensor], tensor)


def test_dropout_that_is_always_on_means_inference():
    model = randomize(functional(VECTOR, lambda x: layers.Dense(2)(layers.Dropout(0.5)(x, training=True))))
    quantized = frozen(model)
    assert compare(integer_program(quantized), quantized, noise(quantized, 8)).mismatches == 0


def test_layers_that_are_called_like_quantizers_get_other_free_names():
    stack = [layers.ReLU(name="activation"), layers.ReLU(name="activation_function"), layers.Dense(2)]
    names = [layer.name for layer in frozen(randomize(functional(VECTOR, chain(*stack)))).layers]
    assert {"activation", "activation_function", "activation_function_1"} <= set(names)


def obstacle_course():
    def build(x):
        y = layers.LayerNormalization(name="layer_norm")(layers.Conv2D(4, 1)(x))
        y = layers.Conv2D(4, 1, activation="log_softmax", name="odd_activation")(y)
        y = layers.UpSampling2D(interpolation="bilinear", name="up")(y)
        y = ops.cumsum(layers.Dropout(0.1)(y), axis=1)
        return layers.GlobalAveragePooling2D(name="mean")(y)

    return functional(IMAGE, build)


def test_all_obstacles_are_named_at_once():
    model = obstacle_course()
    found = {obstacle.layer: obstacle for obstacle in obstacles_of(model)}
    operator = next(name for name in found if "cumsum" in name)
    assert set(found) == {"layer_norm", "odd_activation", "up", operator}
    assert found["layer_norm"].class_name == "LayerNormalization" and "BatchNormalization" in found["layer_norm"].reason
    assert "nearest" in found["up"].reason and "'log_softmax'" in found["odd_activation"].reason
    message = refusal(fold, model)
    assert message.startswith("4 layers cannot be quantized: ")
    assert all(repr(name) in message for name in found)


REFUSED = {
    "a softmax in the middle": (IMAGE, chain(layers.Softmax(name="odd"), layers.Conv2D(2, 1)), "must be the last"),
    "a softmax over another axis": (IMAGE, chain(layers.Softmax(axis=1, name="odd")), "over the last axis"),
    "a softmax that is spread": (IMAGE, chain(layers.Softmax(name="odd"), layers.Flatten()), "must be the last"),
    "open shapes": ((None, None, 3), chain(layers.Conv2D(2, 1), layers.GlobalMaxPooling2D()), "fixed shape"),
    "channels first": (IMAGE, chain(layers.MaxPooling2D(data_format="channels_first", name="odd")), "channels last"),
    "slopes of each pixel": (IMAGE, chain(layers.PReLU(name="odd")), "shared_axes=[1, 2]"),
    "dilated transposed": (IMAGE, chain(layers.Conv2DTranspose(2, 3, dilation_rate=2, name="odd")), "dilated"),
    "attention": (SEQUENCE, lambda x: layers.MultiHeadAttention(1, 2, name="odd")(x, x), "not supported yet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_lowered_is_refused_before_any_work(case):
    shape, build, reason = REFUSED[case]
    model = functional(shape, build)
    message = refusal(fold, model)
    assert reason in message and message.isprintable()
    assert len(obstacles_of(model)) == 1
    if case != "open shapes":
        assert "'odd'" in message


def test_a_model_of_another_keras_is_refused_in_one_sentence():
    class Model:
        __module__ = "tf_keras.src.engine.functional"

    message = refusal(fold, Model())
    assert "save it as .h5" in message and "tf_keras" in message
    assert [str(obstacle) for obstacle in obstacles_of(Model())] != []
