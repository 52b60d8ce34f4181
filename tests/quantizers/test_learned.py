"""Learned thresholds: gradients by an independent oracle and by differences, life of a threshold, its optimizer."""

from __future__ import annotations

import keras
import numpy as np
import oracles
import pytest
import strategies
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from selections import slow_but

from po2quant.quantizers import ThresholdAdam, quantized_bits, quantized_bits_featuremap, threshold_rate
from po2quant.quantizers.functional import Grid
from po2quant.quantizers.learned import learned_quantize, learned_quantize_per_tensor
from po2quant.scale import reduced_axes

TENSOR_SETTINGS = strategies.TENSOR_SETTINGS
DTYPES = ("float32", "float64")

ROUNDING_OF_A_SUM = {"float32": 1e-5, "float64": 1e-13}
"""What the sum of some hundred products may be off by, relative to the sum of their sizes."""

DIFFERENCE_STEP = 2.0**-12
ROUNDING_OF_A_DIFFERENCE = 1e-6


def _limits(bits: int, signed: bool) -> tuple[int, int]:
    high = oracles.largest_magnitude(bits, signed)
    return (-high if signed else 0), high


def _with_ties(x: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return ``x`` with every third value moved to a tie of the grid."""
    x, step = x.copy(), np.broadcast_to(step, x.shape)
    x.flat[::3] = (np.floor(x.flat[::3] / step.flat[::3]) + 0.5) * step.flat[::3]
    return x


def _outputs_and_gradients(quantize, x, threshold, upstream):
    """Return y, dL/dx and dL/dlog2(t) of ``L = sum(upstream * y)``."""
    x, threshold, upstream = map(tf.constant, (x, threshold, upstream))
    with tf.GradientTape() as tape:
        tape.watch((x, threshold))
        y = quantize(x, threshold)
    return y.numpy(), *(gradient.numpy() for gradient in tape.gradient(y, (x, threshold), upstream))


def _expected(x, exponent, upstream, low, high, axes):
    """Return y, dL/dx, dL/dlog2(t) and the sum of the sizes of the latter's terms, by the definition in float64."""
    x, upstream = x.astype(np.float64), upstream.astype(np.float64)
    step = np.ldexp(1.0, exponent)
    rounded = np.rint(x / step)
    inside = (rounded >= low) & (rounded <= high)
    slope = step * np.log(2.0) * np.where(inside, rounded - x / step, np.clip(rounded, low, high))
    terms = upstream * slope
    total, size = np.sum(terms, axis=axes, keepdims=True), np.sum(np.abs(terms), axis=axes, keepdims=True)
    return np.clip(rounded, low, high) * step, np.where(inside, upstream, 0.0), total, size


@TENSOR_SETTINGS
@given(
    x=strategies.tensors(),
    bits=st.integers(2, 16),
    below=st.integers(-2, 4),
    signed=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
def test_per_channel_values_and_gradients_are_the_definition(x, bits, below, signed, dtype, seed):
    axes = reduced_axes(x.shape, None)
    exponent = oracles.never_clipping_exponent(x, bits, axes, signed) - below  # from wide to narrow: many values clip
    x = _with_ties(x, np.ldexp(np.float32(1), exponent)).astype(dtype)
    upstream = np.random.default_rng(seed).normal(size=x.shape).astype(dtype)
    low, high = _limits(bits, signed)
    grid = Grid(tf.constant(np.ldexp(1.0, exponent), dtype), tf.constant(bits), signed, narrow_range=True)
    got = _outputs_and_gradients(
        lambda values, threshold: learned_quantize(values, threshold, grid),
        x,
        np.zeros(exponent.shape, dtype),
        upstream,
    )
    y, of_x, of_threshold, size = _expected(x, exponent, upstream, low, high, axes)
    np.testing.assert_array_equal(got[0], y)
    np.testing.assert_array_equal(got[1], of_x)
    assert np.all(np.abs(got[2] - of_threshold) <= ROUNDING_OF_A_SUM[dtype] * size)


@TENSOR_SETTINGS
@given(
    x=strategies.tensors(strategies.activation_shapes),
    bits=st.integers(2, 16),
    below=st.integers(-2, 4),
    kind=st.sampled_from(["unsigned", "narrow", "full"]),
    dtype=st.sampled_from(DTYPES),
    clipped_gradient=st.booleans(),
)
def test_per_tensor_values_and_gradients_are_the_definition(x, bits, below, kind, dtype, clipped_gradient):
    signed, axes = kind != "unsigned", tuple(range(x.ndim))
    exponent = oracles.never_clipping_exponent(x, bits, axes, signed).item() - below
    x = _with_ties(x, np.float32(2.0**exponent)).astype(dtype)
    upstream = np.random.default_rng(bits).normal(size=x.shape).astype(dtype)
    high = oracles.largest_magnitude(bits, signed)
    low = {"unsigned": 0, "narrow": -high, "full": -high - 1}[kind]
    grid = Grid(tf.constant(2.0**exponent, dtype), tf.constant(bits), signed, kind == "narrow")
    got = _outputs_and_gradients(
        lambda values, threshold: learned_quantize_per_tensor(values, threshold, grid, clipped_gradient),
        x,
        np.zeros((), dtype),
        upstream,
    )
    y, of_x, of_threshold, size = _expected(x, exponent, upstream, low, high, axes)
    np.testing.assert_array_equal(got[0], y)
    np.testing.assert_array_equal(got[1], of_x if clipped_gradient else upstream)
    assert abs(got[2] - of_threshold.item()) <= ROUNDING_OF_A_SUM[dtype] * size.item()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_gradients_are_the_differences_of_the_smoothed_form(bits, signed):
    """Smoothed: no ceiling in the scale; rounding adds what it adds here, and what is clipped here stays clipped."""
    rng = np.random.default_rng(bits)
    x, upstream = rng.normal(0, 1, (40, 3)), rng.normal(size=(40, 3))
    magnitude_bits = bits - signed
    log2_threshold = np.array([[-1.0, 0.0, 1.0]])
    low, high = _limits(bits, signed)
    step = np.exp2(log2_threshold - magnitude_bits)
    grid = Grid(tf.constant(step), tf.constant(bits), signed, narrow_range=True)
    rounded = np.rint(x / step)
    inside = (rounded >= low) & (rounded <= high)
    assert 0 < inside.mean() < 1

    def smoothed(values, threshold):
        moved_step = np.exp2(threshold - magnitude_bits)
        multiples = np.where(inside, values / moved_step + (rounded - x / step), np.clip(rounded, low, high))
        return np.sum(upstream * moved_step * multiples, axis=0, keepdims=True)

    _, of_x, of_threshold = _outputs_and_gradients(
        lambda values, threshold: learned_quantize(values, threshold, grid),
        x,
        log2_threshold,
        upstream,
    )
    ends = [smoothed(x, log2_threshold + side * DIFFERENCE_STEP) for side in (1, -1)]
    np.testing.assert_allclose(of_threshold, (ends[0] - ends[1]) / (2 * DIFFERENCE_STEP), rtol=ROUNDING_OF_A_DIFFERENCE)
    for row in (0, 7, 19, 33):
        moved = np.zeros_like(x)
        moved[row] = DIFFERENCE_STEP * step[0]
        difference = (smoothed(x + moved, log2_threshold) - smoothed(x - moved, log2_threshold)) / (2 * moved[row])
        np.testing.assert_allclose(of_x[row], difference[0], rtol=ROUNDING_OF_A_DIFFERENCE, atol=1e-9)


def test_values_inside_ask_for_precision_and_clipped_ones_for_range():
    """A loss of the squared error pulls the threshold towards the values that it serves badly."""
    grid = Grid(tf.constant([0.125], "float64"), tf.constant(4), signed=True, narrow_range=True)
    cases = {"inside": np.array([0.3, -0.4, 0.3]), "clipped": np.array([3.0, -5.0, 4.0])}
    slopes = {}
    for name, x in cases.items():
        threshold = tf.constant([0.0], "float64")
        with tf.GradientTape() as tape:
            tape.watch(threshold)
            y = learned_quantize(tf.constant(x), threshold, grid)
            loss = tf.reduce_sum(tf.square(y - x))
        slopes[name] = tape.gradient(loss, threshold).numpy().item()
    assert slopes["inside"] > 0 > slopes["clipped"]


@pytest.mark.parametrize("clipped_gradient", [True, False])
def test_damping_draws_unclipped_values_to_their_grid_and_thresholds_nowhere(clipped_gradient):
    grid = Grid(tf.constant([0.5], "float64"), tf.constant(4), signed=True, narrow_range=True)
    x = np.array([0.3, 0.5, -0.7, 1.25, 9.0])  # on the grid of 0.5 once, clipped once
    _, of_x, of_threshold = _outputs_and_gradients(
        lambda values, threshold: learned_quantize(values, threshold, grid, clipped_gradient, damping=0.25),
        x,
        np.zeros(1),
        np.zeros(5),
    )
    np.testing.assert_allclose(of_x, 2 * 0.25 * np.array([0.3 - 0.5, 0.0, -0.7 + 0.5, 1.25 - 1.0, 0.0]), rtol=1e-15)
    assert of_threshold == 0


def test_damping_reaches_a_traced_graph_and_is_forgotten_with_the_scale():
    x, quantizer = _normal((64, 8)), _weights()
    quantizer(x, training=True)

    @tf.function
    def slope():
        values = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(quantizer(values, training=True))
        return tape.gradient(loss, values)

    undamped = slope().numpy()
    quantizer.damping = 0.5
    np.testing.assert_allclose(slope(), undamped + np.where(undamped, x - quantizer(x), 0), rtol=1e-5, atol=1e-7)
    quantizer.bits = 5
    assert quantizer.damping == 0


# ---------------------------------------------------------------- the life of a threshold


def _normal(shape: tuple[int, ...], sigma: float = 0.3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, sigma, shape).astype(np.float32)


def _weights(bits: int = 4, **arguments) -> quantized_bits:
    return quantized_bits(bits, bits, 1, 1, **({"alpha": "learned_po2"} | arguments))


def _activation(bits: int = 4, keep_negative: int = 1, **arguments) -> quantized_bits_featuremap:
    return quantized_bits_featuremap(bits, bits, 1, keep_negative, **({"alpha": "learned_po2"} | arguments))


def _threshold(quantizer) -> keras.Variable:
    (variable,) = quantizer.trainable_variables
    return variable


@pytest.mark.parametrize("scale_rule", ["mse", "max", "nearest", "stock"])
@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (3, 3, 6, 1), (20, 5), (30,)])
def test_weights_start_at_the_scales_of_the_rule(scale_rule, shape):
    x = _normal(shape) * np.exp2(np.arange(shape[-1])).astype(np.float32)
    computed, learned = (_weights(4, alpha=alpha, scale_rule=scale_rule) for alpha in ("auto_po2", "learned_po2"))
    np.testing.assert_array_equal(learned(x), computed(x))
    assert not learned.learning
    np.testing.assert_array_equal(learned(x, training=True), computed(x))
    assert learned.learning
    scale = np.broadcast_to(computed.compute_scale(x), _threshold(learned).shape)
    np.testing.assert_array_equal(_threshold(learned), np.log2(scale) + 3 - 0.5)
    for training in (False, True):
        np.testing.assert_array_equal(learned.compute_scale(0.1 * x), scale)
        learned(0.1 * x, training=training)


