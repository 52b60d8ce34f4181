"""An integer program as text: every format, every shift, and the proof that no sum overflows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from po2quant.fixed_point import FLOOR, HALF_AWAY, HALF_EVEN, HALF_UP
from po2quant.integer.operations import LINEAR, Block, Counts, Operation, Recurrent, Tensor, Weighted
from po2quant.integer.plan import Plan
from po2quant.integer.program import Program

BITS_PER_KIB = 8 * 1024

ROUNDING_WORDS = {
    HALF_EVEN: "half to even",
    HALF_UP: "half up",
    HALF_AWAY: "half away from 0",
    FLOOR: "down",
}
"""Rounding modes as sentences have them."""

LEGEND = """\
Value = integer * 2**exponent. An operation accumulates a, aligns it, adds the bias, shifts, rounds {rounding}, clips.
a: the smallest and the largest accumulator that any input can make, partial sums in any order included. For a
convolution and a channel with kernel w: sum(w > 0) * min x + sum(w < 0) * max x, and the other way round.
align, shift: places to the right (negative: to the left), the least and the most of the channels; + count: and divided
by the number of pixels. sum: bits of a once it is aligned, with the bias.
ties: output channels, of all, where a sum can lie half way between two outputs; of the others y = (a + c) >> n, with a
constant c and no rule for ties. all: of an operation that is not of this form.
register: bits of the integer type that holds a / the sum.
dead: output channels whose kernel is all zeros, of all: constants that their bias makes."""

CELL_LEGEND = """
Below a recurrent operation stand the tensors and operations of one of its steps; its own row counts all steps."""


def listing(program: Program) -> str:
    """Return the text of a program: its tensors and operations, one a line."""
    tensors = [_tensor_row(tensor) for tensor in program.tensors]
    rows = []
    for operation in program.operations:
        rows.append(_operation_row(program, operation))
        if isinstance(operation, Recurrent):
            tensors += map(_tensor_row, operation.cell.tensors)
            rows += [_operation_row(operation.cell, step) for step in operation.cell.operations]
    parts = [
        _summary(program),
        LEGEND.format(rounding=_rounding(program)) + CELL_LEGEND * (len(program.blocks) > 1),
        _table([("tensor", "shape", "bits", "exponent", "integers", "values"), *tensors]),
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
                    "ties",
                    "register",
                    "dead",
                ),
                *rows,
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(program: Program) -> str:
    total = Counts(*map(sum, zip(*map(program.counts, program.operations), strict=True)))
    outputs = ", ".join(f"{output.tensor} (host: {output.host_function})" for output in program.outputs)
    return (
        f"integer program {program.name}: {len(program.tensors)} tensors, {len(program.operations)} operations\n"
        f"inputs: {', '.join(program.inputs)}; outputs: {outputs}\n"
        f"one sample: {total.macs} MACs, {total.other_operations} other operations; "
        f"constants: {total.storage_bits / BITS_PER_KIB:.1f} KiB"
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


def _operation_row(program: Block, operation: Operation) -> tuple[str, ...]:
    plan, counts = program.plan(operation), program.counts(operation)
    function = getattr(operation, "function", operation.activation)
    return (
        operation.name,
        operation.kind + f"+{function}" * (function != LINEAR),
        ",".join(operation.inputs),
        operation.output,
        str(counts.macs),
        str(counts.other_operations),
        *(("-",) * 6 if plan is None else _plan_cells(plan)),
        _dead_channels(operation),
    )


def _plan_cells(plan: Plan) -> tuple[str, ...]:
    align = ",".join(str(-shift) for shift in plan.input_shifts) or _span(plan.align_shifts)
    low, high = plan.accumulator_limits
    return (
        f"{low}..{high} ({plan.accumulator_bits} bits)",
        align,
        _span(plan.output_shifts) + " + count" * plan.is_mean,
        f"{plan.sum_bits} bits",
        "all" if plan.folded is None else f"{np.sum(plan.folded.has_ties)}/{plan.folded.has_ties.size}",
        f"{plan.accumulator_register}/{plan.sum_register}",
    )


def _dead_channels(operation: Operation) -> str:
    if not isinstance(operation, Weighted):
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


def _rounding(program: Program) -> str:
    """Return how a program rounds, in words."""
    modes = dict.fromkeys(tensor.format.rounding for block in program.blocks for tensor in block.tensors)
    return " or ".join(ROUNDING_WORDS[mode] for mode in modes)
