"""The C of integer programs: every integer as the interpreter computes it, without a warning or undefined behaviour."""

from __future__ import annotations

import math
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import complaint

from po2quant.export.c.operations import merged_axes, packed
from po2quant.export.c.run import COMPILER, FLAGS, SANITIZERS, run_c
from po2quant.export.c.source import write_c
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.interpreter import run
from po2quant.integer.operations import (
    ACTIVATIONS,
    OPERATIONS,
    Add,
    AveragePooling,
    Concatenate,
    Conv2D,
    Dense,
    LookUpTable,
    Maximum,
    MaxPooling,
    Minimum,
    Multiply,
    Operation,
    Rearrange,
    Requantize,
    Reshape,
    Tensor,
    Weights,
    ZeroPadding,
)
from po2quant.integer.program import SOFTMAX, Output, Program

needs_gcc = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
STRICT = ("-Werror", "-pedantic")
SANITIZED = ("-O1", *SANITIZERS)
SAMPLES = 3
STEPS = 45


def integers(format: FixedPointFormat, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return integers of a format, one of three of them at an end of its range."""
    values = rng.integers(format.min_int, format.max_int + 1, shape)
    return np.where(rng.random(shape) < 1 / 3, rng.choice([format.min_int, format.max_int], shape), values)


class RandomProgram:
    """Appends random operations to images, each with a random format; :meth:`program` is the result."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = [Tensor("a", (7, 6, 4), self.format()), Tensor("b", (7, 6, 4), self.format())]
        self.operations: list[Operation] = []

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def format(self) -> FixedPointFormat:
        """Return a format of 2 to 16 bits that ends between 2 and 16."""
        bits, signed, narrow = self.number(2, 16), bool(self.number(0, 1)), bool(self.number(0, 1))
        return FixedPointFormat(bits, self.number(1, 4) - bits + signed, signed, narrow)

    def weights(self, *shape: int, bits: int, exponent: int) -> Weights:
        exponents = exponent + self.rng.integers(-2, 3, shape[-1]) * self.number(0, 1)
        return Weights(integers(FixedPointFormat(bits), shape, self.rng), exponents, bits)

    def layer(self, *shape: int) -> dict:
        """Return a kernel that keeps the size of values, a bias of up to 31 bits, and an activation."""
        bits, bias_bits = self.number(2, 16), self.number(2, 31)
        growth = math.prod(shape[:-1]).bit_length() // 2
        kernel = self.weights(*shape, bits=bits, exponent=1 - bits - growth)
        bias = self.weights(shape[-1], bits=bias_bits, exponent=self.number(0, 2) - bias_bits)
        return {"kernel": kernel, "bias": bias, "activation": str(self.rng.choice(ACTIVATIONS))}

    def window(self) -> dict:
        rows, columns = self.number(1, 3), self.number(1, 3)
        around = [(self.number(0, size - 1), self.number(0, size - 1)) for size in (rows, columns)]
        return {
            "window": (rows, columns),
            "strides": (self.number(1, 2), self.number(1, 2)),
            "padding": (around[0], around[1]),
        }

    def append(self, operation: Operation, format: FixedPointFormat | None = None) -> bool:
        """Append an operation if it makes an image, and sums that a register holds."""
        known = {tensor.name: tensor for tensor in self.tensors}
        try:
            shape = operation.output_shape(tuple(known[name].shape for name in operation.inputs))
        except ValueError:
            return False
        if math.prod(shape) > 1000:
            return False
        output = Tensor(operation.output, shape, format or self.format())
        inputs = tuple(known[name] for name in operation.inputs)
        alone = Program(
            "alone",
            (*{tensor.name: tensor for tensor in inputs}.values(), output),
            tuple({tensor.name for tensor in inputs}),
            (operation,),
            (Output(operation.output),),
        )
        try:
            _ = alone.plans
        except ValueError:
            return False
        self.tensors.append(output)
        self.operations.append(operation)
        return True

    def step(self, kind: str) -> bool:
        x = self.tensors[self.number(0, len(self.tensors) - 1)]
        names = (f"layer {len(self.operations)}", (x.name,), f'{kind}/"{len(self.operations)}"')
        window, depth = self.window(), x.shape[2]
        size, strides, padding = window["window"], window["strides"], window["padding"]
        same = [tensor for tensor in self.tensors if tensor.shape == x.shape]
        other = same[self.number(0, len(same) - 1)]
        pair = (names[0], (x.name, other.name), names[2])
        dilation = (self.number(1, 2), self.number(1, 2))
        match kind:
            case "conv":
                return self.append(
                    Conv2D(
                        *names,
                        **self.layer(*size, depth, self.number(1, 6)),
                        strides=strides,
                        padding=padding,
                        dilation=dilation,
                    )
                )
            case "pointwise":
                return self.append(Conv2D(*names, **self.layer(1, 1, depth, self.number(1, 6))))
            case "grouped":
                layer = self.layer(*size, max(depth // 2, 1), 6)
                return depth % 2 == 0 and self.append(
                    Conv2D(*names, **layer, strides=strides, padding=padding, groups=2)
                )
            case "depthwise":
                layer = self.layer(*size, 1, depth * self.number(1, 2))
                return self.append(
                    Conv2D(*names, **layer, strides=strides, padding=padding, dilation=dilation, groups=depth)
                )
            case "dense":
                return self.append(Dense(*names, **self.layer(depth, self.number(1, 5))))
            case "average":
                return self.append(AveragePooling(*names, **window))
            case "global":
                return self.append(AveragePooling(*names, x.shape[:2], (1, 1)))
            case "max":
                return self.append(MaxPooling(*names, **window))
            case "add":
                return self.append(Add(*pair, activation=str(self.rng.choice(ACTIVATIONS))))
            case "add three":
                return self.append(Add(pair[0], (x.name, other.name, x.name), pair[2]))
            case "maximum":
                return self.append(Maximum(*pair, activation=str(self.rng.choice(ACTIVATIONS))))
            case "minimum":
                return self.append(Minimum(pair[0], (x.name, other.name, x.name), pair[2]))
            case "walk":
                rows, columns, depth = x.shape
                turned = (rows, columns, 2), (columns * depth, -depth, 0), (columns - 1) * depth
                return self.append(Rearrange(*names, *turned), x.format)
            case "gate":
                gates = [tensor for tensor in self.tensors if tensor.shape == (1, 1, depth)]
                return bool(gates) and self.append(Multiply(names[0], (x.name, gates[0].name), names[2]))
            case "concatenate":
                return self.append(Concatenate(*pair, axis=self.number(0, 2)))
            case "requantize":
                return self.append(Requantize(*names, activation=str(self.rng.choice(ACTIVATIONS))))
            case "reshape":
                return self.append(Reshape(*names), x.format)
            case "pad":
                return self.append(ZeroPadding(*names, padding=padding), x.format)
        output = self.format()
        table = integers(output, (x.format.max_int - x.format.min_int + 1,), self.rng)
        return x.format.bit_width <= 8 and self.append(LookUpTable(*names, table=table, function="any"), output)

    def program(self) -> Program:
        """Return a program whose outputs are a tensor, its reshaped self, an input, and the last tensor twice."""
        reshaped = next(operation for operation in self.operations if isinstance(operation, Reshape))
        outputs = (reshaped.inputs[0], reshaped.output, "a", self.operations[-1].output, self.operations[-1].output)
        return Program(
            "random", tuple(self.tensors), ("a", "b"), tuple(self.operations), tuple(Output(name) for name in outputs)
        )


KINDS = (
    *("conv", "grouped", "depthwise", "pointwise", "dense", "average", "global", "max", "add", "gate", "concatenate"),
    *("requantize", "look-up", "reshape", "pad", "add three", "maximum", "minimum", "walk"),
)


def random_program(seed: int) -> Program:
    builder = RandomProgram(seed)
    kinds = [KINDS[step % len(KINDS)] for step in range(STEPS)]
    for kind in kinds:
        for _ in range(20):
            if builder.step(kind):
                break
    return builder.program()


def samples(program: Program, count: int = SAMPLES) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [integers(program.tensor[name].format, (count, *program.tensor[name].shape), rng) for name in program.inputs]


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@needs_gcc
@pytest.mark.parametrize(
    ("seed", "pack", "flags"),
    [(0, False, SANITIZED), (1, True, SANITIZED), (2, False, ()), (3, False, ("-march=native",))],
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


def wide_program() -> Program:
    """Return sums of 64 bits beside sums of 32, tensors of 32 bits, ties, jammed products and saturated outputs."""
    wide, unsigned, narrow = FixedPointFormat(32, 0), FixedPointFormat(32, 0, signed=False), FixedPointFormat(8, -4)
    rng = np.random.default_rng(0)

    def weights(bits: int, exponents: list[int], *shape: int) -> Weights:
        return Weights(integers(FixedPointFormat(bits), (*shape, len(exponents)), rng), np.array(exponents), bits)

    ties = Weights(np.array([2**12 + d for d in (-1, 0, 1)]), np.full(3, -17), 16)
    operations = {
        "wide dense": (Dense, FixedPointFormat(32, 26), [weights(24, [0] * 3, 4), weights(31, [5] * 3)], "w"),
        "wide depthwise": (
            Conv2D,
            FixedPointFormat(9, 22),
            [weights(19, [0, 2] * 2, 2, 2, 1), weights(9, [9] * 4)],
            "w",
        ),
        "zero": (Dense, narrow, [Weights(np.zeros((4, 1), int), np.array([0]), 2), weights(31, [-35])], "u"),
        "jammed": (
            Dense,
            FixedPointFormat(16, -6),
            [weights(8, [-100], 4), Weights(np.array([2**12]), [-19], 31)],
            "n",
        ),
        "ties": (Dense, narrow, [weights(3, [-9, -4, -1], 4), ties], "n"),
        "left": (Requantize, FixedPointFormat(16, -30), [], "n"),
        "square": (Multiply, FixedPointFormat(32, 30), [], "w n"),
        "aligned": (Add, FixedPointFormat(12, 3), [], "w n"),
        "all": (Requantize, unsigned, [], "w"),
        "largest": (MaxPooling, FixedPointFormat(31, 2), [(2, 2), (1, 1)], "u"),
        "mean": (AveragePooling, FixedPointFormat(32, -3), [(3, 1), (2, 1), ((1, 1), (0, 0))], "w"),
        "halves": (AveragePooling, FixedPointFormat(5, -3), [(3, 3), (1, 1)], "n"),
        "one": (AveragePooling, FixedPointFormat(8, 31), [(1, 1), (1, 1)], "w31"),
        "joined": (Concatenate, FixedPointFormat(20, 1), [2], "w n u"),
        "double": (Requantize, narrow, [], "ties"),
    }
    formats = {"w": wide, "u": unsigned, "n": narrow, "w31": FixedPointFormat(31, 0)}
    tensors = {name: Tensor(name, (3, 3, 4), format) for name, format in formats.items()}
    listed = []
    for name, (kind, format, fields, inputs) in operations.items():
        extra = {"groups": 4, "padding": ((1, 0), (0, 1))} if kind is Conv2D else {}
        operation = kind(name, tuple(inputs.split()), name, *fields, **extra)
        shape = operation.output_shape(tuple(tensors[x].shape for x in operation.inputs))
        tensors[name] = Tensor(name, shape, format)
        listed.append(operation)
    return Program("wide", tuple(tensors.values()), tuple(formats), tuple(listed), (Output("double", SOFTMAX),))


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
