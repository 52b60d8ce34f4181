"""Ranges of activations from data, and what these data say against the network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from po2quant.network.graph import read_graph
from po2quant.network.quantized import activation_quantizers
from po2quant.network.walk import Arrays, input_arrays, walk
from po2quant.quantizers import quantized_bits_featuremap
from po2quant.ranges import MANY_TAIL_BITS, MAX, calibration_rules, tail_bits


class CalibrationWarning(UserWarning):
    """Calibration data that contradict the network, or a range that hardly any of them need."""


def calibrate(model: keras.Model, x: Arrays, rule: str | None = None) -> None:
    """Set the range of every static activation quantizer, in one pass over ``x``.

    Each quantizer gets the range that a rule chooses for what reaches it through the quantizers before it, and keeps it
    (it is frozen), unless its scale is learned, which starts from there. A :class:`CalibrationWarning` names quantizers
    whose range serves a few outliers, unsigned ones that negative values reach, and those that see nothing but zeros,
    behind units that no input activates: these hold values up to 1.

    Args:
        model: quantized model.
        x: inputs, ``(samples, ...)``, one array for each model input, or by key where the model takes a dictionary; a
            few hundred samples do. Labels are not used.
        rule: ``'mse'`` (least squared error), ``'max'`` (no value is clipped), ``'percentile'`` (the magnitude that
            99.99 % of the values stay below; ``'percentile:99.9'`` for another share) or ``'entropy'`` (least
            Kullback-Leibler divergence), perhaps followed by those of single quantizers:
            ``'percentile,activation_3=max'``. None: the one that each quantizer was made with, by default ``'mse'``.

    Raises:
        ValueError: for another number of arrays than the model has inputs, no samples, values that are not finite, an
            input of nothing but zeros, and an unknown rule or quantizer.

    Reference:
        Wu et al., arXiv 2004.09602, section 5.1, compares such rules.
    """
    general, single = (None, {}) if rule is None else calibration_rules(rule)
    if single:
        _check_names(single, [name for name, _ in activation_quantizers(model)])
    _check_inputs(model, x)
    is_silent = not all(np.any(array) for array in input_arrays(read_graph(model), x))
    for node, inputs in walk(model, x):
        quantizer = getattr(node.layer, "activation", None)
        if isinstance(quantizer, quantized_bits_featuremap):
            _check_values(node.layer.name, node.inputs[0].layer.name, inputs[0])
            if is_silent and not np.any(inputs[0]):
                raise ValueError(
                    f"quantizer {node.layer.name!r} must be calibrated on values that are not all zeros. Received: an "
                    "input of nothing but zeros"
                )
            calibrate_one(quantizer, inputs[0], single.get(node.layer.name, general))
            for remark in _remarks(quantizer, inputs[0]):
                warnings.warn(f"quantizer {node.layer.name!r} {remark}", CalibrationWarning, stacklevel=2)


def calibrate_one(quantizer: quantized_bits_featuremap, x: tf.Tensor, rule: str | None = None) -> None:
    """Give one activation quantizer its range, which it keeps unless its scale is learned.

    Args:
        quantizer: of an activation.
        x: what reaches it.
        rule: as of :func:`calibrate`; None: its own. Where it leaves no range, the largest value gives one, or 1 where
            all are zeros, which any range holds.
    """
    quantizer.calibrate(x, rule)
    if quantizer.is_static and quantizer.range == (0.0, 0.0):
        largest = float(tf.reduce_max(tf.abs(x))) or 1.0
        quantizer.calibrate(tf.constant([largest], x.dtype), MAX)
    quantizer.frozen = not quantizer.is_learned


def _check_names(names: Sequence[str] | dict[str, str], known: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"rule must name activation quantizers among {', '.join(known)}. Received: {unknown[0]!r}")


def _check_inputs(model: keras.Model, x: Arrays) -> None:
    """Raise ValueError for inputs without samples, or with NaN or infinity, naming input and sample."""
    graph = read_graph(model)
    for layer, array in zip(graph.inputs, input_arrays(graph, x), strict=True):
        if 0 in np.shape(array):
            raise ValueError(
                f"calibration inputs must have samples. Received: an array of shape {np.shape(array)} for input "
                f"{layer.name!r}"
            )
        finite = np.isfinite(np.asarray(array))
        if not finite.all():
            sample = int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
            raise ValueError(
                f"calibration inputs must be finite numbers. Received: NaN or infinity in sample {sample} of input "
                f"{layer.name!r}"
            )


def _check_values(name: str, source: str, x: tf.Tensor) -> None:
    if not bool(tf.reduce_all(tf.math.is_finite(x))):
        raise ValueError(
            f"values at quantizer {name!r} must be finite. Received: NaN or infinity from layer {source!r}, for inputs "
            "that are finite"
        )


def _remarks(quantizer: quantized_bits_featuremap, x: tf.Tensor) -> list[str]:
    """Return what the values that reach a quantizer say against it."""
    if not quantizer.is_static:
        return []
    remarks, values = [], x.numpy()
    if not values.any():
        return ["sees nothing but zeros, and holds values up to 1: no input activates the layers before it"]
    if not quantizer.signed and values.min(initial=0.0) < 0.0:
        remarks.append(
            "is unsigned, and negative values reach it, which become 0: if it stands at an input, that one must be "
            "placed as signed"
        )
    lost = tail_bits(values if quantizer.signed else np.maximum(values, 0.0), max(np.abs(quantizer.range)))
    if lost is not None and lost > MANY_TAIL_BITS:
        remarks.append(
            f"has a range of which {lost:.1f} bits serve less than a thousandth of its values: the rules percentile "
            "and entropy leave outliers out"
        )
    return remarks
