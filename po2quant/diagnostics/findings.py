"""What the numbers mean, in plain words: rules with documented thresholds.

Each rule looks at the rows of one tensor over the epochs, says what is wrong with it, if anything, and how bad that is.
The thresholds were set against six trained networks under flat 4, 8 and 16 bits and mixed widths, real scales and
powers of two: their sound tensors pass.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from po2quant.diagnostics.arrays import ArraySummary
from po2quant.diagnostics.measurement import ACTIVATION, KERNEL, Measurement
from po2quant.ranges import MANY_TAIL_BITS

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""From bad to harmless: something is lost; something works badly; worth knowing."""

WINDOW = 5
"""Epochs that must agree before a rule about changes speaks: one odd epoch is no finding."""

STILL_LEARNING = 1e-3
"""Relative change of the loss over a stretch of epochs above which the network is learning."""

UPDATE_LARGE, UPDATE_SMALL = 1e-3, 1e-4
"""The study's lines for an update in an epoch; a mean relative one below the smaller vanishes."""

EXPLODING_UPDATE = 1.0
"""Mean relative update in an epoch from which a kernel is replaced rather than trained; the first epoch may do that.

Biases are exempt: they start near zero.
"""

MANY_ZEROS = 0.9
MANY_CLIPPED = 0.05
MANY_OSCILLATING = 0.1
MANY_EXPONENTS = 0.1
"""Share of a tensor's exponents that change in a mean epoch; they must have changed in most of :data:`WINDOW`."""

LOST_BITS = 2.0
"""Bits of the levels that a kernel or bias could use and does not.

A power of two may leave half of the range empty, and bell-shaped weights leave most of the outer half: sound tensors
lose up to 1.8. Activations are exempt: they carry the levels of their data.
"""

DB_PER_BIT = 20.0 * math.log10(2.0)
SQNR_MARGIN_DB = 24.0
"""Distance to 6.02 dB for each bit that a quantizer may have: four bits.

Bell-shaped weights under power-of-two scales lose up to 17 dB, activations with far outliers up to 20 dB.
"""

FLOAT32_BITS = 24
"""Width beyond which float32 itself is the limit of the ratio."""

HARMLESS_DB = 40.0
"""Ratio from which noise, however much there is for the width, does no harm."""

ERROR_JUMP_DB, JUMP_BELOW_DB = 10.0, 20.0
"""The network's error jumps where its ratio drops by the first number to below the second."""

POOR_OUTPUT_DB = 10.0
"""Ratio of the last activation below which the error is more than a tenth of the signal's power."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about one tensor that deserves attention.

    Args:
        severity: ``"error"``, ``"warning"`` or ``"note"``: that of the worst rule.
        layer: its layer, or the name of the activation's quantizer.
        part: ``"kernel"``, ``"bias"`` or ``"activation"``, or the name of an array in a weight file.
        rules: names of the rules that spoke.
        text: one sentence.
    """

    severity: str
    layer: str
    part: str
    rules: tuple[str, ...]
    text: str


@dataclasses.dataclass(frozen=True)
class _Remark:
    """What one rule says of one tensor."""

    severity: str
    rule: str
    text: str


