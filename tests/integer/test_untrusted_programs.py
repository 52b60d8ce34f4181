"""Programs from strangers: refused where they are made, in one sentence, or handled by everything that reads them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import (
    INJECTIONS,
    NUMBERS,
    X,
    Y,
    damages,
    every_operation,
    exercise,
    pack,
    program_of,
    refused,
    tensor,
    unpacked,
    weights,
)
from refusals import complaint, refusal

from po2quant.export.c.arena import ALIGNMENT_BYTES
from po2quant.export.c.source import MAX_LABEL_LENGTH, memory_bytes, write_c
from po2quant.export.litert.to_litert import to_litert
from po2quant.export.onnx.to_onnx import to_onnx
from po2quant.export.onnx.to_qonnx import to_qonnx
from po2quant.fixed_point import MAX_EXPONENT, FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.checks import INT32_MAX, MAX_NAME_LENGTH
from po2quant.integer.operations.base import MAX_CHANNELS
from po2quant.integer.program import MAX_TENSORS, Output, Program

FILES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("exponent", [INJECTIONS[0], "0", 1.0, None, True, 2**62, -(2**62), MAX_EXPONENT + 1, (0,)])
def test_an_exponent_is_an_integer_of_a_bounded_range(exponent):
    """Text would be pasted into C; 2**62 would shift Python's integers for ever."""
    assert "exponent" in complaint(FixedPointFormat, 8, exponent)


def test_an_exponent_that_injects_c_does_not_leave_the_file(tmp_path):
    every_operation().save(tmp_path / "p.npz")
    head, arrays = unpacked(tmp_path / "p.npz")
    head["program"]["tensors"][0]["format"]["exponent"] = INJECTIONS[0]
    pack(tmp_path / "p.npz", head, arrays)
    message = refusal(Program.load, tmp_path / "p.npz")
    assert message.startswith(f"{tmp_path / 'p.npz'} is not an integer program: exponent must be an integer")


@pytest.mark.parametrize("exponent", [MAX_EXPONENT, -MAX_EXPONENT])
def test_the_largest_exponents_are_handled_by_all(exponent, tmp_path):
    """Shifts of 1920 places need no such integers."""
    far, kernel = FixedPointFormat(8, exponent), ops.Weights([[3, -1]], [-exponent, exponent], 8)
    bias = ops.Weights([2**30 - 1, -1], [exponent, -exponent], 31)
    for output in (FixedPointFormat(8, -exponent), far, FixedPointFormat(8)):
        dense = ops.Dense("dense", ("x",), "y", kernel, bias)
        exercise(program_of(dense, tensor("x", 1, format=far), tensor("y", 2, format=output)), tmp_path)
        add = ops.Add("add", ("x", "x"), "y", "relu6")
        exercise(program_of(add, tensor("x", 2, format=far), tensor("y", 2, format=output)), tmp_path)


@pytest.mark.parametrize("name", ["", 3, None, ("x",), "a\nb", "\x00", "\ud800", "x" * (MAX_NAME_LENGTH + 1)])
def test_a_name_is_printable_text_of_a_bounded_length(name):
    complaint(ops.Tensor, name, (1,), X)
    complaint(ops.Reshape, name, ("x",), "y")
    complaint(ops.Reshape, "name", (name,), "y")
    complaint(ops.Reshape, "name", ("x",), name)
    complaint(Output, name)
    complaint(dataclasses.replace, every_operation(), name=name)


@pytest.mark.parametrize(
    "shape", [(), (0,), (-1, 3), (2.0,), (True,), [3], "3", 3, None, (1,) * 9, (46341, 46341, 1), (3 * 10**9,)]
)
def test_a_shape_is_a_tuple_of_sizes_below_2_to_the_31(shape):
    complaint(ops.Tensor, "x", shape, X)


@pytest.mark.parametrize("format", [8, None, "int8", [8, 0, True, False], {"bit_width": 8}])
def test_nothing_stands_where_a_format_does(format):
    complaint(ops.Tensor, "x", (1,), format)


@pytest.mark.parametrize("flag", [0, 1, "no", None])
def test_signs_and_ranges_are_true_or_false(flag):
    complaint(FixedPointFormat, 8, 0, flag)
    complaint(FixedPointFormat, 8, 0, True, flag)


