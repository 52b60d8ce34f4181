"""One tensor after one epoch: what is known of it, the row that is measured of it, and the table of rows."""

from __future__ import annotations

import csv
import dataclasses
import functools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from po2quant.diagnostics import tensors
from po2quant.files import open_replacement
from po2quant.ranges import tail_bits

KERNEL, BIAS, ACTIVATION = "kernel", "bias", "activation"
PARTS = (KERNEL, BIAS, ACTIVATION)
SIGNIFICANT_DIGITS = 6


@dataclasses.dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A tensor and what its quantizer makes of it.

    Args:
        layer: layer of a kernel or bias, name of the quantizer for an activation.
        part: ``"kernel"``, ``"bias"`` or ``"activation"``.
        after: the layer whose output an activation is, else empty.
        bits: width in bits.
        values: unquantized values.
        quantized: quantized values, of the same shape.
        scale: value of one LSB; broadcasts against the values. None where each sample has its own.
        low: smallest multiple of the scale that the format holds.
        high: the largest one.
        is_power_of_two: whether scales are powers of two by construction.
        exact: values of the same tensor in the network without quantizers; None for weights.
    """

    layer: str
    part: str
    after: str
    bits: int
    values: np.ndarray
    quantized: np.ndarray
    scale: np.ndarray | None
    low: float
    high: float
    is_power_of_two: bool
    exact: np.ndarray | None = None

    @functools.cached_property
    def exponents(self) -> np.ndarray | None:
        """The base-2 logarithm of every scale: integers if they are powers of two."""
        return None if self.scale is None else np.log2(np.asarray(self.scale, np.float64))

    @functools.cached_property
    def integers(self) -> np.ndarray | None:
        """The quantized values as multiples of the scale."""
        if self.scale is None:
            return None
        return np.rint(self.quantized / self.scale).astype(np.int64)

    @property
    def levels(self) -> np.ndarray:
        """What a later epoch is compared with to see which values changed.

        Quantized values under powers of two; integers under real scales, where every value moves with the largest.
        """
        if self.is_power_of_two or self.integers is None:
            return self.quantized
        return self.integers.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one tensor was like after one epoch: a row of ``diagnostics.csv``.

    Changes are those since the epoch before. A value is None, and its cell empty, where it has no meaning: changes
    before training, oscillation before the second epoch, anything of a scale where each sample has its own.

    Args:
        epoch: finished epochs; 0 is the network before training.
        layer: layer of a kernel or bias; for an activation the name of its quantizer, as in ``best_config.json``.
        part: ``"kernel"``, ``"bias"`` or ``"activation"``.
        after: the layer whose output an activation is.
        bits: width.
        values: how many values were measured; of an activation, those of the whole batch.
        update_mean: mean absolute change of the unquantized values.
        update_max: largest absolute change of the unquantized values.
        update_signed: mean change of the unquantized values, with its sign.
        update_relative_mean: ``update_mean`` over the mean absolute value before.
        update_relative_max: ``update_max`` over the largest absolute value before.
        update_lsb_mean: mean absolute change in LSBs.
        update_lsb_max: largest absolute change in LSBs.
        flip_ratio: share of quantized values that changed.
        oscillation_ratio: share of quantized values that changed an epoch ago and are back at what they were; weights.
        zero_ratio: share of quantized values that are zero.
        clip_ratio: share of values beyond the largest or smallest level.
        exponent_mean: mean base-2 logarithm of the scales.
        exponent_min: the smallest one.
        exponent_max: the largest one.
        exponent_change_ratio: share of power-of-two scales whose exponent changed.
        effective_bits: base-2 logarithm of the number of different levels in use.
        sqnr_db: signal-to-quantization-noise ratio of this quantizer alone, in dB.
        network_sqnr_db: of an activation, its ratio to the same tensor in the network without any quantizer, in dB:
            the error of all quantizers up to here.
        tail_bits: of an activation, base-2 logarithm of the largest level over the magnitude that 99.9 % of the values
            other than zero stay below: bits that serve the others alone.
        negative_ratio: of an activation without sign, share of the values that are negative, and become 0.
    """

    epoch: int
    layer: str
    part: str
    after: str
    bits: int
    values: int
    update_mean: float | None = None
    update_max: float | None = None
    update_signed: float | None = None
    update_relative_mean: float | None = None
    update_relative_max: float | None = None
    update_lsb_mean: float | None = None
    update_lsb_max: float | None = None
    flip_ratio: float | None = None
    oscillation_ratio: float | None = None
    zero_ratio: float | None = None
    clip_ratio: float | None = None
    exponent_mean: float | None = None
    exponent_min: float | None = None
    exponent_max: float | None = None
    exponent_change_ratio: float | None = None
    effective_bits: float | None = None
    sqnr_db: float | None = None
    network_sqnr_db: float | None = None
    tail_bits: float | None = None
    negative_ratio: float | None = None

    @property
    def tensor(self) -> tuple[str, str]:
        """Layer and part, which name a tensor."""
        return self.layer, self.part


