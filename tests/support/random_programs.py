"""Random integer programs, and one that needs every width: for backends that must compute what the interpreter does."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from po2quant.fixed_point import FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.program import SOFTMAX, Output, Program

SAMPLES = 3
STEPS = 45


def integers(format: FixedPointFormat, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return integers of a format, one of three of them at an end of its range."""
    values = rng.integers(format.min_int, format.max_int + 1, shape)
    return np.where(rng.random(shape) < 1 / 3, rng.choice([format.min_int, format.max_int], shape), values)


class RandomProgram:
    """Appends random operations to images, each with a random format; :meth:`program` is the result."""

    def __init__(self, seed: int, most_bits: int = 16) -> None:
        self.rng, self.most_bits = np.random.default_rng(seed), most_bits
        self.tensors = [ops.Tensor("a", (7, 6, 4), self.format()), ops.Tensor("b", (7, 6, 4), self.format())]
        self.operations: list[ops.Operation] = []

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def format(self) -> FixedPointFormat:
        """Return a format of 2 to 16 bits, or fewer, that ends between 2 and 16."""
        bits, signed, narrow = self.number(2, self.most_bits), bool(self.number(0, 1)), bool(self.number(0, 1))
        return FixedPointFormat(bits, self.number(1, 4) - bits + signed, signed, narrow)

    def weights(self, *shape: int, bits: int, exponent: int) -> ops.Weights:
        exponents = exponent + self.rng.integers(-2, 3, shape[-1]) * self.number(0, 1)
        return ops.Weights(integers(FixedPointFormat(bits), shape, self.rng), exponents, bits)

    def layer(self, *shape: int) -> dict:
        """Return a kernel that keeps the size of values, a bias of up to 31 bits, and an activation."""
        bits, bias_bits = self.number(2, self.most_bits), self.number(2, 31)
        growth = math.prod(shape[:-1]).bit_length() // 2
        kernel = self.weights(*shape, bits=bits, exponent=1 - bits - growth)
        bias = self.weights(shape[-1], bits=bias_bits, exponent=self.number(0, 2) - bias_bits)
        return {"kernel": kernel, "bias": bias, "activation": str(self.rng.choice(ops.ACTIVATIONS))}

    def window(self) -> dict:
        rows, columns = self.number(1, 3), self.number(1, 3)
        around = [(self.number(0, size - 1), self.number(0, size - 1)) for size in (rows, columns)]
        return {
            "window": (rows, columns),
            "strides": (self.number(1, 2), self.number(1, 2)),
            "padding": (around[0], around[1]),
        }

    def append(self, operation: ops.Operation, format: FixedPointFormat | None = None) -> bool:
        """Append an operation if it makes an image, and sums that a register holds."""
        known = {tensor.name: tensor for tensor in self.tensors}
        try:
            shape = operation.output_shape(tuple(known[name].shape for name in operation.inputs))
        except ValueError:
            return False
        if math.prod(shape) > 1000:
            return False
        output = ops.Tensor(operation.output, shape, format or self.format())
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
                    ops.Conv2D(
                        *names,
                        **self.layer(*size, depth, self.number(1, 6)),
                        strides=strides,
                        padding=padding,
                        dilation=dilation,
                    )
                )
            case "pointwise":
                return self.append(ops.Conv2D(*names, **self.layer(1, 1, depth, self.number(1, 6))))
            case "grouped":
                layer = self.layer(*size, max(depth // 2, 1), 6)
                return depth % 2 == 0 and self.append(
                    ops.Conv2D(*names, **layer, strides=strides, padding=padding, groups=2)
                )
            case "depthwise":
                layer = self.layer(*size, 1, depth * self.number(1, 2))
                return self.append(
                    ops.Conv2D(*names, **layer, strides=strides, padding=padding, dilation=dilation, groups=depth)
                )
            case "dense":
                return self.append(ops.Dense(*names, **self.layer(depth, self.number(1, 5))))
            case "average":
                return self.append(ops.AveragePooling(*names, **window))
            case "global":
                return self.append(ops.AveragePooling(*names, x.shape[:2], (1, 1)))
            case "max":
                return self.append(ops.MaxPooling(*names, **window))
            case "add":
                return self.append(ops.Add(*pair, activation=str(self.rng.choice(ops.ACTIVATIONS))))
            case "add three":
                return self.append(ops.Add(pair[0], (x.name, other.name, x.name), pair[2]))
            case "maximum":
                return self.append(ops.Maximum(*pair, activation=str(self.rng.choice(ops.ACTIVATIONS))))
            case "minimum":
                return self.append(ops.Minimum(pair[0], (x.name, other.name, x.name), pair[2]))
            case "walk":
                rows, columns, depth = x.shape
                turned = (rows, columns, 2), (columns * depth, -depth, 0), (columns - 1) * depth
                return self.append(ops.Rearrange(*names, *turned), x.format)
            case "gate":
                gates = [tensor for tensor in self.tensors if tensor.shape == (1, 1, depth)]
                return bool(gates) and self.append(ops.Multiply(names[0], (x.name, gates[0].name), names[2]))
            case "concatenate":
                return self.append(ops.Concatenate(*pair, axis=self.number(0, 2)))
            case "requantize":
                return self.append(ops.Requantize(*names, activation=str(self.rng.choice(ops.ACTIVATIONS))))
            case "recurrent":
                operation = ops.Recurrent(*names, self.cell(names[2], x), x.shape[0], True)
                return self.append(operation, operation.cell.result.format)
            case "reshape":
                return self.append(ops.Reshape(*names), x.format)
            case "pad":
                return self.append(ops.ZeroPadding(*names, padding=padding), x.format)
        output = self.format()
        table = integers(output, (x.format.max_int - x.format.min_int + 1,), self.rng)
        return x.format.bit_width <= 8 and self.append(ops.LookUpTable(*names, table=table, function="any"), output)

    def cell(self, name: str, x: ops.Tensor) -> ops.Cell:
        """Return a step that adds products with its part of an image and with a state, and scales another state."""
        columns, depth, units = *x.shape[1:], self.number(1, 4)
        shapes = {"now": (columns, depth)} | dict.fromkeys(("before", "kept", "old", "new", "after"), (columns, units))
        tensors = {part: ops.Tensor(f"{name}/{part}", shape, self.format()) for part, shape in shapes.items()}
        tensors["now"] = dataclasses.replace(tensors["now"], format=x.format)
        tensors["sum"] = dataclasses.replace(tensors["before"], name=f"{name}/sum")
        tensors["less"] = dataclasses.replace(tensors["kept"], name=f"{name}/less")
        names = {part: tensor.name for part, tensor in tensors.items()}
        steps = (
            ops.Dense("kernel", (names["now"],), names["new"], **self.layer(depth, units)),
            ops.Dense("recurrent_kernel", (names["before"],), names["old"], **self.layer(units, units)),
            ops.Add("add", (names["new"], names["old"], names["kept"]), names["sum"]),
            ops.Multiply("gate", (names["sum"], names["kept"]), names["after"]),
            ops.Add("keep", (names["after"], names["new"]), names["less"]),
        )
        inputs, outputs = ([names[part] for part in parts] for parts in (("now", "before", "kept"), ("sum", "less")))
        return ops.Cell(tuple(tensors.values()), tuple(inputs), steps, tuple(outputs))

    def program(self) -> Program:
        """Return a program whose outputs are a tensor, its reshaped self, an input, and the last tensor twice."""
        reshaped = next(operation for operation in self.operations if isinstance(operation, ops.Reshape))
        outputs = (reshaped.inputs[0], reshaped.output, "a", self.operations[-1].output, self.operations[-1].output)
        return Program(
            "random", tuple(self.tensors), ("a", "b"), tuple(self.operations), tuple(Output(name) for name in outputs)
        )


KINDS = (
    *("conv", "grouped", "depthwise", "pointwise", "dense", "average", "global", "max", "add", "gate", "concatenate"),
    *("requantize", "look-up", "reshape", "pad", "add three", "maximum", "minimum", "walk", "recurrent"),
)


def random_program(seed: int, most_bits: int = 16) -> Program:
    builder = RandomProgram(seed, most_bits)
    kinds = [KINDS[step % len(KINDS)] for step in range(STEPS)]
    for kind in kinds:
        for _ in range(20):
            if builder.step(kind):
                break
    return builder.program()


def with_rounding(program: Program, rounding: str) -> Program:
    """Return a program whose tensors are rounded in another mode."""

    def rounded(block: Program | ops.Cell) -> Program | ops.Cell:
        tensors = (replace(tensor, format=replace(tensor.format, rounding=rounding)) for tensor in block.tensors)
        steps = (replace(step, cell=rounded(step.cell)) if hasattr(step, "cell") else step for step in block.operations)
        return replace(block, tensors=tuple(tensors), operations=tuple(steps))

    replace = dataclasses.replace
    return rounded(program)


def samples(program: Program, count: int = SAMPLES) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [integers(program.tensor[name].format, (count, *program.tensor[name].shape), rng) for name in program.inputs]


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def wide_program() -> Program:
    """Return sums of 64 bits beside sums of 32, tensors of 32 bits, ties, jammed products and saturated outputs."""
    wide, unsigned, narrow = FixedPointFormat(32, 0), FixedPointFormat(32, 0, signed=False), FixedPointFormat(8, -4)
    rng = np.random.default_rng(0)

    def weights(bits: int, exponents: list[int], *shape: int) -> ops.Weights:
        return ops.Weights(integers(FixedPointFormat(bits), (*shape, len(exponents)), rng), np.array(exponents), bits)

    ties = ops.Weights(np.array([2**12 + d for d in (-1, 0, 1)]), np.full(3, -17), 16)
    operations = {
        "wide dense": (ops.Dense, FixedPointFormat(32, 26), [weights(24, [0] * 3, 4), weights(31, [5] * 3)], "w"),
        "wide depthwise": (
            ops.Conv2D,
            FixedPointFormat(9, 22),
            [weights(19, [0, 2] * 2, 2, 2, 1), weights(9, [9] * 4)],
            "w",
        ),
        "zero": (ops.Dense, narrow, [ops.Weights(np.zeros((4, 1), int), np.array([0]), 2), weights(31, [-35])], "u"),
        "jammed": (
            ops.Dense,
            FixedPointFormat(16, -6),
            [weights(8, [-100], 4), ops.Weights(np.array([2**12]), [-19], 31)],
            "n",
        ),
        "ties": (ops.Dense, narrow, [weights(3, [-9, -4, -1], 4), ties], "n"),
        "left": (ops.Requantize, FixedPointFormat(16, -30), [], "n"),
        "square": (ops.Multiply, FixedPointFormat(32, 30), [], "w n"),
        "aligned": (ops.Add, FixedPointFormat(12, 3), [], "w n"),
        "all": (ops.Requantize, unsigned, [], "w"),
        "largest": (ops.MaxPooling, FixedPointFormat(31, 2), [(2, 2), (1, 1)], "u"),
        "mean": (ops.AveragePooling, FixedPointFormat(32, -3), [(3, 1), (2, 1), ((1, 1), (0, 0))], "w"),
        "halves": (ops.AveragePooling, FixedPointFormat(5, -3), [(3, 3), (1, 1)], "n"),
        "one": (ops.AveragePooling, FixedPointFormat(8, 31), [(1, 1), (1, 1)], "w31"),
        "joined": (ops.Concatenate, FixedPointFormat(20, 1), [2], "w n u"),
        "double": (ops.Requantize, narrow, [], "ties"),
    }
    formats = {"w": wide, "u": unsigned, "n": narrow, "w31": FixedPointFormat(31, 0)}
    tensors = {name: ops.Tensor(name, (3, 3, 4), format) for name, format in formats.items()}
    listed = []
    for name, (kind, format, fields, inputs) in operations.items():
        extra = {"groups": 4, "padding": ((1, 0), (0, 1))} if kind is ops.Conv2D else {}
        operation = kind(name, tuple(inputs.split()), name, *fields, **extra)
        shape = operation.output_shape(tuple(tensors[x].shape for x in operation.inputs))
        tensors[name] = ops.Tensor(name, shape, format)
        listed.append(operation)
    return Program("wide", tuple(tensors.values()), tuple(formats), tuple(listed), (Output("double", SOFTMAX),))