@pytest.mark.parametrize("keep_negative", [0, 1])
def test_activations_start_at_the_calibrated_scale(keep_negative):
    x = _normal((16, 9))
    computed, learned = (_activation(4, keep_negative, alpha=alpha) for alpha in ("auto_po2", "learned_po2"))
    for quantizer in (computed, learned):
        quantizer.calibrate(tf.constant(x))
    computed.frozen = True
    for training in (False, True, False):
        np.testing.assert_array_equal(learned(3 * x, training=training), computed(3 * x))
        assert (learned.range, learned.scale) == (computed.range, computed.scale)
    assert learned.learning
    assert _threshold(learned).numpy() == np.log2(computed.scale) + 4 - keep_negative - 0.5


def test_activations_without_calibration_start_at_the_first_batch():
    x, learned = _normal((16, 9)), _activation()
    np.testing.assert_array_equal(learned(x, training=True), _activation(alpha="auto_po2")(x))
    scale = learned.scale
    learned(100 * x, training=True)
    assert learned.scale == scale


@pytest.mark.parametrize("make", [_weights, _activation])
def test_the_scale_is_the_power_of_two_at_or_above_the_threshold(make):
    x, quantizer = _normal((50, 1), sigma=4.0), make(4)
    quantizer(x, training=True)
    for log2_threshold, exponent in ((1.0, 1), (1.0001, 2), (1.5, 2), (2.0, 2), (-0.5, 0), (-1.0, -1)):
        _threshold(quantizer).assign(np.full(_threshold(quantizer).shape, log2_threshold))
        expected = oracles.quantize(x, exponent - 3, -7, 7)
        for function in (quantizer, tf.function(quantizer)):
            np.testing.assert_array_equal(function(x), expected)


