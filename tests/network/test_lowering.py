"""Layers outside the core: each is lowered to layers that compute the same, and goes all the way to C."""

import functools

import keras
import numpy as np
import pytest
from frozen_networks import frozen, noise
from keras import layers, ops
from lowered_networks import FUNCTIONS, IMAGE, MODELS, SEQUENCE, VECTOR, chain, conv, functional, shaped
from programs import run_c
from refusals import refusal

from benchmarks.studies.layers import example
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.reference import compare
from po2quant.export.c.source import write_c
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.network import calibrate, fold, freeze_scales
from po2quant.network.kinds import find_kind
from po2quant.network.load import load_model
from po2quant.network.lowering import gone, obstacles_of

TOLERANCE = 1e-5
"""Largest difference of the lowered float model, relative to the largest output: the order of float32 sums."""


def randomize(model, seed=0):
    """Give every weight a value that makes it matter."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        low, high = (0.5, 1.5) if "variance" in variable.name else (-0.7, 0.7)
        if variable.name == "alpha" and np.max(variable) > 1:
            continue
        if variable.dtype.startswith("float"):
            variable.assign(rng.uniform(low, high, variable.shape))
    return model


@functools.cache
def model_of(name):
    """The model of a name, which all tests share: each gives it weights."""
    return functional(*MODELS[name])


def samples(model, count=8, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(0.3, 1.0, (count, *x.shape[1:])).astype(np.float32) for x in model.inputs]


def outputs(model, x):
    """All outputs of a model, one after the other."""
    outputs = model(x if len(x) > 1 else x[0], training=False)
    return np.concatenate([np.ravel(y) for y in keras.tree.flatten(outputs)])


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
    "shapes and places",
    "sizes",
    "reductions over any axes",
    "limits",
    "broadcasting",
    "causal and dilated steps",
    "approximate gelu",
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
            run_c(write_c(program, tmp_path, "net"), integers, tmp_path, trace=True, flags=("-O0",)),
            run(program, integers),
        )
        for tensor in expected:
            np.testing.assert_array_equal(found[tensor], expected[tensor], tensor)


def test_a_network_of_dictionaries_takes_and_gives_dictionaries(tmp_path):
    ends = {"second": keras.Input((4,), name="second"), "first": keras.Input((3,), name="first")}
    y = layers.Concatenate()([layers.Dense(2)(x) for x in ends.values()])
    model = randomize(keras.Model(ends, {"sum": layers.Dense(1)(y), "class": layers.Dense(3, activation="softmax")(y)}))
    x = {key: np.random.default_rng(0).normal(size=(8, *end.shape[1:])) for key, end in ends.items()}
    network = fold(model)
    for key, values in network.model(x).items():
        np.testing.assert_allclose(values, model(x)[key], rtol=0, atol=TOLERANCE)
    quantized = network.quantize(network.flat(8))
    calibrate(quantized, x)
    freeze_scales(quantized)
    assert quantized(x).keys() == {"sum", "class"}
    program = integer_program(quantized)
    assert compare(program, quantized, x).mismatches == 0
    assert [program.tensor[name].shape for name in program.inputs] == [(3,), (4,)]
    assert "second" in refusal(calibrate, quantized, {"second": x["second"]})
    quantized.save(tmp_path / "quantized.keras")
    for name, value in load_model(tmp_path / "quantized.keras")(x).items():
        np.testing.assert_array_equal(value, quantized(x)[name])


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "mixed_bfloat16"])
def test_a_network_in_16_bits_is_read_as_float32(policy):
    def build():
        return functional(IMAGE, chain(conv(), layers.BatchNormalization(), lambda x: ops.mean(x * 2.0, axis=(1, 2))))

    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        half = randomize(build())
        quantized = frozen(half)
        network = fold(half)
        assert obstacles_of(half) == []
    finally:
        keras.config.set_dtype_policy(before)
    full = build()
    full.set_weights(half.get_weights())
    x = samples(full)
    np.testing.assert_allclose(outputs(network.model, x), outputs(full, x), rtol=0, atol=1e-5)
    assert {layer.compute_dtype for layer in network.model.layers} == {"float32"}
    assert compare(integer_program(quantized), quantized, noise(quantized, 8)).mismatches == 0


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_a_file_of_slices_and_operators_is_lowered_as_the_model_that_it_was_saved_of(file, tmp_path):
    model = randomize(functional(IMAGE, lambda x: shaped(x[:, ::-1, ..., :4])[:, 1:, -1]))
    model.save(tmp_path / file)
    loaded, x = load_model(tmp_path / file), samples(model)
    assert obstacles_of(loaded) == []
    np.testing.assert_array_equal(outputs(fold(loaded).model, x), outputs(fold(model).model, x))


@pytest.mark.parametrize("layer", gone.EXPANSIONS)
def test_layers_that_go_do_nothing_in_inference(layer):
    model = example(layer.__name__, layer)
    x = np.random.default_rng(0).uniform(-3.0, 300.0, (2, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_array_equal(model(x, training=False), x)
    assert obstacles_of(model) == []


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
    "a fraction of a size": (IMAGE, chain(layers.Resizing(9, 5, "nearest", name="odd")), "multiple or part"),
    "a convolution at each step": (
        (3, 6, 5, 4),
        chain(layers.TimeDistributed(layers.Conv2D(2, 1), name="odd")),
        "Dense, Flatten, Reshape",
    ),
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
