"""The constants and calls of each operation of an integer program in C."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from po2quant.export.c.block import BlockSource
from po2quant.export.c.functions import Functions, packed_reach_bytes, rounding_types
from po2quant.export.c.types import c_integer, short_name, tensor_dtype
from po2quant.export.c.weighted import Layer, layer_of, reachable_limits
from po2quant.integer import operations as ops
from po2quant.integer.plan import Plan

LINE_LENGTH = 120


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape as rows, columns and channels; all axes but the last two count as rows."""
    *outer, columns, channels = (1, 1, *shape)
    return math.prod(outer), columns, channels


class Calls:
    """Writer of the calls of a program's operations; it collects the constants and functions that they need.

    Args:
        program: the program, or the cell of a recurrent operation.
        identifiers: the C name of each tensor.
        pack: store weights in their own number of bits.
    """

    def __init__(self, program: ops.Block, identifiers: dict[str, str], pack: bool) -> None:
        self.program, self.identifiers, self.pack = program, identifiers, pack
        self.functions = Functions()
        self.constants: list[str] = []
        self.loops: list[str] = []
        self._sizes_bytes: list[int] = []
        self._layers: dict[str, Layer] = {}
        self._cells: dict[str, BlockSource] = {}

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(self._sizes_bytes)

    def type_of(self, tensor: str) -> str:
        """Return the C type of a tensor's integers."""
        return short_name(tensor_dtype(self.program.tensor[tensor]))

    def call(self, operation: ops.Operation, scratch: str) -> str:
        """Return the statement that computes an operation; none for one that moves nothing.

        Args:
            operation: of the program.
            scratch: memory that it needs beside its tensors; empty where it needs none.
        """
        return CALLS.of(operation)(self, operation, self.program.plan(operation), scratch)

    def scratch_bytes(self, operation: ops.Operation) -> int:
        """Return the memory that an operation needs beside its tensors."""
        if isinstance(operation, ops.Recurrent):
            return self._cell(operation).arena.size_bytes
        plan = self.program.plan(operation)
        return (
            0 if plan is None or not isinstance(operation, ops.Weighted) else self._layer(operation, plan).scratch_bytes
        )

    def _layer(self, operation: ops.Weighted, plan: Plan) -> Layer:
        if operation.output not in self._layers:
            (x,) = self.program.inputs_of(operation)
            self._layers[operation.output] = layer_of(x, operation, plan, self.pack)
        return self._layers[operation.output]

    def _cell(self, operation: ops.Recurrent) -> BlockSource:
        """Return the cell of an operation, whose sequence is ``x``, the step ``step`` and the memory ``memory``."""
        if operation.output not in self._cells:
            cell, calls = operation.cell, copy.copy(self)
            calls.program = cell
            now, *states = cell.inputs
            held = {now: f"x + step * {cell.tensor[now].size}"}
            self._cells[operation.output] = BlockSource(calls, held, "memory", (*states, *cell.outputs))
        return self._cells[operation.output]

    def kept(self, operation: ops.Reshape, plan: None, scratch: str) -> str:
        """Return nothing: the integers stay where they are."""
        return ""

    def padding(self, operation: ops.ZeroPadding, plan: None, scratch: str) -> str:
        """Return the gathering of a window as large as the output."""
        kind, ((top, _), (left, _)) = self.type_of(operation.output), operation.padding
        function = self.functions.name("gather", {"x": kind, "patch": kind, "offset": "0"})
        rows, columns, depth = self.program.shape_of(operation)
        return self._invoke(function, operation, self._window(operation, (rows, columns)), -top, -left, depth)

    def _invoke(self, function: str, operation: ops.Operation, *arguments: object) -> str:
        tensors = [self.identifiers[name] for name in (*operation.inputs, operation.output)]
        return f"{function}({', '.join(map(str, (*tensors, *arguments)))});"

    def _input_shapes(self, operation: ops.Operation) -> tuple[tuple[int, ...], ...]:
        return tuple(tensor.shape for tensor in self.program.inputs_of(operation))

    def _registers(self, operation: ops.Operation, plan: Plan) -> dict[str, str]:
        """Return the types that accumulate, and that align and round."""
        is_wide = any(self.type_of(name) == "u32" for name in operation.inputs)
        accumulator = 64 if is_wide else plan.accumulator_register
        return {"acc": f"i{accumulator}", "wide": f"i{max(accumulator, plan.sum_register)}"}

    def weighted(self, operation: ops.Weighted, plan: Plan, scratch: str) -> str:
        """Return the products of a kernel with windows of the input."""
        layer = self._layer(operation, plan)
        name, (x,) = self.identifiers[operation.output], self.program.inputs_of(operation)
        types = layer.types | {"x": self.type_of(x.name), "y": self.type_of(operation.output)}
        types |= {"low": c_integer(layer.low), "high": c_integer(layer.high)}
        types |= _vector_store(types["y"]) | {"ties": str(int("tie" in layer.channels)), "output_bits": types["y"][1:]}
        is_interleaved = layer.kernel == "interleaved_layer"
        if is_interleaved:
            types["copied"] = self.functions.name("gather", {"x": types["x"], "patch": types["x"], "offset": "0"})
        weights = self._weights(f"{name}_weights", layer)
        function = self.functions.name(layer.kernel, types)
        channels = self._channels(name, layer, self.functions.name("channels", types))
        if is_interleaved:
            sizes = f"{types['offset_bytes']}, {self.program.shape_of(operation)[-1]}, {layer.row_width}"
            self.constants.append(f"INTERLEAVED({name}, {sizes})\n")
            weights = f"WEIGHTS_OF({name})"
        window = self._window(operation, layer.window, layer.row_width)
        return self._invoke(function, operation, *[scratch] * bool(scratch), weights, channels, window)

    def pooling(self, operation: ops.Pooling, plan: Plan, scratch: str) -> str:
        """Return the mean or the largest integer of windows."""
        types = {"x": self.type_of(operation.inputs[0]), "y": self.type_of(operation.output)}
        types |= self._registers(operation, plan)
        low, high = reachable_limits(plan, types["wide"])
        types |= {"low": c_integer(low), "high": c_integer(high), "unsigned": f"u{types['wide'][1:]}"}
        types |= rounding_types(plan.rounding, types["wide"])
        types |= {"reduction": "mean"} if plan.is_mean else {"reduction": "largest", "acc": types["x"]}
        function = self.functions.name("pooling", types)
        return self._invoke(function, operation, int(plan.output_shifts[0]), self._window(operation, operation.window))

    def _loop(self, operation: ops.Operation, body: str) -> str:
        """Write a function of loops that see one integer of each input at a time, and return its call."""
        output, name = self.type_of(operation.output), f"{self.identifiers[operation.output]}_loop"
        inputs = [f"const {self.type_of(x)} *restrict x{i}" for i, x in enumerate(operation.inputs)]
        self.loops.append(f"static void {name}({', '.join(inputs)}, {output} *restrict y)\n{{\n{body}}}\n")
        return self._invoke(name, operation)

    def look_up(self, operation: ops.LookUpTable, plan: None, scratch: str) -> str:
        """Return the loop over a table."""
        x, table = self.program.inputs_of(operation)[0], f"{self.identifiers[operation.output]}_table"
        self.write_array(table, operation.table, tensor_dtype(self.program.output_of(operation)))
        place = f"(int32_t)x0[i0] - {_parenthesized(x.format.min_int)}"
        return self._loop(operation, _loops([x.size], f"y[i0] = {table}[{place}];"))

    def elementwise(self, operation: ops.Operation, plan: Plan, scratch: str) -> str:
        """Return the loops over a sum, a product, an extreme or one input."""
        sizes, strides = merged_axes(self._input_shapes(operation))
        wide = self._registers(operation, plan)["wide"]
        values = [f"({wide})x{i}[{_index(steps)}]" for i, steps in enumerate(strides)]
        if plan.input_shifts:
            values = [f"{v} * {2**shift}" for v, shift in zip(values, plan.input_shifts, strict=True)]
        combined = COMBINED.get(type(operation), "")
        value = functools.reduce(lambda x, y: combined.format(x=x, y=y, bits=wide[1:]), values)
        rounded = self._rounded(operation, plan, value, int(plan.output_shifts[0]))
        return self._loop(operation, _loops(sizes, f"y[{_index(_contiguous(sizes))}] = {rounded};"))

    def rearranging(self, operation: ops.Rearrange, plan: None, scratch: str) -> str:
        """Return the loops of a walk over the input."""
        axes = [axis for axis in zip(operation.sizes, operation.strides, strict=True) if axis[0] > 1]
        sizes, strides = [size for size, _ in axes], [stride for _, stride in axes]
        steps = [f"i{axis} * {_parenthesized(stride)}" for axis, stride in enumerate(strides) if stride]
        place = " + ".join([str(operation.offset), *steps])
        return self._loop(operation, _loops(sizes, f"y[{_index(_contiguous(sizes))}] = x0[{place}];"))

    def recurrent(self, operation: ops.Recurrent, plan: None, scratch: str) -> str:
        """Return the loop over the steps of a cell, whose tensors lie in a memory of their own."""
        cell, names, source = operation.cell, self.identifiers, self._cell(operation)
        states, result = cell.inputs[1:], cell.result
        within = [source.declaration(tensor) for tensor in cell.tensor if tensor not in states] + source.statements()
        within += [
            _copy(cell.tensor[new], names[state], f"{names[new]}[i]")
            for state, new in zip(states, cell.outputs, strict=True)
        ]
        if operation.return_sequences:
            within.append(_copy(result, f"(y + step * {result.size})", f"{names[result.name]}[i]"))
        lines = [source.declaration(state) for state in states]
        lines += [_copy(cell.tensor[state], names[state], "0") for state in states]
        lines += [
            f"for (int32_t step = 0; step < {operation.steps}; ++step) {{",
            *(f"    {line}" for line in within),
            "}",
        ]
        if not operation.return_sequences:
            lines.append(_copy(result, "y", f"{names[states[0]]}[i]"))
        name, (x, y) = f"{names[operation.output]}_steps", map(self.type_of, (operation.inputs[0], operation.output))
        body = "".join(f"    {line}\n" for line in lines)
        self.loops.append(f"static void {name}(const {x} *x, {y} *y, u8 *memory)\n{{\n{body}}}\n")
        return self._invoke(name, operation, scratch)

    def concatenation(self, operation: ops.Concatenate, plan: Plan, scratch: str) -> str:
        """Return the loops that lay inputs side by side."""
        shapes = self._input_shapes(operation)
        outer = math.prod(shapes[0][: operation.axis])
        inner = [math.prod(shape[operation.axis :]) for shape in shapes]
        body = ""
        wide = self._registers(operation, plan)["wide"]
        for i, (size, shift) in enumerate(zip(inner, plan.output_shifts.tolist(), strict=True)):
            value = self._rounded(operation, plan, f"({wide})x{i}[i0 * {size} + i1]", shift)
            body += _loops([outer, size], f"y[i0 * {sum(inner)} + {sum(inner[:i])} + i1] = {value};")
        return self._loop(operation, body)

    def _rounded(self, operation: ops.Operation, plan: Plan, value: str, shift: int) -> str:
        wide, output = self._registers(operation, plan)["wide"], self.type_of(operation.output)
        low, high = map(c_integer, reachable_limits(plan, wide))
        self.functions.arithmetic(wide, plan.rounding)
        mode = rounding_types(plan.rounding, wide)["mode"]
        return f"({output})clamp_{wide}(round_shift{mode}_{wide}({value}, {shift}), {low}, {high})"

    def _window(self, operation: Any, window: Sequence[int], row_width: int = 0) -> str:
        """Write the sizes of an operation on images, and return their address."""
        name = f"{self.identifiers[operation.output]}_window"
        (top, _), (left, _) = getattr(operation, "padding", ops.NO_PADDING)
        sizes = {
            ("height", "width", "channels"): image_shape(self._input_shapes(operation)[0]),
            ("output_height", "output_width", "output_channels"): image_shape(self.program.shape_of(operation)),
            ("rows", "columns"): window,
            ("row_stride", "column_stride"): getattr(operation, "strides", (1, 1)),
            ("row_dilation", "column_dilation"): getattr(operation, "dilation", (1, 1)),
            ("top", "left", "groups", "row_width"): (top, left, getattr(operation, "groups", 1), row_width),
        }
        fields = [f".{n} = {v}" for names, values in sizes.items() for n, v in zip(names, values, strict=True)]
        self.constants.append(f"static const window {name} = {{\n{_lines(fields)}}};\n")
        return f"&{name}"

    def _channels(self, name: str, layer: Layer, kind: str) -> str:
        """Write what becomes of the sums of each output channel, and return its address."""
        fields = []
        for field, (values, dtype) in layer.channels.items():
            alternative = layer.offset_starts if field == "start" else None
            self.write_array(f"{name}_{field}", values, dtype, alternative)
            fields.append(f".{field} = {name}_{field}")
        self.constants.append(f"static const {kind} {name}_channels = {{\n{_lines(fields)}}};\n")
        return f"&{name}_channels"

    def _weights(self, name: str, layer: Layer) -> str:
        """Write weights, in their own number of bits if they are packed, and return their name."""
        if layer.packed_bits:
            self.write_array(name, packed(layer.weights, layer.packed_bits), np.dtype("uint8"))
        else:
            self.write_array(name, layer.weights, np.dtype(f"int{layer.types['w'][1:]}"))
        return name

    def write_array(
        self, name: str, values: np.ndarray, dtype: np.dtype, with_vectors: np.ndarray | None = None
    ) -> None:
        """Write an array, at the boundary of a word, since kernels read words; or another for kernels with vectors."""
        kind = short_name(dtype)
        self._sizes_bytes.append(values.size * dtype.itemsize)
        texts = [
            f"static const {kind} {name}[{values.size}] CONSTANT = {{\n{array_text(integers)}}};\n"
            for integers in (with_vectors, values)
            if integers is not None
        ]
        guarded = f"#if defined(MVE_KERNELS)\n{texts[0]}#else\n{texts[-1]}#endif\n"
        self.constants.append(texts[0] if with_vectors is None else guarded)