@pytest.mark.parametrize("make", [_weights, _activation])
@pytest.mark.parametrize("bits", [2, 8, 31])
@pytest.mark.parametrize("log2_threshold", [-1e4, -126.5, 125.5, 1e4])
def test_thresholds_at_the_ends_of_the_exponents_give_finite_values_that_can_be_frozen(make, bits, log2_threshold):
    x, quantizer = np.array([[0.0], [1e-38], [-1.0], [3e38]], np.float32), make(bits)
    quantizer(x, training=True)
    _threshold(quantizer).assign(np.full(_threshold(quantizer).shape, log2_threshold))
    y = quantizer(x).numpy()
    assert np.all(np.isfinite(y)) and y[0] == 0
    if make is _weights:
        quantizer.freeze(x)
    else:
        quantizer.frozen = True
    assert quantizer.frozen and not quantizer.learning
    np.testing.assert_array_equal(quantizer(x), y)


@pytest.mark.parametrize("make", [_weights, _activation])
def test_zeros_have_no_gradient_and_stay_zeros(make):
    x, quantizer = tf.zeros((6, 2)), make()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(quantizer(x, training=True) - 1.0))
    assert loss == 12
    assert not np.any(tape.gradient(loss, _threshold(quantizer)))


@pytest.mark.parametrize("make", [_weights, _activation])
def test_one_graph_trains_every_width_as_a_quantizer_of_that_width_does(make):
    x = _normal((64, 8))

    def step(quantizer):
        with tf.GradientTape() as tape:
            y = quantizer(x, training=True)
            loss = tf.reduce_sum(tf.square(y - 1.0))
        return y, tape.gradient(loss, _threshold(quantizer))

    traces, shared = [], make(8)
    shared(x)

    @tf.function
    def graph():
        traces.append(True)
        return step(shared)

    for bits in (8, 2, 4, 16, 31, 8):
        shared.bits = bits
        assert not shared.learning
        for got, expected in zip(graph(), step(make(bits)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
        assert shared.learning
        _threshold(shared).assign_add(tf.ones(_threshold(shared).shape))
    assert len(traces) == 1


def test_frozen_weights_keep_the_learned_scale_and_train_no_threshold():
    x, quantizer = _normal((64, 8)), _weights()
    quantizer(x, training=True)
    _threshold(quantizer).assign_sub(np.ones((1, 8)))
    scale, y = quantizer.compute_scale(x).numpy(), quantizer(x).numpy()
    assert np.all(scale == 0.5 * _weights().compute_scale(x).numpy())
    for weights in (x, 5 * x):
        quantizer.freeze(weights)
        np.testing.assert_array_equal(quantizer.get_config()["frozen_scale"], scale)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(quantizer(x, training=True))
        assert not np.any(tape.gradient(loss, _threshold(quantizer)))
        np.testing.assert_array_equal(quantizer(x), y)
    quantizer.unfreeze()
    np.testing.assert_array_equal(quantizer(5 * x, training=True), _weights()(5 * x))


def test_a_frozen_activation_keeps_the_learned_range_and_a_new_range_starts_anew():
    x, quantizer = _normal((16, 9)), _activation()
    quantizer(x, training=True)
    _threshold(quantizer).assign_add(2.0)
    scale, limits, y = quantizer.scale, quantizer.range, quantizer(x).numpy()
    assert scale == 4 * _activation(alpha="auto_po2").scale_and_zero_point(x.min(), x.max())[0].numpy()
    quantizer.frozen = True
    assert (quantizer.scale, quantizer.range) == (scale, limits)
    quantizer(100 * x, training=True)
    np.testing.assert_array_equal(quantizer(x), y)
    quantizer.frozen = False
    quantizer.set_range(-0.1, 0.1)
    quantizer(x, training=True)
    assert quantizer.range == (-0.109375, 0.109375)


@pytest.mark.parametrize("make", [_weights, _activation])
def test_float64_quantizers_learn_in_float64(make):
    x, quantizer = _normal((64, 8)).astype(np.float64), make(16, dtype="float64")
    y = quantizer(x, training=True)
    assert y.dtype == tf.float64 and _threshold(quantizer).dtype == "float64"
    np.testing.assert_array_equal(y, make(16, alpha="auto_po2", dtype="float64")(x))


def test_exponent_limits_hold_while_learning():
    x, quantizer = _normal((64, 1)), _weights(min_po2_exponent=-4, max_po2_exponent=-2)
    quantizer(x, training=True)
    for log2_threshold, exponent in ((-9.0, -4), (0.0, -3), (9.0, -2)):
        _threshold(quantizer).assign([[log2_threshold]])
        assert quantizer.compute_scale(x).numpy() == 2.0**exponent


# ---------------------------------------------------------------- the optimizer


def _variables(seed: int = 0) -> list[keras.Variable]:
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (4, 3), "log2_threshold": (1, 3), "bias": (3,)}
    return [keras.Variable(rng.normal(size=shape), name=name) for name, shape in shapes.items()]


def _steps(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable], steps: int) -> list[np.ndarray]:
    """Return the threshold after each step of random gradients."""
    rng, thresholds = np.random.default_rng(1), []
    for _ in range(steps):
        optimizer.apply([tf.constant(rng.normal(size=v.shape), tf.float32) for v in variables], variables)
        thresholds.append(variables[1].numpy())
    return thresholds


