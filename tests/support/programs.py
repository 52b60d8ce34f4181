"""Integer programs without Keras: one of every operation, what wrong files hold, and all that reads a program."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from po2quant.export.c.run import compile_c
from po2quant.export.c.source import memory_bytes, write_c
from po2quant.export.litert.to_litert import to_litert
from po2quant.export.onnx.to_onnx import to_onnx
from po2quant.export.onnx.to_qonnx import to_qonnx
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.interpreter import results, run
from po2quant.integer.listing import listing
from po2quant.integer.program import SOFTMAX, Output, Program

X = FixedPointFormat(8, -5, signed=True, narrow_range=True)
Y = FixedPointFormat(6, -2, signed=False)
Z = FixedPointFormat(7, -3, signed=False)

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover")
LONGEST_ERROR = 400
HEADERS = (
    "<stddef.h>",
    "<stdint.h>",
    "<stdio.h>",
    "<string.h>",
    "<arm_mve.h>",
    "<immintrin.h>",
    '"net.h"',
    '"packed.h"',
)
INCLUDES = {f"#include {name}" for name in HEADERS}
SMALL = 10_000
"""Integers of a program, padding included, up to which the interpreter is run too."""


def weights(*shape: int, bits: int = 8) -> ops.Weights:
    rng = np.random.default_rng(sum(shape))
    high = 2 ** (bits - 1) - 1
    return ops.Weights(rng.integers(-high, high + 1, shape), rng.integers(-9, -3, shape[-1]), bits)


def every_operation() -> Program:
    """Return a program that has each kind of operation once."""
    tensors = {"x": (6, 5, 4), "pad": (7, 6, 4), "conv": (3, 3, 8), "low": (3, 3, 8), "gate": (1, 1, 8)}
    tensors |= {"gated": (3, 3, 8), "sum": (3, 3, 8), "f": (3, 3, 8), "joined": (3, 3, 16), "max": (2, 2, 16)}
    tensors |= {
        "turned": (2, 16, 2),
        "flat": (64,),
        "sequence": (4, 16),
        "state": (3,),
        "y": (3,),
        "larger": (3, 3, 8),
        "smaller": (3, 3, 8),
    }
    kinds = dict.fromkeys(tensors, Y) | {"x": X, "pad": X, "y": X, "larger": Z}
    table = np.random.default_rng(0).integers(0, 64, 64)
    operations = (
        ops.ZeroPadding("pad", ("x",), "pad", ((0, 1), (1, 0))),
        ops.Conv2D(
            "conv",
            ("pad",),
            "conv",
            weights(3, 3, 1, 8),
            weights(8, bits=31),
            (2, 2),
            (1, 1),
            ((0, 0), (1, 0)),
            4,
            ops.RELU6,
        ),
        ops.Requantize("low", ("conv",), "low", ops.RELU),
        ops.AveragePooling("gate", ("conv",), "gate", (3, 3), (1, 1)),
        ops.Multiply("multiply", ("low", "gate"), "gated"),
        ops.Add("add", ("gated", "conv"), "sum", ops.RELU),
        ops.LookUpTable("swish", ("sum",), "f", table, "silu"),
        ops.Maximum("maximum", ("f", "low"), "larger"),
        ops.Minimum("minimum", ("larger", "sum"), "smaller", ops.RELU6),
        ops.Concatenate("join", ("smaller", "low"), "joined", 2),
        ops.MaxPooling("max", ("joined",), "max", (2, 2), (1, 1)),
        ops.Rearrange("turn", ("max",), "turned", (2, 16, 2), (32, -1, 16), 15),
        ops.Reshape("flatten", ("turned",), "flat"),
        ops.Reshape("cut", ("flat",), "sequence"),
        ops.Recurrent("recurrent", ("sequence",), "state", cell(), 4, False),
        ops.Dense("dense", ("state",), "y", weights(3, 3), weights(3, bits=16)),
    )
    assert {type(operation) for operation in operations} == set(ops.OPERATIONS)
    listed = tuple(ops.Tensor(name, shape, kinds[name]) for name, shape in tensors.items())
    return Program("every", listed, ("x",), operations, (Output("y", SOFTMAX), Output("flat")))


def cell() -> ops.Cell:
    """Return the step of a recurrent operation with a state of 3."""
    shapes: dict[str, tuple[int, ...]] = {"now": (16,), "before": (3,), "product": (3,), "memory": (3,), "after": (3,)}
    tensors = tuple(ops.Tensor(name, shape, X if name == "product" else Y) for name, shape in shapes.items())
    steps = (
        ops.Dense("kernel", ("now",), "product", weights(16, 3), weights(3, bits=31)),
        ops.Dense("recurrent_kernel", ("before",), "memory", weights(3, 3), weights(3, bits=31)),
        ops.Add("step", ("product", "memory"), "after", ops.RELU),
    )
    return ops.Cell(tensors, ("now", "before"), steps, ("after",))


def program_of(operation: ops.Operation, x: ops.Tensor, y: ops.Tensor) -> Program:
    return Program("p", (x, y), ("x",), (operation,), (Output("y"),))


def tensor(name: str, *shape: int, format: FixedPointFormat = X) -> ops.Tensor:
    return ops.Tensor(name, shape, format)


def unpacked(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the JSON data and the arrays of a program file."""
    with np.load(path) as stored:
        arrays = dict(stored)
    return json.loads(bytes(arrays.pop("json")).decode()), arrays


def pack(path: Path, head: Any, arrays: dict[str, np.ndarray]) -> None:
    """Write a program file as it is, right or wrong."""
    np.savez(path, json=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)