WEIGHTS = (weights(1, 1, 5, 2), weights(2))
WRONG_OPERATIONS: dict[str, Callable[[], Any]] = {
    "an image of four axes": lambda: program_of(
        ops.Conv2D("c", ("x",), "y", *WEIGHTS), tensor("x", 4, 4, 1, 5), tensor("y", 4, 4, 2)
    ),
    "the right size in the wrong shape": lambda: program_of(
        ops.Conv2D("c", ("x",), "y", *WEIGHTS), tensor("x", 4, 4, 5), tensor("y", 2, 8, 2)
    ),
    "another number of pixels": lambda: program_of(
        ops.MaxPooling("m", ("x",), "y", (2, 2), (2, 2)), tensor("x", 4, 4, 1), tensor("y", 4, 4, 1)
    ),
    "a walk out of the input": lambda: program_of(
        ops.Rearrange("r", ("x",), "y", (2, 2), (3, -2), 2), tensor("x", 4), tensor("y", 2, 2)
    ),
    "a walk of another size than the output": lambda: program_of(
        ops.Rearrange("r", ("x",), "y", (4,), (1,), 0), tensor("x", 4), tensor("y", 3)
    ),
    "a walk without a stride": lambda: ops.Rearrange("r", ("x",), "y", (4, 2), (1,), 0),
    "a walk that begins before the input": lambda: ops.Rearrange("r", ("x",), "y", (4,), (1,), -1),
    "negative padding": lambda: ops.ZeroPadding("z", ("x",), "y", ((-1, 0), (0, 0))),
    "padding without pairs": lambda: ops.ZeroPadding("z", ("x",), "y", (1, 1)),
    "padding of 2 GB": lambda: program_of(
        ops.ZeroPadding("z", ("x",), "y", ((INT32_MAX, 0), (0, 0))), tensor("x", 1, 1, 1), tensor("y", 1, 1, 1)
    ),
    "a padded image of 2**31 pixels": lambda: program_of(
        ops.Conv2D("c", ("x",), "y", *WEIGHTS, (2**30, 2**30), padding=((2**30, 0), (2**30, 0))),
        tensor("x", 1, 1, 5),
        tensor("y", 2, 2, 2),
    ),
    "no groups": lambda: ops.Conv2D("c", ("x",), "y", *WEIGHTS, groups=0),
    "no strides": lambda: ops.Conv2D("c", ("x",), "y", *WEIGHTS, strides=(0, 1)),
    "one stride": lambda: ops.Conv2D("c", ("x",), "y", *WEIGHTS, strides=2),
    "dilation of floats": lambda: ops.Conv2D("c", ("x",), "y", *WEIGHTS, dilation=(1.0, 1.0)),
    "a kernel of numbers": lambda: ops.Conv2D("c", ("x",), "y", np.ones((1, 1, 5, 2), int), WEIGHTS[1]),
    "a kernel of two axes": lambda: ops.Conv2D("c", ("x",), "y", weights(5, 2), WEIGHTS[1]),
    "a bias of two axes": lambda: ops.Dense("d", ("x",), "y", weights(5, 2), weights(1, 2)),
    "a window larger than the image": lambda: program_of(
        ops.MaxPooling("m", ("x",), "y", (3, 3), (1, 1)), tensor("x", 2, 2, 1), tensor("y", 1, 1, 1)
    ),
    "an axis that is not there": lambda: program_of(
        ops.Concatenate("j", ("x",), "y", 3), tensor("x", 2, 2, 1), tensor("y", 2, 2, 1)
    ),
    "a negative axis": lambda: ops.Concatenate("j", ("x",), "y", -1),
    "sums of unequal sizes": lambda: program_of(ops.Add("a", ("x", "x"), "y"), tensor("x", 2), tensor("y", 4)),
    "no inputs": lambda: ops.Add("a", (), "y"),
    "128 inputs": lambda: ops.Add("a", ("x",) * 128, "y"),
    "two inputs of one": lambda: ops.Reshape("r", ("x", "x"), "y"),
    "inputs in a list": lambda: ops.Reshape("r", ["x"], "y"),
    "an activation of another type": lambda: ops.Add("a", ("x",), "y", ["relu"]),
    "a table of texts": lambda: ops.LookUpTable("l", ("x",), "y", np.array(["1"]), "silu"),
    "a table's function": lambda: ops.LookUpTable("l", ("x",), "y", np.arange(4), 3),
}


