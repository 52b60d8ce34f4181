"""Every operation against exact fractions: shifts, ties, saturation, ReLUs and 31-bit biases, to the bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from refusals import complaint

from po2quant.fixed_point import FLOOR, HALF_AWAY, HALF_EVEN, HALF_UP, ROUNDING_MODES, FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.interpreter import quantize_inputs, results, run
from po2quant.integer.program import SOFTMAX, Output, Program

EXAMPLES = settings(max_examples=200, deadline=None)
ROUND = {
    HALF_EVEN: round,
    HALF_UP: lambda x: math.floor(x + Fraction(1, 2)),
    HALF_AWAY: lambda x: int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x)),
    FLOOR: math.floor,
}
"""Rounding of fractions; Python's own is half to even."""

formats = st.builds(
    FixedPointFormat,
    st.integers(2, 16),
    st.integers(-20, 8),
    signed=st.booleans(),
    narrow_range=st.booleans(),
    rounding=st.sampled_from(ROUNDING_MODES),
)
activations = st.sampled_from(ops.ACTIVATIONS)
seeds = st.integers(0, 2**32 - 1)


def integers(format: FixedPointFormat, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return integers of a format, one of three of them at an end of its range."""
    rng = np.random.default_rng(seed)
    values = rng.integers(format.min_int, format.max_int + 1, shape)
    return np.where(rng.random(shape) < 1 / 3, rng.choice([format.min_int, format.max_int], shape), values)


def program_of(
    operation: ops.Operation, inputs: Sequence[ops.Tensor], shape: tuple[int, ...], output: FixedPointFormat
) -> Program:
    tensors = (*inputs, ops.Tensor(operation.output, shape, output))
    return Program("test", tensors, operation.inputs, (operation,), (Output(operation.output),))


def computed(
    operation: ops.Operation,
    arrays: Sequence[np.ndarray],
    inputs: Sequence[FixedPointFormat],
    shape: tuple[int, ...],
    output: FixedPointFormat,
) -> np.ndarray:
    """Return what an operation makes of integers."""
    tensors = [
        ops.Tensor(name, array.shape[1:], format)
        for name, array, format in zip(operation.inputs, arrays, inputs, strict=True)
    ]
    return run(program_of(operation, tensors, shape, output), list(arrays))[operation.output]


def exact(values: np.ndarray, exponent: int) -> np.ndarray:
    """Return ``values * 2**exponent`` as fractions."""
    return np.asarray(values, object) * (Fraction(2) ** exponent)


def quantized(values: np.ndarray, output: FixedPointFormat, activation: str) -> np.ndarray:
    """Return fractions as integers of a format."""

    def one(value: Fraction) -> int:
        if activation != ops.LINEAR:
            value = max(value, Fraction(0))
        if activation == ops.RELU6:
            value = min(value, Fraction(6))
        return min(max(ROUND[output.rounding](value / Fraction(2) ** output.exponent), output.min_int), output.max_int)

    return np.vectorize(one, otypes=[np.int64])(values)


def channel_values(weights: ops.Weights) -> np.ndarray:
    """Return the values of weights as fractions."""
    scales = np.array([Fraction(2) ** int(exponent) for exponent in weights.exponents], object)
    return weights.integers.astype(object) * scales


@EXAMPLES
@given(formats, formats, activations, seeds)
def test_requantize(x, output, activation, seed):
    """Another exponent, another width, another sign."""
    values = integers(x, (2, 20), seed)
    operation = ops.Requantize("r", ("x",), "y", activation=activation)
    np.testing.assert_array_equal(
        computed(operation, [values], [x], (20,), output), quantized(exact(values, x.exponent), output, activation)
    )


@EXAMPLES
@given(st.lists(formats, min_size=2, max_size=3), formats, activations, seeds)
def test_add(inputs, output, activation, seed):
    """Operands with exponents of their own, repeated along axes of size 1."""
    shapes = [(3, 2, 4), (3, 1, 4), (1, 2, 1)][: len(inputs)]
    arrays = [integers(x, (2, *shape), seed + i) for i, (x, shape) in enumerate(zip(inputs, shapes, strict=True))]
    operation = ops.Add("add", tuple("abc"[: len(inputs)]), "y", activation=activation)
    expected = sum(exact(array, x.exponent) for array, x in zip(arrays, inputs, strict=True))
    np.testing.assert_array_equal(
        computed(operation, arrays, inputs, (3, 2, 4), output), quantized(expected, output, activation)
    )


@EXAMPLES
@given(formats, formats, formats, activations, seeds)
def test_multiply(x, gate, output, activation, seed):
    """Squeeze and excite: one factor for each channel."""
    arrays = [integers(x, (2, 3, 2, 4), seed), integers(gate, (2, 1, 1, 4), seed + 1)]
    operation = ops.Multiply("multiply", ("a", "b"), "y", activation=activation)
    expected = exact(arrays[0], x.exponent) * exact(arrays[1], gate.exponent)
    np.testing.assert_array_equal(
        computed(operation, arrays, [x, gate], (3, 2, 4), output), quantized(expected, output, activation)
    )


@EXAMPLES
@given(formats, formats, formats, st.integers(0, 2), seeds)
def test_concatenate(a, b, output, axis, seed):
    """Each operand is rounded into the output's format."""
    shapes = [[3, 2, 4], [3, 2, 4]]
    shapes[1][axis] = 5
    arrays = [integers(format, (2, *shape), seed) for format, shape in zip((a, b), shapes, strict=True)]
    operation = ops.Concatenate("join", ("a", "b"), "y", axis)
    values = [exact(array, format.exponent) for array, format in zip(arrays, (a, b), strict=True)]
    expected = quantized(np.concatenate(values, axis + 1), output, ops.LINEAR)
    np.testing.assert_array_equal(computed(operation, arrays, [a, b], expected.shape[1:], output), expected)


def weights(bits: int, exponents: list[int], shape: tuple[int, ...], seed: int) -> ops.Weights:
    return ops.Weights(integers(FixedPointFormat(bits), (*shape, len(exponents)), seed), np.array(exponents), bits)


@st.composite
def layers(draw: st.DrawFn) -> tuple[FixedPointFormat, ops.Weights, ops.Weights, FixedPointFormat]:
    """Draw an input, a kernel of two inputs and three channels, a bias of up to 31 bits, and an output.

    The output's step is above or below that of the products, and the bias is often half a step of it or next to that.
    """
    x, output = draw(formats), draw(formats)
    exponents = [output.exponent - x.exponent - draw(st.integers(-4, 20)) for _ in range(3)]
    kernel = weights(draw(st.integers(2, 16)), exponents, (2,), draw(seeds))
    bits, distance = draw(st.integers(2, 31)), draw(st.integers(-4, 40))
    exponents = np.full(3, output.exponent - distance)
    bias = draw(st.lists(st.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1), min_size=3, max_size=3))
    if 0 < distance <= bits - 4:
        ties = draw(st.lists(st.tuples(st.integers(-3, 2), st.integers(-1, 1)), min_size=3, max_size=3))
        half = 2 ** (distance - 1)
        bias = [(2 * step + 1) * half + nudge for step, nudge in ties]
    return x, kernel, ops.Weights(np.array(bias), exponents, 31), output


