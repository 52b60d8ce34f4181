"""What each width of each quantizer costs while all others are at their widest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.diagnostics.forward import batches_of, loss_and_outputs
from po2quant.files import read_csv, write_csv
from po2quant.network import calibrate_one, slot_quantizers, walk
from po2quant.progress import SILENT, ProgressLine
from po2quant.quantizers import Quantizer, quantized_bits_featuremap

BATCH_SIZE = 128

Ranges = dict[tuple[str, int], tuple[float, float]]
"""Static activation range by slot and width."""


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What one slot at one width costs, all others at their widest.

    Args:
        slot: ``<layer>.kernel``, ``<layer>.bias`` or ``<layer>.activation``, as in the search space.
        bits: width.
        loss_increase: mean loss less the widest network's; noise can make it negative.
        output_error: mean squared difference from the widest network's output.
    """

    slot: str
    bits: int
    loss_increase: float
    output_error: float


def sensitivity_sweep(
    model: keras.Model,
    choices: Mapping[str, Sequence[int]],
    calibration_inputs: np.ndarray,
    samples: Split,
    loss: str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    batch_size: int = BATCH_SIZE,
    line: ProgressLine = SILENT,
) -> list[Sensitivity]:
    """Measure every slot at every width, in one graph that is compiled once.

    Widths and ranges are variables, so that a measurement is an assignment and one forward pass over the samples: one
    for each pair of slot and narrower width, and one for the widest network, which all slots share.

    One pass over the calibration inputs finds the activation ranges of all widths. What reaches a quantizer does not
    depend on its own width, so each quantizer gets its range for every width while the tensor is at hand. Ranges of
    the quantizers after it stay those of the widest network: a sensitivity is the error of one quantizer alone.

    Args:
        model: quantized network with trained weights; left calibrated, every slot at its widest.
        choices: widths that each slot may take, for every slot of the network.
        calibration_inputs: network inputs, ``(samples, ...)``.
        samples: a few batches to measure on: network inputs and targets.
        loss: Keras loss, or its name.
        batch_size: samples per forward pass.
        line: shows progress, in measurements.

    Returns:
        One row per slot and width, slots in the order of ``choices``, widths narrow to wide; the widest cost nothing
        by definition. The same arguments give the same rows.

    Raises:
        ValueError: for choices that do not cover the slots of the network.

    Reference:
        Hubara et al., arXiv 2006.10518: the loss of one quantized layer at a time, as costs of an integer program.
    """
    quantizers = slot_quantizers(model)
    _check_choices(choices, quantizers)
    ranges = calibrate_every_width(model, quantizers, choices, calibration_inputs)
    measure = _Measurement(model, samples, keras.losses.get(loss), batch_size)
    widest_loss, widest_outputs = measure()
    rows = []
    for slot, widths in choices.items():
        quantizer = quantizers[slot]
        *narrower, widest = sorted(set(widths))
        for bits in narrower:
            set_width(quantizer, bits, ranges.get((slot, bits)))
            mean_loss, outputs = measure()
            error = float(np.mean(np.square(outputs - widest_outputs)))
            rows.append(Sensitivity(slot, bits, mean_loss - widest_loss, error))
            line.advance()
        set_width(quantizer, widest, ranges.get((slot, widest)))
        rows.append(Sensitivity(slot, widest, 0.0, 0.0))
    return rows


def save_sensitivities(path: Path, rows: Sequence[Sensitivity]) -> None:
    """Write rows as CSV, all or nothing."""
    write_csv(path, [dataclasses.asdict(row) for row in rows])


def load_sensitivities(path: Path) -> list[Sensitivity]:
    """Read the rows that :func:`save_sensitivities` wrote.

    Raises:
        ValueError: where the file is not such a table.
    """
    try:
        return [
            Sensitivity(row["slot"], int(row["bits"]), float(row["loss_increase"]), float(row["output_error"]))
            for row in read_csv(path)
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        columns = ", ".join(field.name for field in dataclasses.fields(Sensitivity))
        raise ValueError(f"sensitivities must be a CSV file of {columns}. Received: {path} ({error})") from None


class _Measurement:
    """Runs the samples through the network as it stands."""

    def __init__(self, model: keras.Model, samples: Split, loss: Callable, batch_size: int) -> None:
        self._batches = batches_of(samples, batch_size)

        @tf.function(input_signature=[tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in self._batches[0]])
        def forward(inputs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = model(inputs, training=False)
            return tf.reduce_mean(loss(targets, outputs)), outputs

        self._forward = forward

    def __call__(self) -> tuple[float, np.ndarray]:
        """Return the mean loss and the outputs, float64 ``(samples, ...)``."""
        return loss_and_outputs(self._forward, self._batches)


def calibrate_every_width(
    model: keras.Model, quantizers: Mapping[str, Quantizer], choices: Mapping[str, Sequence[int]], x: np.ndarray
) -> Ranges:
    """Return the activation ranges of all widths, and leave the network calibrated at its widest."""
    for slot, quantizer in quantizers.items():
        quantizer.bits = max(choices[slot])
    ranges: Ranges = {}
    for node, inputs in walk(model, x):
        activation, slot = getattr(node.layer, "activation", None), f"{node.layer.name}.activation"
        if isinstance(activation, quantized_bits_featuremap) and activation.is_static:
            for bits in sorted(set(choices[slot])):
                activation.bits = bits
                calibrate_one(activation, inputs[0])
                ranges[slot, bits] = activation.range
            activation.frozen = True
    return ranges


def set_width(quantizer: Quantizer, bits: int, static_range: tuple[float, float] | None) -> None:
    """Give a quantizer a width and the range that was calibrated for it."""
    quantizer.bits = bits
    if static_range is not None:
        quantizer.set_range(*static_range)


def _check_choices(choices: Mapping[str, Sequence[int]], slots: Mapping[str, Quantizer]) -> None:
    missing = [slot for slot in slots if not choices.get(slot)]
    unknown = [slot for slot in choices if slot not in slots]
    if missing or unknown:
        raise ValueError(
            "choices must give widths to every slot of the network and to no other. "
            f"Received: none for {', '.join(missing) or 'no slot'}, unknown {', '.join(unknown) or 'none'}"
        )