def test_weights_are_trained_as_by_adam():
    ours, adams = _variables(), _variables()
    _steps(ThresholdAdam(0.003, threshold_rate=0.5), ours, 5)
    _steps(keras.optimizers.Adam(0.003), adams, 5)
    for index in (0, 2):
        np.testing.assert_array_equal(ours[index].numpy(), adams[index].numpy())


def test_thresholds_have_a_rate_of_their_own_whatever_the_weights_have():
    expected = _variables()
    _steps(keras.optimizers.Adam(0.05), expected, 5)
    for learning_rate in (1e-6, 0.1):
        variables = _variables()
        _steps(ThresholdAdam(learning_rate, threshold_rate=0.05), variables, 5)
        np.testing.assert_allclose(variables[1].numpy(), expected[1].numpy(), rtol=1e-6)


def test_thresholds_slow_down_and_stop_after_their_steps():
    variables, optimizer = _variables(), ThresholdAdam(0.001, threshold_rate=0.1)
    start = variables[1].numpy()
    optimizer.build(variables)
    optimizer.threshold_steps = 4
    thresholds = _steps(optimizer, variables, 8)
    moves = [np.abs(now - before).max() for before, now in zip([start, *thresholds], thresholds, strict=False)]
    assert moves[0] == pytest.approx(0.1, rel=1e-3)
    assert all(moves[:4]) and not any(moves[4:])
    assert moves[3] < 0.05