@EXAMPLES
@given(layers(), activations, seeds)
def test_dense(layer, activation, seed):
    """Products at one exponent a channel and biases at another, finer or coarser, ties included."""
    x, kernel, bias, output = layer
    values = integers(x, (6, 2), seed)
    operation = ops.Dense("dense", ("x",), "y", kernel, bias, activation)
    expected = exact(values, x.exponent) @ channel_values(kernel) + channel_values(bias)
    np.testing.assert_array_equal(
        computed(operation, [values], [x], (3,), output), quantized(expected, output, activation)
    )


@EXAMPLES
@given(st.integers(-110, -20), st.integers(2, 31), st.integers(-40, 0), st.integers(-1, 1), seeds)
@example(-100, 16, -10, 0, 0)
def test_products_far_below_the_bias_still_break_its_ties(kernel_exponent, bits, bias_exponent, nudge, seed):
    """A sum that no 64 bits hold is rounded as the exact one; numpy in float64 would lose the products."""
    x, output = FixedPointFormat(8, -4), FixedPointFormat(16, bias_exponent + bits - 3)
    bias = ops.Weights(np.array([2 ** (bits - 4) + nudge if bits > 4 else 1]), np.array([bias_exponent]), bits)
    kernel = ops.Weights(np.array([[3], [-2]]), np.array([kernel_exponent]), 8)
    values = integers(x, (8, 2), seed)
    operation = ops.Dense("dense", ("x",), "y", kernel, bias)
    expected = exact(values, x.exponent) @ channel_values(kernel) + channel_values(bias)
    np.testing.assert_array_equal(
        computed(operation, [values], [x], (1,), output), quantized(expected, output, ops.LINEAR)
    )


