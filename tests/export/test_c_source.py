"""The C of integer programs: every integer as the interpreter computes it, without a warning or undefined behaviour."""

from __future__ import annotations

import math
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import SANITIZERS, run_c
from random_programs import assert_same, integers, random_program, samples, wide_program, with_rounding
from refusals import complaint
from selections import slow_but
from typed_layers import typed_layers

from po2quant.export.c.operations import merged_axes, packed
from po2quant.export.c.run import COMPILER, FLAGS
from po2quant.export.c.source import write_c
from po2quant.fixed_point import FLOOR, HALF_AWAY, HALF_UP, FixedPointFormat
from po2quant.integer.interpreter import run
from po2quant.integer.operations import (
    OPERATIONS,
    Add,
    Conv2D,
    Dense,
    MaxPooling,
    Tensor,
    Weights,
)
from po2quant.integer.program import Output, Program

needs_gcc = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
STRICT = ("-Werror", "-pedantic")
SANITIZED = ("-O0", *SANITIZERS)
"""Of random programs, with which gcc spends half a minute at -O3; that it warns of nothing there is seen without."""


@needs_gcc
@pytest.mark.parametrize(
    ("seed", "pack", "flags"),
    slow_but(
        ((1, True, SANITIZED), (3, False, ("-march=native",))),
        ((0, False, SANITIZED), (1, True, SANITIZED), (2, False, ()), (3, False, ("-march=native",))),
    ),
)
def test_every_tensor_is_the_interpreters(seed, pack, flags, tmp_path):
    """Random operations on tensors of 2 to 16 bits; no warning; clean under the sanitizers; packed weights too.

    This machine's own instructions read unsigned bytes unwidened.
    """
    program = random_program(seed)
    assert {type(operation) for operation in program.operations} == set(OPERATIONS)
    source, inputs = write_c(program, tmp_path, "network", pack), samples(program)
    found, expected = run_c(source, inputs, tmp_path, trace=True, flags=(*STRICT, *flags)), run(program, inputs)
    assert found.keys() == expected.keys()
    assert_same(found, expected)
    assert sum(np.unique(values).size > 2 for values in found.values()) > len(found) / 2


@needs_gcc
@pytest.mark.parametrize(
    ("exponent", "sizes", "pack", "flags"),
    [
        (-3, (20, 37), False, ("-march=native",)),
        pytest.param(-16, (13, 7), False, ("-march=native",), marks=pytest.mark.slow),
        pytest.param(-3, (20, 37), True, ("-march=native", *SANITIZERS), marks=pytest.mark.slow),
        pytest.param(-3, (13, 7), True, (), marks=pytest.mark.slow),
    ],
)
def test_every_kernel_on_every_type(exponent, sizes, pack, flags, tmp_path):
    """With this machine's own instructions too: inputs of 8 and 16 bits, signed or not, weights of 4 to 16."""
    program = typed_layers(exponent, *sizes)
    source, inputs = write_c(program, tmp_path, "layers", pack), samples(program, 2)
    found = run_c(source, inputs, tmp_path, trace=True, flags=(*STRICT, "-O1", *flags))
    assert_same(found, run(program, inputs))


@needs_gcc
@pytest.mark.parametrize("rounding", slow_but((HALF_AWAY,), (HALF_UP, HALF_AWAY, FLOOR)))
def test_every_rounding_mode_is_the_interpreters(rounding, tmp_path):
    """Random operations, and sums of 64 bits; no warning; clean under the sanitizers."""
    for name, program in (("random", random_program(4)), ("wide", wide_program())):
        program = with_rounding(program, rounding)
        source, inputs = write_c(program, tmp_path / name, name), samples(program)
        found = run_c(source, inputs, tmp_path / name, trace=True, flags=(*STRICT, *SANITIZED))
        assert_same(found, run(program, inputs))


@needs_gcc
@pytest.mark.parametrize("pack", [False, True])
def test_64_bits_where_32_do_not_hold_a_sum(pack, tmp_path):
    """Sums of products, halves, a jammed accumulator and shifts to the left, clean under the sanitizers."""
    program = wide_program()
    plans = {operation.name: program.plan(operation) for operation in program.operations}
    assert {plans[name].accumulator_register for name in ("wide dense", "wide depthwise", "square", "mean")} == {64}
    assert plans["one"].sum_register == 64
    assert {plans[name].accumulator_register for name in ("ties", "left", "halves")} == {32}
    assert plans["jammed"].align_shifts[0] > 0 and plans["left"].output_shifts[0] < 0
    inputs = samples(program, 20)
    source = write_c(program, tmp_path, "wide", pack)
    assert_same(run_c(source, inputs, tmp_path, trace=True, flags=(*STRICT, *SANITIZED)), run(program, inputs))


