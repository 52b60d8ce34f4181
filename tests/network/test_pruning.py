"""A pruned network computes what the whole one does where its missing channels are zero."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from po2quant.deploy.from_keras import integer_program
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.network import calibrate, fold, freeze_scales
from po2quant.network.kinds import is_weighted, kernel_of
from po2quant.network.pruning import prune, weakest_channels

layers = keras.layers
COUPLED = {"first": ("first", "second", "depthwise"), "second": ("first", "second", "depthwise"), "side": ("side",)}
"""Layers of :func:`network` whose output channels are one, by the layer that is named."""


def network():
    """Return a network with a residual addition, a depthwise layer, a concatenation and a flattened end."""
    inputs = keras.Input((4, 5, 2), name="input")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    inner = layers.Conv2D(5, 1, activation="relu", name="inner")(x)
    x = layers.Add(name="add")([layers.Conv2D(6, 3, padding="same", name="second")(inner), x])
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=1, padding="same", name="depthwise")(x)
    side = layers.Conv2D(3, 2, padding="same", name="side")(inputs)
    x = layers.Concatenate(name="concatenate")([x, side])
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(2, name="pool")(x))
    return fold(keras.Model(inputs, layers.Dense(3, name="dense")(x), name="net"))


@pytest.fixture(scope="module")
def folded():
    return network()


def filled(folded, seed):
    """Give the network small integers, whose sums float32 holds exactly, and return inputs of such."""
    rng = np.random.default_rng(seed)
    for layer in folded.graph.weighted.values():
        layer.set_weights([rng.integers(-1, 2, weights.shape).astype("float32") for weights in layer.get_weights()])
    return rng.integers(-2, 3, (3, 4, 5, 2)).astype("float32")


def silenced(model, channels):
    """Return the network with the channels' kernels and biases zero in every layer that makes them."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name, places in channels.items():
        for member in COUPLED.get(name, (name,)):
            layer = copy.get_layer(member)
            kernel, bias = np.array(kernel_of(layer)), np.array(layer.bias)
            if member != "depthwise":
                kernel[..., places] = 0
            bias[places] = 0
            kernel_of(layer).assign(kernel)
            layer.bias.assign(bias)
    return copy


CHANNELS = st.fixed_dictionaries(
    {
        "first": st.lists(st.integers(0, 5), max_size=2),
        "second": st.lists(st.integers(0, 5), max_size=2),
        "inner": st.lists(st.integers(0, 4), max_size=4),
        "side": st.lists(st.integers(0, 2), max_size=2),
    }
)


@settings(max_examples=8, deadline=None)
@given(channels=CHANNELS, seed=st.integers(0, 100))
def test_a_pruned_network_computes_what_the_whole_one_does_with_zeros_in_the_place_of_its_channels(
    folded, channels, seed
):
    x = filled(folded, seed)
    channels = {name: sorted(set(places)) for name, places in channels.items()}

    small = prune(folded, channels)

    np.testing.assert_array_equal(small(x), silenced(folded.model, channels)(x))
    gone = len({*channels["first"], *channels["second"]})
    assert [small.get_layer(name).bias.shape[0] for name in COUPLED["first"]] == [6 - gone] * 3


def test_the_integer_program_of_a_pruned_network_has_narrower_kernels_and_the_same_integers(folded):
    x = filled(folded, 3)
    channels = {"inner": [0, 3], "side": [1], "second": [5]}
    programs = []
    for model in (silenced(folded.model, channels), prune(folded, channels)):
        quantized = fold(model).quantize(fold(model).flat(8))
        calibrate(quantized, x)
        freeze_scales(quantized)
        programs.append(integer_program(quantized))
    whole, small = programs

    results = [run(program, quantize_inputs(program, x)) for program in programs]

    output = small.outputs[0].tensor
    np.testing.assert_array_equal(results[1][output], results[0][whole.outputs[0].tensor])
    kernels = {
        operation.name: operation.kernel.integers.shape
        for operation in small.operations
        if hasattr(operation, "kernel")
    }
    assert (kernels["inner"], kernels["side"], kernels["second"]) == ((1, 1, 5, 3), (2, 2, 2, 2), (3, 3, 3, 5))


def test_a_network_without_pruned_channels_is_the_same(folded):
    x = filled(folded, 1)

    np.testing.assert_array_equal(prune(folded, {})(x), folded.model(x))


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"other": [0]}, r"a pruned layer must be one of first, .*dense\. Received: 'other'"),
        ({"inner": [5]}, r"channels of 'inner' must be integers from 0 to 4\. Received: 5"),
        ({"inner": [True]}, r"channels of 'inner' must be integers from 0 to 4\. Received: True"),
        ({"dense": [0]}, r"channels of 'dense' must stay, .*\. Received: 0"),
        ({"inner": range(5)}, r"layer 'inner' must keep one of its 5 channels\. Received: none"),
    ],
)
def test_a_channel_that_is_not_there_or_must_stay_is_refused(folded, channels, message):
    with pytest.raises(ValueError, match=message):
        prune(folded, channels)


def test_channels_stay_where_a_softmax_or_a_reshape_reads_them():
    inputs = keras.Input((4,), name="input")
    x = layers.Dense(6, name="reshaped")(inputs)
    x = layers.Flatten(name="flatten")(layers.Reshape((2, 3), name="reshape")(x))
    model = keras.Model(inputs, layers.Softmax(name="softmax")(layers.Dense(2, name="dense")(x)))

    for name in ("reshaped", "dense"):
        with pytest.raises(ValueError, match=f"channels of '{name}' must stay"):
            prune(fold(model), {name: [0]})


def test_the_weakest_channels_are_those_whose_products_are_small_and_leave_the_share_that_was_asked_for(folded):
    x = filled(folded, 2)
    inner = folded.model.get_layer("second")
    kernel = np.ones(inner.kernel.shape, "float32")
    kernel[:, :, [1, 4]] = 0  # what reads two channels of "inner"
    inner.kernel.assign(kernel)
    weights = sum(np.prod(kernel_of(layer).shape) for layer in folded.model.layers if is_weighted(layer))

    assert {1, 4} <= {*weakest_channels(folded, x, 0.5)["inner"]}
    for keep in (1.0, 0.7, 0.4):
        small = prune(folded, weakest_channels(folded, x, keep))
        left = sum(np.prod(kernel_of(layer).shape) for layer in small.layers if is_weighted(layer))
        assert left <= keep * weights
    assert weakest_channels(folded, x, 1.0) == {}


@pytest.mark.parametrize("keep", [0.0, 1.5, 0.001])
def test_a_share_that_cannot_be_kept_is_refused(folded, keep):
    with pytest.raises(ValueError, match=rf"keep must .*\. Received: keep={keep}"):
        weakest_channels(folded, filled(folded, 0), keep)


def test_convolutions_in_groups_keep_their_channels_and_others_are_pruned_around_them():
    inputs = keras.Input((4, 4, 2), name="input")
    x = layers.Conv2D(4, 1, name="before")(inputs)
    x = layers.Conv2D(4, 1, groups=2, name="grouped")(x)
    x = layers.Conv2D(6, 1, name="after")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    folded = fold(keras.Model(inputs, layers.Dense(2, name="dense")(x)))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype("float32")

    assert weakest_channels(folded, x, 0.7).keys() == {"after"}
    with pytest.raises(ValueError, match="channels of 'before' must stay"):
        prune(folded, {"before": [0]})
    assert prune(folded, {"after": [1, 2]})(x).shape == (2, 2)