@pytest.mark.parametrize("wrong", WRONG_OPERATIONS)
def test_an_operation_that_would_write_out_of_bounds_is_refused(wrong):
    complaint(WRONG_OPERATIONS[wrong])


def test_one_pixel_may_lose_its_two_axes_and_no_other_shape_may():
    pool = ops.MaxPooling("m", ("x",), "y", (2, 2), (1, 1))
    program_of(pool, tensor("x", 2, 2, 3), tensor("y", 3))
    complaint(program_of, pool, tensor("x", 2, 2, 3), tensor("y", 1, 3))
    dense = ops.Dense("d", ("x",), "y", weights(5, 3), weights(3))
    complaint(program_of, dense, tensor("x", 5), tensor("y", 1, 1, 3))


def test_weights_have_a_bounded_number_of_channels():
    complaint(ops.Weights, np.zeros((1, MAX_CHANNELS + 1), int), np.zeros(MAX_CHANNELS + 1, int), 8)
    complaint(ops.Weights, np.zeros((1, 0), int), np.zeros(0, int), 8)
    complaint(ops.Weights, np.zeros((), int), np.zeros((), int), 8)


def test_a_program_has_an_input_an_output_and_bounded_numbers_of_both():
    program = every_operation()
    for field in ("tensors", "inputs", "outputs"):
        complaint(dataclasses.replace, program, **{field: ()})
        complaint(dataclasses.replace, program, **{field: list(getattr(program, field))})
        complaint(dataclasses.replace, program, **{field: (3,)})
    complaint(dataclasses.replace, program, outputs=program.outputs * 64)
    complaint(dataclasses.replace, program, inputs=("x", "x"))
    complaint(dataclasses.replace, program, outputs=(Output("nowhere"),))


def test_tensors_have_less_than_2_to_the_31_integers_in_all():
    halves = [ops.Tensor(name, (2**30,), X) for name in "xy"]
    assert "elements" in complaint(program_of, ops.Reshape("r", ("x",), "y"), *halves)