def test_weight_decay_leaves_thresholds_alone():
    variables, optimizer = _variables(), ThresholdAdam(0.1, threshold_rate=0.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["of a user"])
    before = [variable.numpy() for variable in variables]
    _steps(optimizer, variables, 3)
    np.testing.assert_array_equal(variables[1].numpy(), before[1])
    assert all(np.any(variables[index].numpy() != before[index]) for index in (0, 2))


def test_each_threshold_has_its_rate():
    variables, optimizer = [*_variables(), *_variables(1)], ThresholdAdam(0.001, threshold_rate=0.1)
    starts = [variable.numpy() for variable in variables]
    optimizer.build(variables)
    assert optimizer.threshold_rates == pytest.approx([0.1, 0.1])
    optimizer.threshold_rates = [0.2, 0.0]
    optimizer.apply([tf.ones(variable.shape) for variable in variables], variables)
    np.testing.assert_allclose(starts[1] - variables[1].numpy(), 0.2, rtol=1e-5)
    np.testing.assert_array_equal(variables[4].numpy(), starts[4])


@pytest.mark.parametrize(("steps", "travel"), slow_but(((1, 0.01), (100, 4.0)), ((1, 0.01), (100, 4.0), (1000, 4.0))))
def test_a_threshold_travels_as_far_in_few_steps_as_in_many(steps, travel):
    variables, optimizer = _variables(), ThresholdAdam(0.001)
    start = variables[1].numpy()
    optimizer.build(variables)
    optimizer.threshold_steps = steps
    optimizer.threshold_rates = [threshold_rate(4, steps, travel, largest=0.1)]
    step = tf.function(lambda: optimizer.apply([tf.ones(variable.shape) for variable in variables], variables))
    for _ in range(steps):
        step()
    np.testing.assert_allclose(start - variables[1].numpy(), travel, rtol=1.01 / steps)


