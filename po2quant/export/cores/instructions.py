"""About how many instructions the C of a program takes on a core, without running it.

Equation:
    instructions = sum over parts p of work_p * rate_p, where the work of a part (products, roundings, gathered inputs,
    unpacked weights, ...) follows from shapes and widths alone, and its rate is what the core needs for one.

The rates are rows of ``instructions.csv``, fitted by ``python -m benchmarks.studies.instructions`` to layers that ran
on emulated cores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from po2quant.export.c.footprint import layer_in_c
from po2quant.export.c.functions import PACKED_BLOCK, Functions
from po2quant.export.c.operations import CALLS, Calls
from po2quant.export.c.types import short_name, tensor_dtype
from po2quant.export.cores.code import shared, use_of
from po2quant.export.cores.rates import INSTRUCTIONS_FILE, Parts, priced
from po2quant.integer import operations as ops

LAYER, SHARED, PACKED_PIXEL = "layer", "shared", "packed_pixel"
"""The part that every operation has once, its call; how parts begin of functions that many share; and the kernel that
multiplies packed weights as they lie."""

VECTOR_LANES = {"vector_rows_i8": 16, "vector_rows_i16": 8}
"""Products of one row that kernels with vectors do at once."""


def work_of(program: ops.Block, operation: ops.Operation, pack: bool = False, is_shared: bool = False) -> Parts:
    """Return how much of each part an operation does on one sample.

    Args:
        program: that it belongs to.
        operation: the operation.
        pack: whether weights lie in their own number of bits.
        is_shared: whether its function is compiled for any sizes, see :func:`po2quant.export.cores.code.shared`.
    """
    work = Counter({LAYER: 1}) + WORK.of(operation)(program, operation, pack)
    if is_shared and isinstance(operation, ops.Weighted):
        kind = "depthwise" if operation.is_depthwise else "matrix"
        for part, amount in list(work.items()):
            if (name := part.partition(" ")[0]) in ("products", "finish"):
                work[f"{SHARED} {kind} {name}"] += amount
    return work


def work_of_program(program: ops.Block, pack: bool = False) -> Parts:
    """Return how much of each part a whole program does on one sample."""
    functions, total = Functions(), Parts()
    uses = [use_of(program, operation, pack, functions) for operation in program.operations]
    for operation, is_shared in zip(program.operations, shared(uses), strict=True):
        total += work_of(program, operation, pack, is_shared)
    return total


def instructions(core: str, work: Mapping[str, float]) -> float:
    """Return about how many instructions some work takes on a core.

    Raises:
        ValueError: for a core without rates.
    """
    return priced(core, work, INSTRUCTIONS_FILE)


def _weighted(program: ops.Block, operation: ops.Weighted, pack: bool) -> Parts:
    (x,), y = program.inputs_of(operation), program.output_of(operation)
    layer = layer_in_c(program, operation, pack)
    types, channels, outputs = layer.types, y.shape[-1], y.size
    pixels, kind = outputs // channels, short_name(tensor_dtype(x))
    work: Parts = Counter({f"finish {types['finish']} {types['acc']} {types['wide']}": outputs})
    reads_packed = layer.kernel == PACKED_PIXEL
    if layer.packed_bits and not reads_packed:
        work[f"unpack {types['unpack']} {types['w']}"] += layer.weights.size
    if operation.is_depthwise:
        rows, taps = _taps(program, operation)
        form = f"{types['quads']} {kind} {types['w']} {types['acc']}"
        work[f"products {form}"] += taps * channels
        work[f"window rows {types['quads']}"] += rows * channels
        work["pixel depthwise"] += pixels
        return work
    groups, inputs, width = (
        getattr(operation, "groups", 1),
        math.prod(operation.kernel.integers.shape[:-1]),
        layer.row_width,
    )
    own = channels // groups
    blocks = groups * (-(-own // PACKED_BLOCK) if layer.packed_bits and not reads_packed else 1)
    taken = f"{types['taken']}/{types['otherwise']}" if "otherwise" in types else types["taken"]
    taken = PACKED_PIXEL if reads_packed else taken
    form = f"{taken} {types['patch']} {types['w']} {types['acc']}"
    even = groups * (own + own % 2)
    work[f"products {form}"] += pixels * even * width
    work[f"rows {taken}"] += pixels * even // 2
    work[f"pixel {types['kernel']}"] += pixels * blocks
    if types["kernel"] == "convolution":
        work[f"gathered {kind} {types['patch']}"] += pixels * blocks * inputs
        work["gathered rows"] += pixels * blocks * layer.window[0]
    elif kind != types["patch"].removeprefix("patch_") or inputs != width:
        work[f"copied {kind} {types['patch']}"] += pixels * blocks * inputs
    if taken.startswith("take_vectors"):
        fours, dots = pixels * groups * (own // 4 + own % 4), types["vector_rows"]
        work[f"vector steps {dots} {types['acc']}"] += fours * -(-inputs // VECTOR_LANES[dots])
        work["vector fours"] += fours
    if "spread" in types:
        work[f"spread {types['spread']}"] += pixels * blocks * width
    return work


def _taps(program: ops.Block, operation: Any) -> tuple[int, int]:
    """Return the rows of all windows of a convolution or pooling that lie in the image, and the pixels in them."""
    (x,), y = program.inputs_of(operation), program.output_of(operation)
    (height, width), shape = x.shape[-3:-1], operation.output_shape((x.shape,))
    dilation = getattr(operation, "dilation", (1, 1))
    window = operation.window if isinstance(operation, ops.Pooling) else operation.kernel.integers.shape[:2]
    inside = [
        [sum(0 <= place * stride - before + tap * step < size for tap in range(taps)) for place in range(places)]
        for places, stride, (before, _), step, size, taps in zip(
            shape[:2], operation.strides, operation.padding, dilation, (height, width), window, strict=True
        )
    ]
    rows, columns = map(sum, inside)
    return rows * y.shape[-2] if len(y.shape) > 1 else rows * shape[1], rows * columns


def _pooling(program: ops.Block, operation: ops.Pooling, pack: bool) -> Parts:
    (x,), y = program.inputs_of(operation), program.output_of(operation)
    _, taps = _taps(program, operation)
    kind, channels = short_name(tensor_dtype(x)), y.shape[-1]
    name = "average" if isinstance(operation, ops.AveragePooling) else "maximum"
    return Counter({f"{name} {kind}": taps * channels, f"{name} outputs": y.size, f"pixel {name}": y.size // channels})


def _elementwise(program: ops.Block, operation: ops.Operation, pack: bool) -> Parts:
    y = program.output_of(operation)
    kinds = " ".join(short_name(tensor_dtype(tensor)) for tensor in (*program.inputs_of(operation), y))
    return Counter({f"{type(operation).__name__} {kinds}": y.size})


COUNTED: dict[Callable, Callable[[Any, Any, bool], Parts]] = {
    Calls.weighted: _weighted,
    Calls.pooling: _pooling,
    Calls.elementwise: _elementwise,
    Calls.concatenation: _elementwise,
    Calls.look_up: _elementwise,
    Calls.rearranging: _elementwise,
    Calls.padding: _elementwise,
    Calls.kept: lambda program, operation, pack: Counter(),
}
"""What counts the work of what a function of the C writer writes."""

WORK: ops.Handlers[Callable[[Any, Any, bool], Parts]] = ops.Handlers(
    "the count of instructions",
    {kind: COUNTED[function] for kind, function in CALLS.functions.items() if function in COUNTED},
)
