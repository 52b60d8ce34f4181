"""Where a network looks, of networks in which that is known."""

import keras
import numpy as np
import pytest

from benchmarks.fly_traits.grad_cam import grad_cam


@pytest.fixture(scope="module")
def network():
    """Logits are weighted means of the input's three channels over all places."""
    inputs = keras.Input((4, 5, 3))
    maps = keras.layers.Activation("linear", name="maps")(inputs)
    means = keras.layers.GlobalAveragePooling2D()(maps)
    logits = keras.layers.Dense(2, use_bias=False, name="traits_logits")(means)
    model = keras.Model(inputs, logits)
    model.get_layer("traits_logits").set_weights([np.array([[1.0, -1.0], [2.0, 0.0], [-0.5, 0.0]], np.float32)])
    return model


def test_heat_is_what_speaks_for_the_logit_at_each_place(network):
    x = np.random.default_rng(0).uniform(0, 1, (3, 4, 5, 3)).astype(np.float32)
    expected = np.maximum(x @ np.array([1.0, 2.0, -0.5]), 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(grad_cam(network, x, 0, "maps"), expected, rtol=1e-5)


def test_heat_of_a_negative_logit_is_what_speaks_against_the_trait(network):
    x = np.zeros((1, 4, 5, 3), np.float32)
    x[0, 1, 2, 0] = 1.0
    heat = grad_cam(network, x, 1, "maps")
    assert heat[0, 1, 2] == 1.0 and heat.sum() == 1.0


def test_where_nothing_speaks_for_it_there_is_no_heat(network):
    np.testing.assert_array_equal(grad_cam(network, np.zeros((1, 4, 5, 3), np.float32), 0, "maps"), 0.0)