@pytest.mark.parametrize("name", [*INJECTIONS, "", "2nd", "a b", "stdint", "é", 3, None, "n" * 129])
def test_the_name_of_c_files_is_an_identifier(name, tmp_path):
    complaint(write_c, every_operation(), tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_of_a_long_name_an_identifier_has_what_c_distinguishes(tmp_path):
    name = "n" * MAX_NAME_LENGTH
    exercise(
        program_of(ops.Dense(name, ("x",), "y", weights(4, 2), weights(2)), tensor("x", 4), tensor("y", 2)), tmp_path
    )
    dense = ops.Dense("d", ("x",), name, weights(4, 2), weights(2))
    exercise(Program("p", (tensor("x", 4), tensor(name, 2)), ("x",), (dense,), (Output(name),)), tmp_path)
    text = (tmp_path / "net.c").read_text()
    assert f"t1_{name[:MAX_LABEL_LENGTH]}_weights" in text
    assert max(map(len, re.findall(r"[A-Za-z_]\w*", text))) <= 63


def test_names_that_look_alike_become_different_identifiers(tmp_path):
    """And a name that closes a comment or a text is no name at all."""
    names = ("a b", "a_b", "a-b", "*/ int x; /*", '"a"', "int", "t0_a_b", "ä")
    steps = tuple(ops.Reshape(name, (before,), name) for before, name in zip(("x", *names), names, strict=False))
    tensors = tuple(tensor(name, 2) for name in ("x", *names))
    source = write_c(Program("*/", tensors, ("x",), steps, (Output(names[-1]),)), tmp_path, "net").source.read_text()
    declared = [line.split()[3].removeprefix("*") for line in source.splitlines() if "*const t" in line]
    assert len(set(declared)) == len(tensors)
    assert "/*" not in source[source.index("void net_run") :]


@pytest.mark.parametrize("name", ["conv/computed", "x/input", "conv/kernel", "/zero_int8"])
def test_a_tensor_that_would_share_its_name_in_onnx_is_refused(name, tmp_path):
    """Else its readers get the other value."""
    pytest.importorskip("onnx", reason="onnx is not installed: po2quant[exchange]")
    conv = ops.Conv2D("conv", ("x",), name, weights(1, 1, 4, 2), weights(2))
    pool = ops.MaxPooling("pool", (name,), "y", (1, 1), (1, 1))
    tensors = (tensor("x", 2, 2, 4), tensor(name, 2, 2, 2), tensor("y", 2, 2, 2))
    program = Program("p", tensors, ("x",), (conv, pool), (Output("y"),))
    assert repr(name) in complaint(to_onnx, program, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exponent", [-127, 121])
def test_scales_that_float32_does_not_hold_are_refused(exponent, tmp_path):
    """They would become 0, or make values infinite."""
    pytest.importorskip("onnx", reason="onnx is not installed: po2quant[exchange]")
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: po2quant[exchange]")
    far = FixedPointFormat(8, exponent)
    program = program_of(
        ops.MaxPooling("m", ("x",), "y", (1, 1), (1, 1)), *(tensor(n, 1, 1, 1, format=far) for n in "xy")
    )
    for write in (to_onnx, to_qonnx, to_litert):
        assert "float32" in complaint(write, program, tmp_path / "file")
    assert not list(tmp_path.iterdir())


@FILES
@given(damages())
def test_a_damaged_program_is_refused_or_handled_by_all(tmp_path, damage):
    """Fields dropped, repeated, of other types, huge, injected; arrays of other shapes and types."""
    path = tmp_path / "program.npz"
    every_operation().save(path)
    head, arrays = unpacked(path)
    damage(head, arrays)
    pack(path, head, arrays)
    with refused():
        exercise(Program.load(path), tmp_path)


@FILES
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_file_of_other_bytes_is_refused_or_handled_by_all(tmp_path, changes):
    path = tmp_path / "program.npz"
    every_operation().save(path)
    content = bytearray(path.read_bytes())
    for place, byte in changes:
        content[int(place * len(content))] = byte
    path.write_bytes(content)
    with refused():
        exercise(Program.load(path), tmp_path)


ODD = (None, (), [], {}, 1.5, X, Y, np.zeros(3))
VALUES = st.one_of(st.sampled_from((*NUMBERS, *INJECTIONS, *ODD)), st.integers(-3, 9))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_field_takes_what_it_cannot_use(data):
    """Of every class: a value of any type is taken and kept in its type, or refused in a sentence."""
    program = every_operation()
    record = data.draw(
        st.sampled_from((*program.operations, *program.tensors, *program.outputs, X, WEIGHTS[0], program))
    )
    field = data.draw(st.sampled_from(dataclasses.fields(record))).name
    value = data.draw(st.one_of(VALUES, st.tuples(VALUES, VALUES), st.tuples(st.tuples(VALUES, VALUES))))
    with refused():
        kind = type(getattr(record, field))
        assert type(getattr(dataclasses.replace(record, **{field: value}), field)) is kind


@pytest.mark.slow
def test_as_many_tensors_as_there_may_be_are_placed():
    """All but a few live at once."""
    names, sums = [f"t{i}" for i in range(4000)], [f"s{i}" for i in range(40)]
    steps = [ops.Requantize(name, ("x",), name) for name in names]
    steps += [ops.Add(name, tuple(names[i::40]), name) for i, name in enumerate(sums)]
    rest = [f"r{i}" for i in range(MAX_TENSORS - 4042)]
    steps += [ops.Reshape(name, ("x",), name) for name in rest]
    tensors = tuple(tensor(name, 1) for name in ("x", *names, *sums, *rest, "y"))
    program = Program("many", tensors, ("x",), (*steps, ops.Add("y", tuple(sums), "y")), (Output("y"),))
    assert 4000 <= memory_bytes(program)[1] / ALIGNMENT_BYTES <= MAX_TENSORS
    assert str(MAX_TENSORS) in complaint(dataclasses.replace, program, tensors=(*tensors, tensor("z", 1)))