def find(rows: Sequence[Measurement], losses: Mapping[int, float] | None = None) -> list[Finding]:
    """Return what stands out in the rows of a run, the worst first, then in network order.

    Args:
        rows: measurements of every tensor, of one epoch or more.
        losses: training loss by epoch, counted from 1. A tensor counts as dead only if the loss went on changing;
            without losses that is taken for granted.
    """
    history: dict[tuple[str, str], list[Measurement]] = {}
    for row in sorted(rows, key=lambda row: row.epoch):
        history.setdefault(row.tensor, []).append(row)
    accumulated = _accumulated_error([series[-1] for series in history.values()])
    findings = []
    for tensor, series in history.items():
        remarks = [remark for rule in RULES for remark in rule(series, losses)] + accumulated.get(tensor, [])
        if remarks:
            place = f"{tensor[0]} (after {series[-1].after})" if tensor[1] == ACTIVATION else " ".join(tensor)
            findings.append(_finding(*tensor, place, remarks))
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def find_in_arrays(arrays: Sequence[ArraySummary]) -> list[Finding]:
    """Return what stands out in a weight file, the worst first."""
    findings = []
    for array in arrays:
        remarks = []
        if not array.is_finite:
            remarks.append(_Remark(ERROR, "not_finite", "has values that are NaN or infinite"))
        if array.zero_ratio >= MANY_ZEROS and array.array == KERNEL:
            severity = ERROR if array.zero_ratio == 1.0 else WARNING
            remarks.append(_Remark(severity, "zeros", f"{_percent(array.zero_ratio)} of its values are zero"))
        if remarks:
            findings.append(_finding(array.layer, array.array, f"{array.layer} {array.array}", remarks))
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _finding(layer: str, part: str, place: str, remarks: Sequence[_Remark]) -> Finding:
    severity = min((remark.severity for remark in remarks), key=SEVERITIES.index)
    rules = tuple(remark.rule for remark in remarks)
    return Finding(severity, layer, part, rules, f"{place}: {'; '.join(remark.text for remark in remarks)}")


Series = Sequence[Measurement]
Losses = Mapping[int, float] | None


def _dead(series: Series, losses: Losses) -> Iterator[_Remark]:
    still = list(itertools.takewhile(lambda row: row.flip_ratio == 0.0, reversed(series)))
    if series[-1].part != ACTIVATION and len(still) >= WINDOW and _is_learning(still, losses):
        yield _Remark(ERROR, "dead", f"no {series[-1].part} value has changed for {len(still)} epochs")


def _is_learning(rows: Series, losses: Losses) -> bool:
    known = [losses[row.epoch] for row in rows if row.epoch in losses] if losses else []
    return not known or max(known) - min(known) > STILL_LEARNING * max(map(abs, known))


def _vanishing(series: Series, losses: Losses) -> Iterator[_Remark]:
    recent = _recent(series, "update_relative_mean")
    if series[-1].part != ACTIVATION and len(recent) == WINDOW and max(recent) < UPDATE_SMALL:
        in_lsb = f", {series[-1].update_lsb_mean:.1g} LSB" if series[-1].update_lsb_mean is not None else ""
        yield _Remark(WARNING, "vanishing", f"an epoch changes it by {recent[-1]:.1g} of its mean size{in_lsb}")


def _exploding(series: Series, losses: Losses) -> Iterator[_Remark]:
    later = (row for row in series if row.epoch > 1 and row.part == KERNEL)
    updates = {row.epoch: row.update_relative_mean for row in later if row.update_relative_mean is not None}
    largest = max(updates.values(), default=0.0)
    if largest > EXPLODING_UPDATE:
        epoch = next(epoch for epoch, update in updates.items() if update == largest)
        yield _Remark(WARNING, "exploding", f"epoch {epoch} changed it by {_percent(largest)} of its mean size")


def _zeros(series: Series, losses: Losses) -> Iterator[_Remark]:
    last = series[-1]
    is_lost = last.zero_ratio == 1.0 and (last.sqnr_db is not None or last.part == ACTIVATION)
    if is_lost:
        yield _Remark(ERROR, "zeros", f"all of its {last.bits}-bit values are zero")
    elif last.zero_ratio is not None and MANY_ZEROS <= last.zero_ratio < 1.0:
        severity = NOTE if last.part == ACTIVATION else WARNING
        yield _Remark(severity, "zeros", f"{_percent(last.zero_ratio)} of its {last.bits}-bit values are zero")


def _levels(series: Series, losses: Losses) -> Iterator[_Remark]:
    last = series[-1]
    if last.part == ACTIVATION or last.effective_bits is None or last.zero_ratio == 1.0:
        return
    usable = min(float(last.bits), math.log2(last.values))
    if last.effective_bits < usable - LOST_BITS:
        used, could = round(2.0**last.effective_bits), round(2.0**usable)
        yield _Remark(
            WARNING, "levels", f"uses {used} of {could} levels: {last.effective_bits:.1f} bits of {usable:.1f}"
        )