INJECTIONS = (
    "0)\n#include <stdlib.h>\nstatic void p(void) __attribute__((constructor));\n#define D (0",
    "*/ system(1); /*",
    '"; system(1); //',
    "${name}$",
    "x" * 10_000,
    "\\" * 250,
    "\x00\x1b[2J\ud800",
    "../../evil",
)
NUMBERS = (-1, 0, 1, 2, 3, 7, 255, 46341, 2**15, 2**31 - 1, 2**31, 2**62, -(2**62), 10**30)

junk = st.one_of(
    st.sampled_from(NUMBERS),
    st.integers(-40, 40),
    st.sampled_from(INJECTIONS),
    st.sampled_from(("", "x", "y", "conv", "pad", "relu6", "softmax", "linear", "conv/computed", "x/input")),
    st.sampled_from((None, True, False, 1.5, float("nan"), [], {}, [[]], [0], [1, 1], [3, 3, 8], [1] * 9, [1] * 200)),
    st.sampled_from(({"class": "Program"}, {"class": ["x"]}, {"array": "array_0"}, {"array": 3}, {"class": "Output"})),
    st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4),
)
"""What may stand where a field of a program was."""


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in JSON data: the list or object, and the index or key."""
    for key in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, key
        yield from places(data[key])


DAMAGES = ("near", "near", "near", "array", "array", "replace", "drop", "repeat")


@st.composite
def damages(draw: st.DrawFn) -> Callable[[Any, dict[str, np.ndarray]], None]:
    """Draw one to three changes of a program file's JSON data and arrays, most of them wrong."""
    kinds = draw(st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=3))
    picks = [draw(st.integers(0, 2**16)) for _ in kinds]
    values = [draw(junk) for _ in kinds]
    steps = [draw(st.sampled_from((-900, -30, -2, -1, 1, 2, 30, 900))) for _ in kinds]

    def damage(head: Any, arrays: dict[str, np.ndarray]) -> None:
        for kind, pick, value, step in zip(kinds, picks, values, steps, strict=True):
            found = list(places(head))
            if kind == "near":
                found = [(box, key) for box, key in found if type(box[key]) is int and key != "version"] or found
            if not found:
                return
            box, key = found[pick % len(found)]
            if kind == "array" and arrays:
                name = sorted(arrays)[pick % len(arrays)]
                arrays[name] = _other_array(arrays[name], pick, step)
            elif kind == "near" and type(box[key]) is int:
                box[key] += step
            elif kind == "drop":
                del box[key]
            elif kind == "repeat" and isinstance(box, list):
                box.append(box[key])
            else:
                box[key] = value

    return damage


def _other_array(array: np.ndarray, pick: int, step: int) -> np.ndarray:
    array = array.astype(np.int64)
    return (
        array + step,
        array // step,
        np.where(np.arange(array.size).reshape(array.shape) % 3, array, step),
        np.flip(array),
        array * 2 ** (pick % 62),
        array.astype(float),
        array.astype(object),
        array.ravel()[: array.size // 2],
        array.reshape(1, *array.shape),
        np.zeros_like(array),
        np.array(pick),
    )[pick % 11]


def exercise(program: Program, folder: Path) -> None:
    """Use a program as all rooms do: each works, or refuses in one sentence.

    What is written as C holds numbers and identifiers of our own only.
    """
    works = (
        lambda: listing(program),
        lambda: memory_bytes(program),
        lambda: write_c(program, folder, "net"),
        lambda: write_c(program, folder, "packed", pack=True),
    )
    for work in works:
        with refused():
            work()
    for path in folder.glob("*.[ch]"):
        text = path.read_text(encoding="ascii")
        assert "\n    ,\n" not in text and "system(" not in text and "static void p(void)" not in text
        assert set(re.findall(r"#include \S+", text)) <= INCLUDES
    if importlib.util.find_spec("onnx"):
        with refused():
            to_onnx(program, folder / "net.onnx")
        with refused():
            to_qonnx(program, folder / "net.qonnx")
    if importlib.util.find_spec("ai_edge_litert"):
        with refused():
            to_litert(program, folder / "net.tflite")
    if _size(program) <= SMALL:
        rng = np.random.default_rng(0)
        tensors = [program.tensor[name] for name in program.inputs]
        x = [rng.integers(x.format.min_int, x.format.max_int + 1, (2, *x.shape)) for x in tensors]
        with refused():
            computed = run(program, x)
            results(program, computed)
            formats = {tensor.name: tensor.format for block in program.blocks for tensor in block.tensors}
            for name, integers in computed.items():
                format = formats[name]
                assert format.min_int <= integers.min() and integers.max() <= format.max_int


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Let a ValueError pass that is one printable line of a bounded length."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        assert message.isprintable() and 0 < len(message) <= LONGEST_ERROR, message


def _size(program: Program) -> int:
    """Return the integers of all tensors, padded images and windows."""
    size = sum(tensor.size for tensor in program.tensors)
    for operation in program.operations:
        image = (*program.inputs_of(operation)[0].shape, 1)
        (top, bottom), (left, right) = getattr(operation, "padding", ((0, 0), (0, 0)))
        size += (image[0] + top + bottom) * (image[1] + left + right) * image[-2]
        size += math.prod(getattr(operation, "window", ()))
    return size


def run_c(source, integers, folder, trace=False, flags=()):
    """Compile a program and run it on integers."""
    return compile_c(source, folder, trace, flags).run(integers)
