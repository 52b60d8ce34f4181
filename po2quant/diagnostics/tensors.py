"""What can be measured on one quantized tensor, in numpy alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

FLOAT32_SLACK = 2.0**-22
"""Share of the largest integer by which float32 arithmetic may miss an integer: below 1 up to 22 bits."""

MAX_COUNTED_SPAN = 2**20
"""Spans of integers up to this are counted in an array, wider ones sorted."""


def quantize(values: np.ndarray, scale: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """Return ``scale * clip(round(values / scale), low, high)``, ties to even, as the quantizers do."""
    return np.clip(np.rint(values / scale), low, high) * scale


def zero_ratio(values: np.ndarray) -> float:
    """Return the share of values that are exactly zero."""
    return 1.0 - np.count_nonzero(values) / np.size(values)


def clip_ratio(values: np.ndarray, scale: np.ndarray | float, low: float, high: float) -> float:
    """Return the share of values that a quantizer clips.

    Equation:
        mean(round(x / scale) < low or round(x / scale) > high), ties to even.

    Args:
        values: the unquantized tensor.
        scale: value of one LSB; broadcasts against ``values``.
        low: smallest multiple of the scale that the format holds.
        high: the largest one.
    """
    values, scale = np.asarray(values), np.asarray(scale)
    beyond = (values > high * scale) | (values < low * scale)
    multiples = np.rint(values[beyond].astype(np.float64) / np.broadcast_to(scale, values.shape)[beyond])
    slack = FLOAT32_SLACK * max(abs(low), abs(high))
    return np.count_nonzero((multiples < low - slack) | (multiples > high + slack)) / values.size


def distinct_levels(integers: np.ndarray) -> int:
    """Return how many different integers a tensor has.

    Example:
        >>> distinct_levels(np.array([3, -1, 3, 0]))
        3
    """
    integers = np.asarray(integers).astype(np.int64).ravel()
    low, high = int(integers.min()), int(integers.max())
    if high - low < MAX_COUNTED_SPAN:
        return int(np.count_nonzero(np.bincount(integers - low)))
    return len(np.unique(integers))


def sqnr_db(signal: np.ndarray, quantized: np.ndarray) -> float | None:
    """Return the signal-to-quantization-noise ratio in decibels.

    Equation:
        10 * log10(sum(x**2) / sum((x - y)**2)); infinite without noise, None without a signal.

    Args:
        signal: x, the exact tensor.
        quantized: y, of the same shape.
    """
    signal = np.asarray(signal, np.float64)
    signal_power, noise_power = float(np.sum(np.square(signal))), float(np.sum(np.square(signal - quantized)))
    if not signal_power:
        return None
    return 10.0 * math.log10(signal_power / noise_power) if noise_power else math.inf


@dataclasses.dataclass(frozen=True)
class Update:
    """How far a tensor moved.

    Args:
        mean: mean absolute change, in the tensor's own unit.
        largest: largest absolute change, in the tensor's own unit.
        signed: mean change with its sign, in the tensor's own unit.
        relative_mean: mean absolute change over the mean absolute value before; None where that was zero.
        relative_largest: largest absolute change over the largest absolute value before; None where that was zero.
        lsb_mean: mean absolute change in LSBs of the quantizer; None without one.
        lsb_largest: largest absolute change in LSBs of the quantizer; None without one.
    """

    mean: float
    largest: float
    signed: float
    relative_mean: float | None
    relative_largest: float | None
    lsb_mean: float | None
    lsb_largest: float | None


def update_size(now: np.ndarray, before: np.ndarray, scale: np.ndarray | float | None = None) -> Update:
    """Return how far a tensor moved from ``before`` to ``now``.

    Args:
        now: unquantized values.
        before: unquantized values of the same shape.
        scale: value of one LSB; broadcasts against ``now``. None without a quantizer.

    Example:
        >>> update_size(np.array([1.0, 2.0]), np.array([1.0, 3.0]), 0.25).lsb_mean
        2.0
    """
    change = now - before
    size, old_size = np.abs(change), np.abs(before)
    mean, largest = _mean(size), float(size.max())
    old_mean, old_largest = _mean(old_size), float(old_size.max())
    in_lsb = None if scale is None else size / scale
    return Update(
        mean,
        largest,
        _mean(change),
        mean / old_mean if old_mean else None,
        largest / old_largest if old_largest else None,
        None if in_lsb is None else _mean(in_lsb),
        None if in_lsb is None else float(in_lsb.max()),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64))


def flip_ratio(now: np.ndarray, before: np.ndarray) -> float:
    """Return the share of quantized values that changed."""
    return float(np.mean(now != before))


def oscillation_ratio(now: np.ndarray, before: np.ndarray, before_that: np.ndarray) -> float:
    """Return the share of quantized values that left the value of two epochs ago and are back at it.

    Equation:
        mean(now == before_that and before != before_that).

    Reference:
        After the oscillations of Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", ICML 2022,
        arXiv 2203.11086. Theirs are counted at every step and as a moving average; these are seen once an epoch, so
        that a value that oscillates faster than that may look still.
    """
    return float(np.mean((now == before_that) & (before != before_that)))