@pytest.mark.parametrize(
    ("bits", "steps", "travel", "expected"),
    [
        (4, 100, 4.0, 0.08),
        (8, 100, 4.0, 0.08 * (7 / 127) ** 0.5),
        (16, 100, 4.0, 0.08 * (7 / 32767) ** 0.5),
        (1, 100, 0.5, 0.01 * 7**0.5),
        (4, 10, 4.0, 0.1),
        (4, 0, 4.0, 0.1),
    ],
)
def test_wide_formats_have_slow_thresholds(bits, steps, travel, expected):
    assert threshold_rate(bits, steps, travel, largest=0.1) == pytest.approx(expected)


def test_no_steps_at_all_leave_thresholds_alone():
    variables, optimizer = _variables(), ThresholdAdam(0.001)
    start = variables[1].numpy()
    optimizer.build(variables)
    optimizer.threshold_steps = 0
    _steps(optimizer, variables, 2)
    np.testing.assert_array_equal(variables[1].numpy(), start)


def test_the_optimizer_comes_back_from_its_configuration():
    optimizer = ThresholdAdam(0.002, threshold_rate=0.25, beta_2=0.9)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(copy) is ThresholdAdam
    assert copy.get_config() == optimizer.get_config()
    variables = _variables()
    optimizer.build(variables)
    assert optimizer.threshold_steps == np.inf
