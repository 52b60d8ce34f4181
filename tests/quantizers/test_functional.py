import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from po2quant.fixed_point import integer_range
from po2quant.quantizers import quantized_bits_featuremap
from po2quant.quantizers.functional import Grid, fake_quantize, fake_quantize_per_channel, fake_quantize_per_tensor
from po2quant.scale import SMALL_SIZE


def values_around(low: int, high: int, scale: float, dtype: str) -> np.ndarray:
    """Return halves of LSBs from below to above a range, with the neighbours of each, and extremes."""
    rng = np.random.default_rng(high)
    halves = np.unique(rng.integers(2 * low - 4, 2 * high + 5, 500)) * 0.5 * scale
    limits = np.array([low - 0.5, low, 0.0, high, high + 0.5]) * scale
    near = np.concatenate([halves, limits]).astype(dtype)
    neighbours = [np.nextafter(near, np.array(end, dtype)) for end in (-np.inf, np.inf)]
    x = np.concatenate([near, *neighbours, rng.normal(0, high * scale, 200).astype(dtype), [1e30, -1e30]])
    return x[(x == 0.0) | (np.abs(x) > np.finfo(np.float32).tiny)].astype(dtype)


@given(
    bits=st.integers(1, 32),
    exponent=st.integers(-100, 60),
    kind=st.sampled_from(["unsigned", "narrow", "full"]),
    dtype=st.sampled_from(["float32", "float64"]),
    clipped_gradient=st.booleans(),
    is_large=st.booleans(),
)
def test_few_passes_give_the_bits_and_gradients_of_the_definition(
    bits, exponent, kind, dtype, clipped_gradient, is_large
):
    signed, narrow_range = kind != "unsigned", kind == "narrow"
    bits = max(bits, 2) if signed else bits
    low, high = integer_range(bits, signed, narrow_range)
    values = values_around(low, high, 2.0**exponent, dtype)
    values = np.resize(values, SMALL_SIZE + 4) if is_large else values[: len(values) // 4 * 4]
    scales = tf.constant(2.0 ** np.arange(exponent - 2, exponent + 2), dtype)
    for x, scale, quantize in (
        (values, tf.constant(2.0**exponent, dtype), fake_quantize_per_tensor),
        (values.reshape(-1, 4), scales, fake_quantize_per_channel),
    ):
        upstream = tf.reshape(tf.range(1, values.size + 1, dtype=dtype), x.shape)
        limits = _limits(bits, signed, narrow_range, dtype)
        grid = Grid(scale, tf.constant(bits), signed, narrow_range)
        got = _values_and_gradient(quantize, x, upstream, grid, clipped_gradient)
        expected = _values_and_gradient(fake_quantize, x, upstream, scale, *limits, None, True, clipped_gradient)
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


def _values_and_gradient(function, x, upstream, *arguments):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x, *arguments)
    return y.numpy(), tape.gradient(y, x, upstream).numpy()


def _limits(bits, signed, narrow_range, dtype):
    high = np.array(2.0 ** (bits - signed) - 1.0, np.float64)
    if dtype == "float32" and bits - signed > 24:
        high = np.nextafter(np.float32(2.0 ** (bits - signed)), np.float32(0))
    low = 0.0 if not signed else -high if narrow_range else -(2.0 ** (bits - 1))
    return tf.constant(low, dtype), tf.constant(high, dtype)


def test_nan_stays_nan():
    for copies in (1, SMALL_SIZE):
        x = tf.constant([np.nan, 1.0] * copies)
        y = fake_quantize_per_tensor(x, Grid(tf.constant(0.5), tf.constant(8), True, True))
        np.testing.assert_array_equal(y, x)


def test_a_width_that_is_assigned_counts_in_a_compiled_graph():
    quantizer = quantized_bits_featuremap(24, alpha="auto_po2")
    quantizer.set_range(-1.0, 1.0)
    compiled = tf.function(quantizer)
    x = tf.constant(np.linspace(-1.2, 1.2, SMALL_SIZE), tf.float32)
    for bits in (24, 32, 2, 8):
        quantizer.bits = bits
        np.testing.assert_array_equal(compiled(x), quantizer(x))


def test_models_with_quantizers_are_not_handed_to_xla():
    model = keras.Sequential([keras.Input((2,)), quantized_bits_featuremap(8)])
    model.compile("sgd", "mse")
    assert not model.jit_compile
    with pytest.warns(UserWarning, match="jit_compile"):
        model.compile("sgd", "mse", jit_compile=True)
        assert not model.jit_compile
