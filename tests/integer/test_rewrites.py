"""Rewritten programs: the same outputs with constant channels settled, biases jammed, and one exponent."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from refusals import complaint

from po2quant.fixed_point import ROUNDING_MODES, FixedPointFormat, integer_range
from po2quant.integer.interpreter import run
from po2quant.integer.operations import ACTIVATIONS, AveragePooling, Conv2D, Dense, Tensor, Weights
from po2quant.integer.program import Output, Program
from po2quant.integer.rewrites import averages_as_products, jammed_bias, on_one_grid, settle_constant_channels

CHANNELS, INPUTS, SAMPLES = 6, 3, 200


def layer(seed: int, activation: str) -> Program:
    """Return a matrix product whose channels lie up to 60 powers of two apart, of each other and of their biases."""
    rng = np.random.default_rng(seed)
    x = FixedPointFormat(int(rng.integers(2, 17)), int(rng.integers(-8, 8)), bool(rng.integers(2)))
    y = FixedPointFormat(
        int(rng.integers(2, 17)), int(rng.integers(-8, 8)), bool(rng.integers(2)), bool(rng.integers(2))
    )
    kernel = Weights(
        rng.integers(*integer_range(9), (INPUTS, CHANNELS)), y.exponent - x.exponent + rng.integers(-30, 4, CHANNELS), 9
    )
    bias = Weights(rng.integers(*integer_range(12), CHANNELS), y.exponent + rng.integers(-16, 2, CHANNELS), 12)
    return Program(
        "layer",
        (Tensor("x", (INPUTS,), x), Tensor("y", (CHANNELS,), y)),
        ("x",),
        (Dense("dense", ("x",), "y", kernel, bias, activation),),
        (Output("y"),),
    )


def outputs(program: Program, seed: int) -> np.ndarray:
    format = program.tensor["x"].format
    rng = np.random.default_rng(seed)
    x = rng.integers(format.min_int, format.max_int + 1, (SAMPLES, INPUTS))
    x[0], x[1] = format.min_int, format.max_int
    return run(program, x)["y"]


programs = st.builds(layer, st.integers(0, 2**32 - 1), st.sampled_from(ACTIVATIONS))


@given(programs, st.integers(0, 999))
def test_settled_channels_give_the_same_outputs_and_have_no_kernel(program, seed):
    settled = settle_constant_channels(program)
    expected = outputs(program, seed)
    np.testing.assert_array_equal(outputs(settled, seed), expected)
    kernel = settled.operations[0].kernel.integers
    varies = np.ptp(expected, axis=0) > 0
    assert np.all(np.any(kernel, axis=0)[varies])


def test_settling_finds_channels_of_any_size():
    """Tiny weights beside a bias, weights that saturate, and weights that matter."""
    x, y = FixedPointFormat(8, 0, signed=False), FixedPointFormat(8, 0)
    kernel = Weights(np.array([[1, 1, 1]]), np.array([-90, 0, 0]), 8)
    bias = Weights(np.array([100, 127, 3]), np.array([-2, 0, 0]), 9)
    dense = Dense("dense", ("x",), "y", kernel, bias)
    program = Program("p", (Tensor("x", (1,), x), Tensor("y", (3,), y)), ("x",), (dense,), (Output("y"),))
    settled = settle_constant_channels(program).operations[0]
    assert settled.kernel.integers.tolist() == [[0, 0, 1]]
    assert settled.bias.integers.tolist() == [25, 127, 3]
    assert settled.bias.exponents.tolist() == [0, 0, 0]


@given(programs, st.integers(0, 999))
@example(layer(25710222, "linear"), 0)  # a bias of the smallest integer of its width
def test_jammed_biases_give_the_same_outputs(program, seed):
    operation = program.operations[0]
    bias = jammed_bias(operation, program.tensor["x"].format, program.tensor["y"].format)
    jammed = dataclasses.replace(program, operations=(dataclasses.replace(operation, bias=bias),))
    np.testing.assert_array_equal(outputs(jammed, seed), outputs(program, seed))
    assert bias.bit_width <= operation.bias.bit_width


def test_a_bias_of_31_bits_keeps_what_the_output_can_see():
    """Half a unit of the products, and one more bit that says that something was lost."""
    kernel = Weights(np.array([[1]]), np.array([-4]), 8)
    dense = Dense("dense", ("x",), "y", kernel, Weights(np.array([2**24 + 1]), np.array([-24]), 31))
    bias = jammed_bias(dense, FixedPointFormat(8, 0), FixedPointFormat(8, 0))
    assert (bias.integers.tolist(), bias.exponents.tolist()) == ([33], [-5])


@given(st.integers(0, 2**32 - 1))
def test_one_grid_holds_the_same_values_in_the_fewest_bits(seed):
    rng = np.random.default_rng(seed)
    weights = Weights(rng.integers(-8, 8, (3, 4)) * rng.integers(0, 2, 4), rng.integers(-9, 9, 4), 4)
    grid = on_one_grid("kernel", weights)
    values = np.ldexp(weights.integers.astype(float), weights.exponents)
    np.testing.assert_array_equal(np.ldexp(grid.integers.astype(float), grid.exponents), values)
    assert len(set(grid.exponents.tolist())) == 1
    if np.any(values):
        assert np.any(grid.integers % 2)
        assert np.abs(grid.integers).max() >= 2 ** (grid.bit_width - 2)


def test_channels_too_far_apart_for_one_grid_are_refused():
    weights = Weights(np.array([[1, 1]]), np.array([0, -40]), 4)
    assert "kernel of 'x'" in complaint(on_one_grid, "kernel of 'x'", weights)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(2, 8),
    st.booleans(),
    st.integers(-4, 2),
    st.sampled_from(ROUNDING_MODES),
)
def test_an_average_becomes_a_product_of_the_same_integers(window, bits, signed, places, rounding):
    """Of every window's count, or a sentence says that no weight is exact: a tie that another rounding breaks."""
    x = Tensor("x", (6, 6, 2), FixedPointFormat(bits, -3, signed))
    y = FixedPointFormat(8, -3 + places, signed, rounding=rounding)
    average = AveragePooling("mean", ("x",), "y", window, (1, 1))
    shape = average.output_shape((x.shape,))
    program = Program("net", (x, Tensor("y", shape, y)), ("x",), (average,), (Output("y"),))
    try:
        product = averages_as_products(program)
    except ValueError as error:
        assert "must be, to the bit, its sum times a number" in str(error)
        assert math.prod(window) & (math.prod(window) - 1)  # a power of two always has one
        return
    (operation,) = product.operations
    assert isinstance(operation, Conv2D) and operation.is_depthwise
    values = np.random.default_rng(0).integers(x.format.min_int, x.format.max_int + 1, (20, *x.shape))
    np.testing.assert_array_equal(run(product, values)["y"], run(program, values)["y"])


def test_an_average_that_counts_the_border_is_refused():
    x = Tensor("x", (4, 4, 1), FixedPointFormat(8, 0))
    average = AveragePooling("mean", ("x",), "y", (2, 2), (1, 1), ((1, 0), (0, 0)))
    y = Tensor("y", average.output_shape((x.shape,)), x.format)
    program = Program("net", (x, y), ("x",), (average,), (Output("y"),))
    assert "windows of average 'mean' must lie inside" in complaint(averages_as_products, program)