def vector_program() -> Program:
    """Return one operation of each kind that has much to compute, in 8 bits."""
    format, rng = FixedPointFormat(8, -4), np.random.default_rng(0)

    def layer(*shape: int) -> list[Weights]:
        zeros = np.zeros(shape[-1], int)
        return [Weights(integers(FixedPointFormat(5), shape, rng), zeros - 8, 5), Weights(zeros, zeros, 2)]

    operations = (
        Conv2D("c", ("x",), "c", *layer(3, 3, 32, 32), padding=((1, 1), (1, 1))),
        Conv2D("d", ("c",), "d", *layer(3, 3, 1, 32), padding=((1, 1), (1, 1)), groups=32),
        Add("s", ("c", "d"), "s"),
        Dense("y", ("s",), "y", *layer(32, 32)),
    )
    return Program(
        "vectors", tuple(Tensor(name, (8, 8, 32), format) for name in "xcdsy"), ("x",), operations, (Output("y"),)
    )


@needs_gcc
def test_gcc_vectorises_the_loops(tmp_path):
    """The sums of products, the depthwise taps and the elementwise loops."""
    source = write_c(vector_program(), tmp_path, "vectors")
    command = [COMPILER, *FLAGS, "-fopt-info-vec-optimized", "-c", source.source, "-o", tmp_path / "vectors.o"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    lines = source.source.read_text().splitlines()
    vectorised = {int(line.split(":")[1]) for line in report.splitlines() if "loop vectorized" in line}
    found = [line for number in vectorised for line in lines[number - 1 : number + 2]]
    for wanted in ("sum0 += ", "totals[c] += ", "y[i0] = "):
        assert any(wanted in line for line in found), (wanted, report)


def test_constants_take_their_bits_and_the_source_no_floats(tmp_path):
    """Five bits a weight when packed, eight when not; the arena holds the largest live pair; macros say so."""
    program = vector_program()
    plain, small = (write_c(program, tmp_path / str(pack), "net", pack) for pack in (False, True))
    weights = (9 * 32 * 32, 9 * 32, 32 * 32)
    last_bytes = len(weights)
    packed_bytes = sum(math.ceil(size * 5 / 8) for size in weights) + last_bytes
    assert plain.weight_bytes - small.weight_bytes == sum(weights) - packed_bytes
    assert plain.arena_bytes == 3 * 8 * 8 * 32
    header, text = plain.header.read_text(), plain.source.read_text()
    assert f"#define NET_ARENA_BYTES {plain.arena_bytes}\n" in header
    assert "void net_run(const int8_t *input, int8_t *output);" in header
    assert not any(word in text + header for word in ("float", "double", "alloc"))


def test_two_runs_write_the_same_bytes(tmp_path):
    """So that a checksum identifies a network."""
    texts = [write_c(random_program(3), tmp_path / str(i), "net").source.read_bytes() for i in range(2)]
    assert texts[0] == texts[1]


@given(st.integers(2, 32), st.data())
def test_packed_integers_lie_lowest_bit_first(bits, data):
    """A stream that Python's own integers read back."""
    values = data.draw(st.lists(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1), min_size=1, max_size=20))
    stream = int.from_bytes(packed(np.array(values), bits).tobytes(), "little")
    assert [
        ((stream >> i * bits) % 2**bits + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) for i in range(len(values))
    ] == values


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_merged_axes_visit_what_broadcasting_does(axes):
    """The same elements of both inputs, in the same order, with fewer loops."""
    shapes = [tuple(1 if axis[which] else axis[0] for axis in axes) for which in (1, 2)]
    sizes, strides = merged_axes(shapes)
    arrays = [np.arange(math.prod(shape)).reshape(shape) for shape in shapes]
    for array, steps, expected in zip(arrays, strides, np.broadcast_arrays(*arrays), strict=True):
        grid = np.indices(sizes).reshape(len(sizes), -1) if sizes else np.zeros((0, 1), int)
        np.testing.assert_array_equal(array.ravel()[np.array(steps, int) @ grid], expected.ravel())
    assert len(sizes) <= len(axes)


def pooling() -> Program:
    tensors = (Tensor("x", (4, 4, 1), FixedPointFormat(8)), Tensor("y", (2, 2, 1), FixedPointFormat(8)))
    return Program("p", tensors, ("x",), (MaxPooling("pool", ("x",), "y", (2, 2), (2, 2)),), (Output("y"),))


def test_a_name_that_c_does_not_take_is_refused(tmp_path):
    assert "'2nd net'" in complaint(write_c, wide_program(), tmp_path, "2nd net")


@needs_gcc
@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4), int), np.full((2, 4, 4, 1), 128)],
    ids=["floats", "shape", "above"],
)
def test_integers_that_the_input_cannot_hold_are_refused(array, tmp_path):
    source = write_c(pooling(), tmp_path, "net")
    complaint(run_c, source, array, tmp_path)


def test_without_gcc_one_sentence_says_so(tmp_path, monkeypatch):
    source = write_c(pooling(), tmp_path, "net")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert COMPILER in complaint(run_c, source, np.zeros((1, 4, 4, 1), int), tmp_path)