def _vector_store(kind: str) -> dict[str, str]:
    """Return how four integers of 32 bits are stored as a smaller type."""
    signed, letter = kind[0] == "i", {"8": "b", "16": "h", "32": "w"}.get(kind[1:], "w")
    bits = "s32" if signed else "u32"
    return {"store": f"vstr{letter}q_{bits}", "vector_cast": "" if signed else "vreinterpretq_u32_s32"}


COMBINED: dict[type[ops.Operation], str] = {
    ops.Add: "{x} + {y}",
    ops.Multiply: "{x} * {y}",
    ops.Maximum: "clamp_i{bits}({x}, {y}, INT{bits}_MAX)",
    ops.Minimum: "clamp_i{bits}({x}, INT{bits}_MIN, {y})",
}
"""How two values of an operation on single integers are combined."""

CALLS: ops.Handlers[Callable[[Calls, Any, Any, str], str]] = ops.Handlers(
    "the C writer",
    {
        ops.Conv2D: Calls.weighted,
        ops.Dense: Calls.weighted,
        ops.AveragePooling: Calls.pooling,
        ops.MaxPooling: Calls.pooling,
        ops.Add: Calls.elementwise,
        ops.Multiply: Calls.elementwise,
        ops.Maximum: Calls.elementwise,
        ops.Minimum: Calls.elementwise,
        ops.Requantize: Calls.elementwise,
        ops.Concatenate: Calls.concatenation,
        ops.LookUpTable: Calls.look_up,
        ops.Rearrange: Calls.rearranging,
        ops.Recurrent: Calls.recurrent,
        ops.ZeroPadding: Calls.padding,
        ops.Reshape: Calls.kept,
    },
)


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Return integers one after the other in ``bits`` bits each, lowest bit first, as bytes.

    Zeros follow, so that a reader may fetch as many bytes for the last integer as for any.
    """
    columns = [((values >> bit) & 1).astype(np.uint8) for bit in range(bits)]
    stream = np.packbits(np.stack(columns, axis=1).ravel(), bitorder="little")
    return np.append(stream, np.zeros(packed_reach_bytes(bits) - 1, np.uint8))


def merged_axes(shapes: Sequence[tuple[int, ...]]) -> tuple[list[int], list[list[int]]]:
    """Return the fewest loops over shapes that repeat axes of size 1: their sizes, and the steps of each input.

    Example:
        >>> merged_axes([(5, 5, 8), (1, 1, 8)])
        ([25, 8], [[8, 1], [0, 1]])
    """
    sizes: list[int] = []
    moves: list[tuple[bool, ...]] = []
    for size, axis in zip(np.broadcast_shapes(*shapes), zip(*shapes, strict=True), strict=True):
        moving = tuple(own == size for own in axis)
        if size > 1 and moves and moves[-1] == moving:
            sizes[-1] *= size
        elif size > 1:
            sizes.append(size)
            moves.append(moving)
    strides = []
    for own in zip(*moves, strict=True) if moves else [()] * len(shapes):
        inner = _contiguous([size if moving else 1 for size, moving in zip(sizes, own, strict=True)])
        strides.append([step if moving else 0 for step, moving in zip(inner, own, strict=True)])
    return sizes, strides


def _copy(tensor: ops.Tensor, to: str, value: str) -> str:
    """Return the loop that sets every integer of a tensor."""
    return f"for (int32_t i = 0; i < {tensor.size}; ++i) {to}[i] = {value};"


def _contiguous(sizes: Sequence[int]) -> list[int]:
    """Return the step of each axis of an array, the last fastest."""
    return [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]


def _index(strides: Sequence[int]) -> str:
    parts = [f"i{axis} * {step}" if step > 1 else f"i{axis}" for axis, step in enumerate(strides) if step]
    return " + ".join(parts) or "0"


def _loops(sizes: Sequence[int], body: str) -> str:
    heads = [f"for (int32_t i{axis} = 0; i{axis} < {size}; ++i{axis})" for axis, size in enumerate(sizes)]
    return "".join(f"{'    ' * (depth + 1)}{line}\n" for depth, line in enumerate([*heads, body]))


def _parenthesized(value: int) -> str:
    return f"({value})" if value < 0 else str(value)


def array_text(values: np.ndarray) -> str:
    """Return integers as C has them, as many a line as fit."""
    texts = {value: c_integer(value) for value in np.unique(values).tolist()}
    return _lines(list(map(texts.__getitem__, values.tolist())))


def _lines(items: Sequence[str]) -> str:
    """Return items with commas, as many a line as fit, at least one."""
    ends = np.cumsum(np.fromiter(map(len, items), np.int64, len(items)) + len(", "))
    lines, start, reached = [], 0, 0
    while start < len(items):
        end = max(int(np.searchsorted(ends, reached + LINE_LENGTH - len("    "), "right")), start + 1)
        lines.append(f"    {', '.join(items[start:end])},\n")
        start, reached = end, int(ends[end - 1])
    return "".join(lines)