@pytest.mark.parametrize("bits", [24, 29])
def test_sums_wider_than_float64_go_through_int64(bits):
    """Of two products of 57 bits that almost cancel, float64 would lose what remains."""
    format = FixedPointFormat(bits, 0)
    kernel = ops.Weights(np.full((2, 1), 2 ** (bits - 1) - 1), np.array([0]), bits)
    first = np.random.default_rng(0).integers(2 ** (bits - 2), 2 ** (bits - 1), 50)
    values = np.stack([first, 1 - first], axis=1)
    bias, output = ops.Weights(np.array([1]), np.array([0]), 8), FixedPointFormat(32, 0)
    result = computed(ops.Dense("dense", ("x",), "y", kernel, bias), [values], [format], (1,), output)
    np.testing.assert_array_equal(result, np.full((50, 1), 2 ** (bits - 1)))


@st.composite
def windows(draw: st.DrawFn) -> dict:
    """Draw a window, its strides and its padding, on an image of 7 x 6."""
    return {
        "window": (draw(st.integers(1, 5)), draw(st.integers(1, 5))),
        "strides": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "padding": tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2)),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
    }


def pixels(x: np.ndarray, window: dict) -> dict[tuple[int, int], list[list[tuple[int, int, np.ndarray]]]]:
    """Return, for each output pixel, (row and column in the window, input pixel) of those inside the image."""
    (top, bottom), (left, right) = window["padding"]
    spans = [(size - 1) * step + 1 for size, step in zip(window["window"], window["dilation"], strict=True)]
    rows = (x.shape[1] + top + bottom - spans[0]) // window["strides"][0] + 1
    columns = (x.shape[2] + left + right - spans[1]) // window["strides"][1] + 1
    seen = {}
    for row, column in itertools.product(range(rows), range(columns)):
        taps = []
        for i, j in itertools.product(*map(range, window["window"])):
            r = row * window["strides"][0] + i * window["dilation"][0] - top
            c = column * window["strides"][1] + j * window["dilation"][1] - left
            if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                taps.append((i, j, x[:, r, c]))
        seen[row, column] = taps
    return seen


