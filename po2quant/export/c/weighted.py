"""How a layer with weights is computed in C: which kernels, on which types, with which constants."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from po2quant.export.c.functions import PACKED_BLOCK, rounding_types
from po2quant.export.c.types import short_name, smallest_dtype, tensor_dtype
from po2quant.integer.operations import Tensor, Weighted
from po2quant.integer.plan import Plan, signed_bits

ROW_MULTIPLE = 4
"""Zeros follow the weights of an output channel up to a multiple of this, so that kernels read whole words."""

NIBBLES_OF_WORD, MOST_TAPS = 8, 25
NO_FLIP = {"flip_bytes": "0", "offset_bytes": "0"}

BYTES = ("patch_i8", "patch_u8")
PAIRED, PAIRED_WEIGHTS = ("patch_i8", "patch_u8", "i16"), ("i8", "i16")
"""Types of patches, and of weights, that kernels with products of pairs of 16 bits take."""

HALVES = ("i8", "u8", "i16")
"""Inputs that kernels read as pairs of 16 bits."""

LANES = {
    "i8": "vldrbq_s32((const int8_t *){})",
    "u8": "vreinterpretq_s32_u32(vldrbq_u32((const uint8_t *){}))",
    "i16": "vldrhq_s32((const int16_t *){})",
    "u16": "vreinterpretq_s32_u32(vldrhq_u32((const uint16_t *){}))",
}
"""How four integers are loaded into a vector of 32 bits each, by their type."""

HALF_LANES = {"i8": ("vldrb.s16", "8"), "u8": ("vldrb.u16", "8"), "i16": ("vldrh.u16", "16")}
"""How eight integers are loaded into a vector of 16 bits each, by their type, and the bytes that they take."""

VECTOR_FINISHES = ("finish_floor", "finish_even")
"""Kernels that finish one sum, whose form for a vector of sums there is."""

UNPACKED = (8, 16, 32)
"""Bits of weights for which packing saves nothing."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with weights in C.

    Args:
        kernel: the function that computes it.
        types: types, numbers and kernels of its parts.
        weights: integers in the order in which they lie.
        packed_bits: of a weight, if weights are packed; else 0.
        channels: what each output channel has: arrays and their types by field.
        window: rows and columns.
        row_width: weights of one output channel, with the zeros behind them; 0: they lie tap by tap.
        offset_starts: where sums start on processors that take 128 off each input; None where none does.
        low: smallest output integer.
        high: largest output integer.
        scratch_bytes: memory that the function needs.
    """

    kernel: str
    types: dict[str, str]
    weights: np.ndarray
    packed_bits: int
    channels: dict[str, tuple[np.ndarray, np.dtype]]
    window: tuple[int, int]
    row_width: int
    offset_starts: np.ndarray | None
    low: int
    high: int
    scratch_bytes: int


def layer_of(x: Tensor, operation: Weighted, plan: Plan, pack: bool) -> Layer:
    """Return how a layer is computed.

    Args:
        x: what it reads.
        operation: the layer.
        plan: its plan.
        pack: store weights in their own number of bits.
    """
    kernel, bits = operation.kernel.integers, operation.kernel.bit_width
    packed_bits = bits if pack and bits not in UNPACKED else 0
    limits = (-(2 ** (bits - 1)), 0) if pack else (int(kernel.min()), int(kernel.max()))
    types = {"w": short_name(smallest_dtype(min(limits[0], -1), limits[1]))}
    types |= _patch(x, operation) | _unpacking(packed_bits)
    channels = _sums(plan, types, _starts(operation, int(types["offset"])), _is_wide(x))
    parts = _depthwise if operation.is_depthwise else _matrix
    name, weights, row_width, scratch_bytes = parts(x, operation, types, packed_bits)
    offset_starts = None
    if types.get("flip") == "128" and name != "packed_pixel":
        offset_starts = channels["start"][0] + _starts(operation, 128)
    low, high = reachable_limits(plan, types["wide"])
    window = kernel.shape[:2] if kernel.ndim == 4 else (1, 1)
    return Layer(
        name, types, weights, packed_bits, channels, window, row_width, offset_starts, low, high, scratch_bytes
    )


def reachable_limits(plan: Plan, wide: str) -> tuple[int, int]:
    """Return the limits of the output, as far as the type that rounds can reach them."""
    info = np.iinfo(f"int{wide[1:]}")
    return max(plan.low, int(info.min)), min(plan.high, int(info.max))


def _is_wide(x: Tensor) -> bool:
    return tensor_dtype(x) == np.uint32


def _patch(x: Tensor, operation: Weighted) -> dict[str, str]:
    """Return the type of gathered inputs, and what is taken off each so that it fits: 32768 of unsigned 16 bits."""
    kind = short_name(tensor_dtype(x))
    if kind == "u16" and not operation.is_depthwise:
        return {"patch": "i16", "offset": "32768", "kind": "i16"}
    return {"patch": {"i8": "patch_i8", "u8": "patch_u8"}.get(kind, kind), "offset": "0", "kind": kind}


def _unpacking(bits: int) -> dict[str, str]:
    if bits == 4:
        return {"unpack": "unpack_nibbles"}
    word = 32 if bits <= 24 else 64
    return {"unpack": "unpack_bits", "bits": str(bits), "word": f"u{word}", "signed": f"i{word}"}


def _starts(operation: Weighted, offset: int) -> np.ndarray:
    """Return what sums of inputs less an offset lack."""
    kernel = operation.kernel.integers
    return offset * kernel.sum(axis=tuple(range(kernel.ndim - 1)))


def _sums(
    plan: Plan, types: dict[str, str], starts: np.ndarray, is_wide: bool
) -> dict[str, tuple[np.ndarray, np.dtype]]:
    """Choose registers and the kernel that finishes sums, and return the constants that it reads."""
    folded = plan.folded
    accumulator = 64 if is_wide else plan.accumulator_register
    if folded is not None:
        accumulator = max(accumulator, 32 if signed_bits(folded.limits) <= 32 else 64)
        shifts, ties = _shifts(types, "shift", folded.shifts), folded.has_ties.any()
        register = f"i{accumulator}"
        types |= {"acc": register, "wide": register, "begin": "begin_given"}
        types |= {"unsigned": f"u{accumulator}", "finish": "finish_even" if ties else "finish_floor"}
        dtype = np.dtype(f"int{accumulator}")
        masks = {"tie": (folded.tie_masks, dtype)} if ties else {}
        return {"start": (folded.bias + starts, dtype), "shift": (shifts, np.dtype("int8"))} | masks
    wide = max(accumulator, plan.sum_register)
    types |= {"acc": f"i{accumulator}", "wide": f"i{wide}", "unsigned": f"u{wide}", "finish": "finish_aligned"}
    types |= rounding_types(plan.rounding, types["wide"])
    types["begin"] = "begin_given" if starts.any() else "begin_zero"
    types["align"] = "left" if plan.align_shifts.max() <= 0 else "jam"
    types["shift"] = "round_right" if plan.output_shifts.min() >= 1 else "round_shift"
    constants = {
        "align": (_shifts(types, "align", plan.align_shifts), np.dtype("int8")),
        "shift": (_shifts(types, "shift", plan.output_shifts), np.dtype("int8")),
        "bias": (plan.bias, np.dtype(f"int{wide}")),
    }
    if starts.any():
        constants["start"] = (starts, np.dtype(f"int{accumulator}"))
    return constants


def _shifts(types: dict[str, str], kind: str, shifts: np.ndarray) -> np.ndarray:
    """Return a shift for each channel, or one where all are the same, and set the step between them."""
    differ = bool(np.any(shifts != shifts[0]))
    types[f"{kind}_step"] = str(int(differ))
    return shifts if differ else shifts[:1]


Parts = tuple[str, np.ndarray, int, int]
"""A kernel, its weights in order, their number in a row, and bytes of scratch."""


def _depthwise(x: Tensor, operation: Weighted, types: dict[str, str], packed_bits: int) -> Parts:
    kernel = operation.kernel.integers
    multiplier = kernel.shape[-1] // x.shape[-1]
    types |= {"multiplier": str(multiplier), "quads": "quads_none", "sixteens": "sixteens_none"}
    if multiplier == 1 and types["acc"] == "i32" and types["w"] in PAIRED_WEIGHTS:
        if types["kind"] in HALVES:
            types |= {"quads": "quads_by_words"} | _halves("x", types["kind"]) | _halves("w", types["w"])
        if types["kind"] in LANES:
            types |= {"quads_otherwise": types["quads"], "quads": "quads_by_vectors"} | _finish_of_vectors(types)
            types |= {"widened": LANES[types["kind"]].format("pixel"), "widened_tap": LANES[types["w"]].format("tap")}
        taps = math.prod(kernel.shape[:2])
        if _ends_by_sixteen(types) and taps <= MOST_TAPS:
            types |= {"sixteens": "depthwise_sixteen", "tap_count": str(taps)}
    if packed_bits:
        return "packed_depthwise", kernel.ravel(), 0, kernel.size * _bytes(types["w"])
    return "depthwise", kernel.ravel(), 0, 0


def _halves(operand: str, kind: str) -> dict[str, str]:
    """Return where the second and third of four integers lie in two words; the others are in the outer halves."""
    places = ('{0}0, "t"', '{0}1, "b"') if kind == "i16" else ('{0}1, "b"', '{0}0, "t"')
    return {f"{place}_{operand}": text.format(operand) for place, text in zip(("second", "third"), places, strict=True)}


def _matrix(x: Tensor, operation: Weighted, types: dict[str, str], packed_bits: int) -> Parts:
    kernel = operation.kernel.integers
    one_pixel = operation.is_matrix_product and math.prod(x.shape[:-1]) == 1
    groups = getattr(operation, "groups", 1)
    types["kernel"] = "pixels" if operation.is_matrix_product else "convolution"
    types["row_sums"] = "row_sums_bytes" if _operands(types) == ("patch_u8", "i8", "i32") else "plain_row_sums"
    types["taken"] = "take_wide" if _operands(types) == ("i16", "i16", "i64") else "take"
    name, multiple, pair_bytes = "packed_layer" if packed_bits else "layer", ROW_MULTIPLE, 0
    if types["patch"] in PAIRED and types["w"] in PAIRED_WEIGHTS:
        if types["acc"] == "i32":
            pair_bytes = 2 if one_pixel else 4
            types |= _pairs(types, one_pixel)
            if packed_bits == 4 and one_pixel:
                name, multiple, types["packed"] = "packed_pixel", NIBBLES_OF_WORD, name
        if types["kind"] in LANES:
            types |= {"otherwise": types["taken"], "taken": "take_vectors"} | _vectors(types)
    if name == "layer" and not one_pixel and _ends_by_sixteen(types) and groups == 1:
        name = "interleaved_layer"
        types |= {"flip_bytes": "-128", "offset_bytes": "128"} if types["kind"] == "i8" else NO_FLIP
    inputs, channels = math.prod(kernel.shape[:-1]), kernel.shape[-1]
    width = -(-inputs // multiple) * multiple
    rows = np.zeros((channels, width), np.int64)
    rows[:, :inputs] = kernel.reshape(-1, channels).T
    types |= {"pair_bytes": str(pair_bytes), "block": str(PACKED_BLOCK)}
    patch_bytes = 1 if types["patch"] in BYTES else _bytes(types["patch"])
    block_bytes = PACKED_BLOCK * width * _bytes(types["w"]) if packed_bits else 0
    widened_bytes = 2 if types["patch"] in BYTES else 0
    scratch = width * max(pair_bytes + patch_bytes, widened_bytes) + block_bytes
    return name, rows.ravel(), width, scratch


def _ends_by_sixteen(types: dict[str, str]) -> bool:
    """Return whether bytes alone are multiplied, and sixteen sums are finished in one vector."""
    are_bytes = types["kind"] in ("i8", "u8") and (types["w"], types["acc"]) == ("i8", "i32")
    return are_bytes and types["finish"] in VECTOR_FINISHES


def _operands(types: dict[str, str]) -> tuple[str, str, str]:
    return types["patch"], types["w"], types["acc"]


def _pairs(types: dict[str, str], one_pixel: bool) -> dict[str, str]:
    """Return the kernels whose instructions multiply two pairs of integers of 16 bits."""
    are_alike = (types["kind"] == "i16") == (types["w"] == "i16")
    return {
        "taken": "take_single" if one_pixel else "take_pairs",
        "spread": "spread_alike" if are_alike else "spread_across",
        "pair_dot": "pair_dot",
        "pair_quad": f"pair_quad_{types['w']}",
        "row_dot": "row_dot",
        "row_quad": f"row_quad_{types['w']}",
    }


def _vectors(types: dict[str, str]) -> dict[str, str]:
    """Return the kernels whose instructions multiply vectors; unsigned bytes less 128 where a start makes up for it."""
    kind, is_wide, has_start = types["kind"], types["acc"] == "i64", types["begin"] == "begin_given"
    if not is_wide and types["w"] == "i8" and (kind == "i8" or (kind == "u8" and has_start)):
        rows = {"vector_rows": "vector_rows_i8", "flip": "128" if kind == "u8" else "0"}
    else:
        rows = {"vector_rows": "vector_rows_i16", "sum_of_products": "vmlaldava" if is_wide else "vmladava"}
        rows |= {f"sum{i}": f"%Q[s{i}], %R[s{i}]" if is_wide else f"%[s{i}]" for i in range(2)}
        rows |= {"sums": "r" if is_wide else "Te"}
        for operand, type in (("x", kind), ("w", types["w"])):
            rows |= dict(zip((f"load_{operand}", f"step_{operand}"), HALF_LANES[type], strict=True))
    return rows | {"four_sums": "sums_apart" if is_wide else "sums_together"} | _finish_of_vectors(types)


def _finish_of_vectors(types: dict[str, str]) -> dict[str, str]:
    """Return how four sums in a vector are finished."""
    return {"four": "finish_four" if types["finish"] in VECTOR_FINISHES else "finish_lanes", "apart": "sums_apart"}


def _bytes(kind: str) -> int:
    return int(kind[1:]) // 8