COLUMNS = tuple(field.name for field in dataclasses.fields(Measurement))
MEASURES = COLUMNS[COLUMNS.index("update_mean") :]
"""The columns that hold measured numbers."""
NEW_COLUMNS = ("tail_bits", "negative_ratio")
"""Those that tables from before version 0.2 do not have."""


def measure(
    epoch: int,
    now: QuantizedTensor,
    before: QuantizedTensor | None = None,
    levels_before_that: np.ndarray | None = None,
) -> Measurement:
    """Return the row of a tensor after ``epoch`` epochs.

    Args:
        epoch: finished epochs.
        now: the tensor.
        before: the same tensor one epoch ago, None if that is not known.
        levels_before_that: its levels two epochs ago, None if these are not known.
    """
    results: dict[str, float | None] = {
        "zero_ratio": tensors.zero_ratio(now.quantized),
        "sqnr_db": tensors.sqnr_db(now.values, now.quantized),
    }
    if now.exact is not None:
        results["network_sqnr_db"] = tensors.sqnr_db(now.exact, now.quantized)
        results["negative_ratio"] = float(np.mean(now.values < 0)) if now.low == 0 else None
        results["tail_bits"] = None if now.scale is None else tail_bits(now.values, float(now.high * now.scale))
    if now.scale is not None and now.exponents is not None and now.integers is not None:
        results |= {
            "clip_ratio": tensors.clip_ratio(now.values, now.scale, now.low, now.high),
            "exponent_mean": float(np.mean(now.exponents)),
            "exponent_min": float(np.min(now.exponents)),
            "exponent_max": float(np.max(now.exponents)),
            "effective_bits": float(np.log2(tensors.distinct_levels(now.integers))),
        }
    if before is not None:
        results |= _changes(now, before, levels_before_that)
    values: dict[str, Any] = {name: None if value is None else rounded(value) for name, value in results.items()}
    names = (now.layer, now.part, now.after)
    return Measurement(epoch, *names, bits=now.bits, values=now.values.size, **values)


def _changes(
    now: QuantizedTensor, before: QuantizedTensor, levels_before_that: np.ndarray | None
) -> dict[str, float | None]:
    update = tensors.update_size(now.values, before.values, now.scale)
    changes = {
        "update_mean": update.mean,
        "update_max": update.largest,
        "update_signed": update.signed,
        "update_relative_mean": update.relative_mean,
        "update_relative_max": update.relative_largest,
        "update_lsb_mean": update.lsb_mean,
        "update_lsb_max": update.lsb_largest,
        "flip_ratio": tensors.flip_ratio(now.levels, before.levels),
    }
    if now.is_power_of_two and now.scale is not None and before.scale is not None:
        changes["exponent_change_ratio"] = float(np.mean(now.exponents != before.exponents))
    if levels_before_that is not None:
        changes["oscillation_ratio"] = tensors.oscillation_ratio(now.levels, before.levels, levels_before_that)
    return changes


def rounded(value: float) -> float:
    """Return a number as tables have it."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def save_measurements(path: Path, rows: Sequence[Measurement]) -> None:
    """Write rows as CSV, all or nothing."""
    with open_replacement(path) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(map(operator.attrgetter(*COLUMNS), rows))


def load_measurements(path: Path) -> list[Measurement]:
    """Read the rows that :func:`save_measurements` wrote.

    Raises:
        ValueError: where the file is not such a table.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) not in (COLUMNS, COLUMNS[: -len(NEW_COLUMNS)]):
                raise ValueError("it has other columns")
            return [_parse(row) for row in reader]
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"diagnostics must be a CSV file of {', '.join(COLUMNS)}. Received: {path} ({error})"
        ) from None


def _parse(row: dict[str, str]) -> Measurement:
    if row["part"] not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}. Received: {row['part']!r}")
    numbers: dict[str, Any] = {name: float(row[name]) if row.get(name) else None for name in MEASURES}
    names = (row["layer"], row["part"], row["after"])
    return Measurement(int(row["epoch"]), *names, bits=int(row["bits"]), values=int(row["values"]), **numbers)