def image(results_by_pixel: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Return per-pixel results as ``(samples, rows, columns, channels)``."""
    rows, columns = max(results_by_pixel)
    return np.array([[results_by_pixel[r, c] for c in range(columns + 1)] for r in range(rows + 1)]).transpose(
        2, 0, 1, 3
    )


@settings(EXAMPLES, max_examples=60)
@given(windows(), st.sampled_from(["whole", "groups", "depthwise"]), formats, formats, activations, seeds)
def test_convolution(window, kind, x, output, activation, seed):
    """Strides, dilation, uneven padding, groups and depth multipliers."""
    groups = {"whole": 1, "groups": 2, "depthwise": 4}[kind]
    channels, depth = 8, 4 // groups
    values = integers(x, (2, 7, 6, 4), seed)
    kernel = weights(8, [-7, -6, -9, -7, -3, -7, -12, 0], (*window["window"], depth), seed)
    bias = weights(20, [-14] * channels, (), seed)
    taps = pixels(values, window)
    assume(taps)
    operation = ops.Conv2D(
        "conv", ("x",), "y", kernel, bias, window["strides"], window["dilation"], window["padding"], groups, activation
    )
    expected, per_group = {}, channels // groups
    for place, seen in taps.items():
        total = np.tile(channel_values(bias), (2, 1))
        for i, j, pixel in seen:
            for channel in range(channels):
                first = channel // per_group * depth
                inputs = exact(pixel[:, first : first + depth], x.exponent)
                total[:, channel] += inputs @ channel_values(kernel)[i, j, :, channel]
        expected[place] = quantized(total, output, activation)
    expected = image(expected)
    np.testing.assert_array_equal(computed(operation, [values], [x], expected.shape[1:], output), expected)


@settings(EXAMPLES, max_examples=60)
@given(windows(), st.sampled_from([ops.AveragePooling, ops.MaxPooling]), formats, formats, activations, seeds)
def test_pooling(window, kind, x, output, activation, seed):
    """Windows of any count, odd ones and those cut by the border included; a mean is one exact fraction."""
    window = window | {"dilation": (1, 1)}
    values = integers(x, (2, 7, 6, 3), seed)
    taps = pixels(values, window)
    assume(taps and all(max(around) < size for around, size in zip(window["padding"], window["window"], strict=True)))
    combine: Callable = np.max if kind is ops.MaxPooling else lambda inside, axis: np.sum(inside, axis) / len(inside)
    expected = {
        place: quantized(
            combine(np.array([exact(pixel, x.exponent) for _, _, pixel in seen]), axis=0), output, activation
        )
        for place, seen in taps.items()
    }
    operation = kind("pool", ("x",), "y", window["window"], window["strides"], window["padding"], activation)
    expected = image(expected)
    np.testing.assert_array_equal(computed(operation, [values], [x], expected.shape[1:], output), expected)


@given(st.integers(-3, 3))
def test_a_mean_of_nine_breaks_ties_to_even(step):
    """Sums of 9 * (2 n + 1) with a step of 2 lie halfway: a rounded reciprocal of 9 would miss some."""
    values = np.full((1, 3, 3, 1), 2 * step + 1)
    operation = ops.AveragePooling("pool", ("x",), "y", (3, 3), (1, 1))
    result = computed(operation, [values], [FixedPointFormat(8, 0)], (1,), FixedPointFormat(8, 1))
    assert result.item() == round(Fraction(2 * step + 1, 2))


def test_operations_that_move_integers():
    """A table indexed from the smallest integer, zeros around, and another shape."""
    x = FixedPointFormat(4, -2, narrow_range=True)
    values = integers(x, (3, 2, 2, 2), 0)
    table = np.random.default_rng(1).integers(-8, 8, 15)
    looked_up = computed(
        ops.LookUpTable("f", ("x",), "y", table, "f"), [values], [x], (2, 2, 2), FixedPointFormat(4, 5)
    )
    np.testing.assert_array_equal(looked_up, np.vectorize(lambda q: table[q + 7])(values))
    padded = computed(ops.ZeroPadding("pad", ("x",), "y", ((0, 1), (2, 3))), [values], [x], (3, 7, 2), x)
    np.testing.assert_array_equal(padded, np.pad(values, ((0, 0), (0, 1), (2, 3), (0, 0))))
    flat = computed(ops.Reshape("flat", ("x",), "y"), [values], [x], (8,), x)
    np.testing.assert_array_equal(flat, values.reshape(3, 8))


VIEWS = {
    "transposed": lambda x: x.transpose(2, 0, 1),
    "sliced": lambda x: x[1:, ::2, 1],
    "flipped": lambda x: x[:, ::-1, ::-1],
    "repeated": lambda x: np.broadcast_to(x[:, :, np.newaxis], (3, 4, 3, 2)),
    "one element": lambda x: x[1:2, 2, :1],
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_walk_is_what_numpy_sees_through_strides(name):
    x = FixedPointFormat(8, -2)
    values, view = integers(x, (5, 3, 4, 2), 0), VIEWS[name]
    base = np.arange(3 * 4 * 2).reshape(3, 4, 2)
    seen = view(base)
    strides = tuple(stride // base.itemsize for stride in seen.strides)
    operation = ops.Rearrange("walk", ("x",), "y", seen.shape, strides, int(seen.flat[0]))
    expected = np.stack([view(sample) for sample in values])
    np.testing.assert_array_equal(computed(operation, [values], [x], seen.shape, x), expected)
    flat = computed(operation, [values], [x], (seen.size,), x)
    np.testing.assert_array_equal(flat, expected.reshape(5, -1))


exponents = st.integers(-6, 2)


@EXAMPLES
@given(st.sampled_from([(ops.Maximum, max), (ops.Minimum, min)]), exponents, exponents, exponents, seeds)
def test_extremes_compare_values_and_round_once(kind, first, second, output, seed):
    (operation, extreme), formats = kind, [FixedPointFormat(8, first), FixedPointFormat(6, second, signed=False)]
    y = FixedPointFormat(7, output)
    arrays = [integers(format, (9, 3), seed + index) for index, format in enumerate(formats)]
    found = computed(operation("extreme", ("x0", "x1"), "y"), arrays, formats, (3,), y)
    exact = [
        extreme(int(a) * Fraction(2) ** first, int(b) * Fraction(2) ** second)
        for a, b in zip(*(array.ravel() for array in arrays), strict=True)
    ]
    rounded = [min(max(round(value / Fraction(2) ** output), y.min_int), y.max_int) for value in exact]
    np.testing.assert_array_equal(found.ravel(), rounded)


@EXAMPLES
@given(layers(), activations, seeds)
def test_every_step_keeps_within_the_planned_widths(layer, activation, seed):
    """The proof in the plan: accumulator, aligned accumulator and sum, with every input at its worst."""
    x, kernel, bias, output = layer
    operation = ops.Dense("dense", ("x",), "y", kernel, bias, activation)
    plan = program_of(operation, [ops.Tensor("x", (2,), x)], (3,), output).plan(operation)
    ends = np.array(list(itertools.product([x.min_int, 0, x.max_int], repeat=2)), object)
    sums = (ends @ kernel.integers.astype(object)).astype(object)
    assert sums.min() == plan.accumulator_limits[0] and sums.max() == plan.accumulator_limits[1]
    for channel in range(3):
        align, bias_integer = int(plan.align_shifts[channel]), int(plan.bias[channel])
        left = max(-int(plan.output_shifts[channel]), 0)
        for total in sums[:, channel]:
            aligned = total << -align if align <= 0 else total >> align | 1
            widest = max((aligned, aligned + bias_integer, (aligned + bias_integer) << left), key=abs)
            assert (widest if widest >= 0 else ~widest).bit_length() < plan.sum_bits
    assert plan.sum_bits <= 62
    assert plan.sum_register == (32 if plan.sum_bits <= 31 else 64)


def test_a_wide_bias_costs_no_wide_sum():
    """31 bits of bias under sums of 8-bit products: the bits that cannot matter are jammed, and 32 bits suffice."""
    x, output = FixedPointFormat(8, -7), FixedPointFormat(8, -4)
    bias = ops.Weights(np.array([2**29 + 1]), np.array([-30]), 31)
    operation = ops.Dense("dense", ("x",), "y", weights(8, [-7], (64,), 0), bias)
    plan = program_of(operation, [ops.Tensor("x", (64,), x)], (1,), output).plan(operation)
    assert plan.bias.tolist() == [2 * 2**13 + 1] and plan.align_shifts.tolist() == [-1]
    assert (plan.accumulator_register, plan.sum_register) == (32, 32)
    assert plan.exact_bits == 37


def test_a_channel_of_zeros_has_no_exponent_to_align():
    """Its bias alone decides, wherever its kernel's exponent is."""
    x, output = FixedPointFormat(8, -7), FixedPointFormat(8, -4)
    kernel, bias = ops.Weights(np.zeros((4, 1), int), np.array([-80]), 8), ops.Weights([2**29 + 1], [-30], 31)
    program = program_of(ops.Dense("dense", ("x",), "y", kernel, bias), [ops.Tensor("x", (4,), x)], (1,), output)
    assert program.plan(program.operations[0]).sum_bits == 7
    assert run(program, np.ones((1, 4), int))["y"].item() == 8


def test_the_width_counts_the_sum_before_its_bias_too():
    """-255..0 needs 9 bits, although a bias of 127 makes -128..127 of it."""
    x = FixedPointFormat(8, 0, signed=False)
    operation = ops.Dense(
        "dense", ("x",), "y", ops.Weights(np.array([[-1]]), np.array([0]), 2), ops.Weights([127], [0], 8)
    )
    plan = program_of(operation, [ops.Tensor("x", (1,), x)], (1,), FixedPointFormat(8, 0)).plan(operation)
    assert (plan.accumulator_bits, plan.sum_bits) == (9, 9)


def test_sums_that_fit_no_register_are_refused():
    """In one sentence that names the operation and the bits."""
    format = FixedPointFormat(32, 0)
    kernel = ops.Weights(np.full((4, 1), 2**31 - 1), np.array([0]), 32)
    operation = ops.Dense("wide", ("x",), "y", kernel, ops.Weights(np.array([0]), np.array([0]), 2))
    program = program_of(operation, [ops.Tensor("x", (4,), format)], (1,), format)
    assert "'wide'" in complaint(program.plan, operation)


def identity(host_function: str = ops.LINEAR) -> Program:
    x, y = FixedPointFormat(4, -1), FixedPointFormat(4, 0)
    tensors = (ops.Tensor("x", (3,), x), ops.Tensor("y", (3,), y))
    return Program("p", tensors, ("x",), (ops.Requantize("r", ("x",), "y"),), (Output("y", host_function),))


def test_the_host_quantizes_inputs_and_applies_the_softmax():
    """Half to even on the way in; probabilities on the way out."""
    program = identity(SOFTMAX)
    (q,) = quantize_inputs(program, np.array([[0.25, 0.75, 9.0]], np.float32))
    assert q.tolist() == [[0, 2, 7]]
    (value,) = results(program, run(program, q))
    powers = [math.exp(v) for v in (0, 1, 4)]
    np.testing.assert_allclose(value, [[power / sum(powers) for power in powers]], rtol=1e-15)
    (value,) = results(identity(), run(identity(), q))
    assert value.tolist() == [[0.0, 1.0, 4.0]]


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3)), np.zeros((2, 4), int), np.full((2, 3), 8), np.full((2, 3), -9)],
    ids=["floats", "shape", "above", "below"],
)
def test_integers_that_the_input_cannot_hold_are_refused(array):
    """Floats too: they must be quantized first."""
    assert "'x'" in complaint(run, identity(), array)


def test_another_number_of_inputs_is_refused():
    """One array for each input."""
    complaint(quantize_inputs, identity(), [np.zeros((1, 3)), np.zeros((1, 3))])
    complaint(run, identity(), [np.zeros((1, 3), int)] * 2)