def _clipped(series: Series, losses: Losses) -> Iterator[_Remark]:
    clip_ratio = series[-1].clip_ratio
    if clip_ratio is not None and clip_ratio > MANY_CLIPPED:
        yield _Remark(WARNING, "clipped", f"{_percent(clip_ratio)} of its values are clipped")


def _outliers(series: Series, losses: Losses) -> Iterator[_Remark]:
    tail_bits = series[-1].tail_bits
    if tail_bits is not None and tail_bits > MANY_TAIL_BITS:
        text = (
            f"{tail_bits:.1f} of its {series[-1].bits} bits serve less than a thousandth of its values: calibrate by "
        )
        yield _Remark(WARNING, "outliers", f"{text}percentile or entropy")


def _contradicted(series: Series, losses: Losses) -> Iterator[_Remark]:
    negative_ratio = series[-1].negative_ratio
    if negative_ratio:
        text = f"{_percent(negative_ratio)} of its values are negative and become 0, since its quantizer has no sign"
        yield _Remark(ERROR, "contradicted", text)


def _flapping(series: Series, losses: Losses) -> Iterator[_Remark]:
    recent = _recent(series, "exponent_change_ratio")
    is_frequent = sum(ratio > 0.0 for ratio in recent) > WINDOW / 2
    if is_frequent and statistics.fmean(recent) > MANY_EXPONENTS:
        yield _Remark(WARNING, "flapping", f"an epoch changes {_percent(statistics.fmean(recent))} of its exponents")


def _oscillating(series: Series, losses: Losses) -> Iterator[_Remark]:
    recent = _recent(series, "oscillation_ratio")
    if len(recent) > WINDOW / 2 and statistics.fmean(recent) > MANY_OSCILLATING:
        share = _percent(statistics.fmean(recent))
        yield _Remark(WARNING, "oscillating", f"{share} of its values go back and forth from epoch to epoch")


def _noisy(series: Series, losses: Losses) -> Iterator[_Remark]:
    last = series[-1]
    expected = DB_PER_BIT * min(last.bits, FLOAT32_BITS)
    if last.sqnr_db is not None and last.sqnr_db < expected - SQNR_MARGIN_DB and last.zero_ratio != 1.0:
        severity = NOTE if last.sqnr_db >= HARMLESS_DB else WARNING
        text = f"its signal is {last.sqnr_db:.0f} dB above the quantization noise, where {last.bits} bits could give "
        yield _Remark(severity, "noisy", f"{text}{expected:.0f}")


RULES = (
    _dead,
    _vanishing,
    _exploding,
    _zeros,
    _levels,
    _clipped,
    _outliers,
    _contradicted,
    _flapping,
    _oscillating,
    _noisy,
)


def _accumulated_error(last_rows: Series) -> dict[tuple[str, str], list[_Remark]]:
    """Return where the error against the network without quantizers jumps, and whether the last activation is lost."""
    ratios = [(row.tensor, row.network_sqnr_db) for row in last_rows if row.network_sqnr_db is not None]
    remarks: dict[tuple[str, str], list[_Remark]] = {tensor: [] for tensor, _ in ratios}
    lowest = math.inf
    for tensor, ratio in ratios:
        if math.isfinite(lowest) and ratio < min(lowest - ERROR_JUMP_DB, JUMP_BELOW_DB):
            text = f"the network's error jumps here, from {lowest:.0f} to {ratio:.0f} dB below the signal"
            remarks[tensor].append(_Remark(WARNING, "jump", text))
        lowest = min(lowest, ratio)
    if ratios and ratios[-1][1] < POOR_OUTPUT_DB:
        tensor, ratio = ratios[-1]
        text = f"the error of all quantizers together is {_percent(10.0 ** (-ratio / 10.0))} of the output's power"
        remarks[tensor].append(_Remark(WARNING, "poor_output", text))
    return remarks


def _recent(series: Series, name: str) -> list[float]:
    """Return a measure of the last epochs, as far as it is known."""
    return [value for row in series[-WINDOW:] if (value := getattr(row, name)) is not None]


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"
