"""Networks that are done with leave no graph behind."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from po2quant.graphs import graphs_released, shared_graph
from po2quant.network import calibrate, flat_config, quantize_model

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")


def trained_network(units=4):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, activation="relu"), keras.layers.Dense(1)])
    quantized = quantize_model(model, flat_config(model, 8), "auto_po2")
    calibrate(quantized, X)
    quantized.compile("adam", "mse", jit_compile=False)
    quantized.fit(X, X[:, :1], verbose=0)
    return quantized


def graphs():
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is FuncGraph]


def graphs_left_by(function):
    known = graphs()
    identities = {id(graph) for graph in known}
    function()
    return [graph for graph in graphs() if id(graph) not in identities]


@pytest.mark.slow
def test_training_leaves_no_graph_behind():
    def train():
        with graphs_released():
            trained_network()

    train()  # once, for those that TensorFlow makes for itself
    assert not graphs_left_by(train)
    assert graphs_left_by(trained_network)


def test_graphs_go_where_training_fails():
    def fail():
        with pytest.raises(RuntimeError, match="stopped"), graphs_released():
            trained_network()
            raise RuntimeError("stopped")

    fail()
    assert not graphs_left_by(fail)


def test_networks_from_before_can_still_be_trained_and_those_from_within_still_predict():
    old = trained_network()
    with graphs_released():
        new = trained_network()
    old.fit(X, X[:, :1], verbose=0)
    assert np.all(np.isfinite(new(X)))


def test_a_shared_graph_is_traced_once_for_all_sizes_and_anew_for_other_options():
    traces = []

    @shared_graph
    def scaled(x, *, factor):
        traces.append(factor)
        return factor * x

    @tf.function
    def slopes(a, b):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            outputs = scaled(a, factor=2.0), scaled(b, factor=2.0), scaled(a, factor=3.0)
        return tape.gradient(outputs, [a, b])

    of_a, of_b = slopes(tf.ones((2, 3)), tf.ones((4, 1)))
    assert traces == [2.0, 3.0]
    np.testing.assert_array_equal(of_a, np.full((2, 3), 5.0))
    np.testing.assert_array_equal(of_b, np.full((4, 1), 2.0))


def test_quantized_networks_of_other_sizes_share_the_graphs_of_their_quantizers(monkeypatch):
    traced = []
    function = tf.function
    monkeypatch.setattr(tf, "function", lambda *parts, **options: traced.append(options) or function(*parts, **options))
    with graphs_released():
        trained_network(units=4)
        before = sum("input_signature" in options for options in traced)
        trained_network(units=7)
        assert before > 0
        assert sum("input_signature" in options for options in traced) == before


def test_an_option_may_be_an_empty_tuple():
    @shared_graph
    def total(x: tf.Tensor, y: tf.Tensor, *, axes: tuple[int, ...]) -> tf.Tensor:
        return tf.reduce_sum(x, axis=axes) + y

    x, y = tf.constant([1.0, 2.0]), tf.constant(1.0)
    assert total.in_graph(x, y, axes=()).numpy().tolist() == [2.0, 3.0]
    assert total.in_graph(x, y, axes=(0,)).numpy() == 4.0
