"""About how many instructions the C of a program takes on a core, without running it.

Equation:
    instructions = sum over parts p of work_p * rate_p, where the work of a part (products, roundings, gathered inputs,
    unpacked weights, ...) follows from shapes and widths alone, and its rate is what the core needs for one.

The rates are rows of ``instructions.csv``, fitted by ``python -m benchmarks.studies.instructions`` to layers that ran
on emulated cores.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, cast

from po2quant.export.c.footprint import layer_in_c
from po2quant.export.c.functions import PACKED_BLOCK
from po2quant.export.c.types import short_name, tensor_dtype
from po2quant.integer import operations as ops

RATES_FILE = "instructions.csv"
LAYER, PACKED_PIXEL = "layer", "packed_pixel"
"""The part that every operation has once, its call; and the kernel that multiplies packed weights as they lie."""

Work = Counter[str]


def work_of(program: ops.Block, operation: ops.Operation, pack: bool = False) -> Work:
    """Return how much of each part an operation does on one sample.

    Args:
        program: that it belongs to.
        operation: the operation.
        pack: whether weights lie in their own number of bits.
    """
    return Counter({LAYER: 1}) + WORK.of(operation)(program, operation, pack)


def work_of_program(program: ops.Block, pack: bool = False) -> Work:
    """Return how much of each part a whole program does on one sample."""
    total: Work = Counter()
    for operation in program.operations:
        total += work_of(program, operation, pack)
    return total


def instructions(core: str, work: Mapping[str, float]) -> float:
    """Return about how many instructions some work takes on a core.

    A part that was never measured costs what the dearest of those does whose name begins alike.

    Raises:
        ValueError: for a core without rates.
    """
    return sum(amount * rate_of(core, part) for part, amount in work.items())


@functools.cache
def rates() -> dict[str, dict[str, float]]:
    """Return the rate of each part by core."""
    found: dict[str, dict[str, float]] = {}
    text = importlib.resources.files(__package__).joinpath(RATES_FILE).read_text(encoding="ascii")
    for row in csv.DictReader(text.splitlines()):
        found.setdefault(row["core"], {})[row["part"]] = float(row["rate"])
    return found


@functools.cache
def rate_of(core: str, part: str) -> float:
    """Return what a core needs for one of a part."""
    if core not in rates():
        raise ValueError(f"core must be one of {', '.join(rates())}. Received: {core!r}")
    own, words = rates()[core], part.split(" ")
    if part in own:
        return own[part]
    for length in range(len(words) - 1, 0, -1):
        start = " ".join(words[:length])
        if alike := [rate for name, rate in own.items() if name == start or name.startswith(f"{start} ")]:
            return max(alike)
    return 0.0


def _weighted(program: ops.Block, operation: ops.Weighted, pack: bool) -> Work:
    (x,), y = program.inputs_of(operation), program.output_of(operation)
    layer = layer_in_c(program, operation, pack)
    types, channels, outputs = layer.types, y.shape[-1], y.size
    pixels, kind = outputs // channels, short_name(tensor_dtype(x))
    work: Work = Counter({f"finish {types['finish']} {types['acc']} {types['wide']}": outputs})
    reads_packed = layer.kernel == PACKED_PIXEL
    if layer.packed_bits and not reads_packed:
        work[f"unpack {types['unpack']} {types['w']}"] += layer.weights.size
    if operation.is_depthwise:
        rows, taps = _taps(program, cast(ops.Conv2D, operation))
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
    if "spread" in types:
        work[f"spread {types['spread']}"] += pixels * blocks * width
    return work


def _taps(program: ops.Block, operation: ops.Conv2D | ops.Pooling) -> tuple[int, int]:
    """Return the rows of all windows that lie in the image, and the pixels in them."""
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


def _pooling(program: ops.Block, operation: ops.Pooling, pack: bool) -> Work:
    (x,), y = program.inputs_of(operation), program.output_of(operation)
    _, taps = _taps(program, operation)
    kind, channels = short_name(tensor_dtype(x)), y.shape[-1]
    name = "average" if isinstance(operation, ops.AveragePooling) else "maximum"
    return Counter({f"{name} {kind}": taps * channels, f"{name} outputs": y.size, f"pixel {name}": y.size // channels})


def _elementwise(program: ops.Block, operation: ops.Operation, pack: bool) -> Work:
    y = program.output_of(operation)
    kinds = " ".join(short_name(tensor_dtype(tensor)) for tensor in (*program.inputs_of(operation), y))
    return Counter({f"{type(operation).__name__} {kinds}": y.size})


ELEMENTWISE = (
    ops.Add,
    ops.Multiply,
    ops.Maximum,
    ops.Minimum,
    ops.Requantize,
    ops.Concatenate,
    ops.LookUpTable,
    ops.Rearrange,
    ops.ZeroPadding,
)

WORK: ops.Handlers[Callable[[Any, Any, bool], Work]] = ops.Handlers(
    "the count of instructions",
    {
        ops.Conv2D: _weighted,
        ops.Dense: _weighted,
        ops.AveragePooling: _pooling,
        ops.MaxPooling: _pooling,
        **dict.fromkeys(ELEMENTWISE, _elementwise),
        ops.Reshape: lambda program, operation, pack: Counter(),
    },
)
