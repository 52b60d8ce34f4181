"""An integer program as text: every format, every shift, and the proof that no sum overflows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from po2quant.integer.operations import (
    Add,
    AveragePooling,
    Concatenate,
    Conv2D,
    Dense,
    LookUpTable,
    MaxPooling,
    Multiply,
    Operation,
    Requantize,
    Tensor,
)
from po2quant.integer.plan import Plan, plan_of
from po2quant.integer.program import Program

BITS_PER_KIB = 8 * 1024

LEGEND = """\
Value = integer * 2**exponent. An operation accumulates a, aligns it, adds the bias, shifts, rounds half to even, clips.
a: the smallest and the largest accumulator that any input can make, partial sums in any order included. For a
convolution and a channel with kernel w: sum(w > 0) * min x + sum(w < 0) * max x, and the other way round.
align, shift: places to the right (negative: to the left), the least and the most of the channels; + count: and divided
by the number of pixels. sum: bits of a once it is aligned, with the bias.
register: bits of the integer type that holds a / the sum.
dead: output channels whose kernel is all zeros, of all: constants that their bias makes."""


def listing(program: Program) -> str:
    """Return the text of a program: its tensors and operations, one a line."""
    rows = [_operation_row(program, operation) for operation in program.operations]
    parts = [
        _summary(program),
        LEGEND,
        _table([("tensor", "shape", "bits", "exponent", "integers", "values"), *map(_tensor_row, program.tensors)]),
        _table(
            [
                (
                    "operation",
                    "kind",
                    "reads",
                    "writes",
                    "MACs",
                    "other",
                    "a",
                    "align",
                    "shift",
                    "sum",
                    "register",
                    "dead",
                ),
                *rows,
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def macs(program: Program, operation: Operation) -> int:
    """Return the multiply-accumulates of an operation on one sample, padding included."""
    if not isinstance(operation, (Conv2D, Dense)):
        return 0
    return math.prod(program.output_of(operation).shape[:-1]) * operation.kernel.integers.size


def other_operations(program: Program, operation: Operation) -> int:
    """Return the additions, products, comparisons, look-ups and shifts of an operation on one sample that are no MACs.

    An output costs one for its shift, rounding and clipping together, and what it takes to combine its inputs; moving
    integers costs nothing.
    """
    elements = math.prod(program.output_of(operation).shape)
    match operation:
        case AveragePooling(window=window) | MaxPooling(window=window):
            return elements * math.prod(window)
        case Add() | Multiply():
            return elements * len(operation.inputs)
        case Conv2D() | Dense() | Concatenate() | Requantize() | LookUpTable():
            return elements
    return 0


def storage_bits(program: Program) -> int:
    """Return the bits of all kernels, biases and tables at their own widths."""
    total = 0
    for operation in program.operations:
        if isinstance(operation, (Conv2D, Dense)):
            total += sum(part.integers.size * part.bit_width for part in (operation.kernel, operation.bias))
        elif isinstance(operation, LookUpTable):
            total += operation.table.size * program.output_of(operation).format.bit_width
    return total


def _summary(program: Program) -> str:
    total_macs = sum(macs(program, operation) for operation in program.operations)
    others = sum(other_operations(program, operation) for operation in program.operations)
    outputs = ", ".join(f"{output.tensor} (host: {output.host_function})" for output in program.outputs)
    return (
        f"integer program {program.name}: {len(program.tensors)} tensors, {len(program.operations)} operations\n"
        f"inputs: {', '.join(program.inputs)}; outputs: {outputs}\n"
        f"one sample: {total_macs} MACs, {others} other operations; "
        f"constants: {storage_bits(program) / BITS_PER_KIB:.1f} KiB"
    )


def _tensor_row(tensor: Tensor) -> tuple[str, ...]:
    format = tensor.format
    return (
        tensor.name,
        "x".join(map(str, tensor.shape)),
        f"{'s' if format.signed else 'u'}{format.bit_width}",
        str(format.exponent),
        f"{format.min_int}..{format.max_int}",
        f"{format.min_value:.6g}..{format.max_value:.6g}",
    )


def _operation_row(program: Program, operation: Operation) -> tuple[str, ...]:
    plan = plan_of(program, operation)
    is_depthwise = isinstance(operation, Conv2D) and 1 < operation.groups == program.inputs_of(operation)[0].shape[2]
    activation = getattr(operation, "activation", getattr(operation, "function", "linear"))
    kind = f"{'Depthwise' * is_depthwise}{type(operation).__name__}"
    return (
        operation.name,
        kind if activation == "linear" else f"{kind}+{activation}",
        ",".join(operation.inputs),
        operation.output,
        str(macs(program, operation)),
        str(other_operations(program, operation)),
        *(("-",) * 5 if plan is None else _plan_cells(operation, plan)),
        _dead_channels(operation),
    )


def _plan_cells(operation: Operation, plan: Plan) -> tuple[str, ...]:
    align = _span(plan.align_shifts)
    if isinstance(operation, Add):
        align = ",".join(str(-shift) for shift in plan.input_shifts)
    low, high = plan.accumulator_limits
    return (
        f"{low}..{high} ({plan.accumulator_bits} bits)",
        align,
        _span(plan.output_shifts) + " + count" * isinstance(operation, AveragePooling),
        f"{plan.sum_bits} bits",
        f"{plan.accumulator_register}/{plan.sum_register}",
    )


def _dead_channels(operation: Operation) -> str:
    if not isinstance(operation, (Conv2D, Dense)):
        return "-"
    kernel = operation.kernel.integers
    alive = np.any(kernel, axis=tuple(range(kernel.ndim - 1)))
    return f"{np.sum(~alive)}/{alive.size}"


def _span(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}..{high}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
