"""What a frozen quantizer fixes: a format, or integers and their exponents."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from po2quant.fixed_point import FixedPointFormat, scale_exponents
from po2quant.integer.operations import Weights
from po2quant.network import QuantizedWeight
from po2quant.network.kinds import kernel_facts
from po2quant.quantizers import POWERS_OF_TWO, Quantizer, quantized_bits, quantized_bits_featuremap


def activation_format(name: str, quantizer: Any) -> FixedPointFormat:
    """Return the format that an activation quantizer gives every tensor.

    Args:
        name: name of its layer, for errors.
        quantizer: static and frozen, with powers of two.

    Raises:
        ValueError: for any other quantizer.
    """
    is_fixed_point = isinstance(quantizer, quantized_bits) and quantizer.alpha is None
    if not (is_fixed_point or isinstance(quantizer, quantized_bits_featuremap)) or quantizer.is_noisy:
        raise ValueError(
            f"quantizer of {name!r} must be a quantized_bits_featuremap, or quantized_bits without scales, and without "
            f"noise. Received: {quantizer}"
        )
    _check_shift(name, quantizer)
    if getattr(quantizer, "scale_axis", None) is not None and quantizer.alpha is not None:
        raise ValueError(
            f"quantizer of {name!r} must have one static scale, scale_axis=None: scales of each sample are computed at "
            f"run time. Received: scale_axis={quantizer.scale_axis}"
        )
    if quantizer.alpha is None:
        exponent = _fixed_point_exponent(quantizer)
    elif quantizer.frozen:
        exponent = int(_exponents(name, quantizer.scale))
    else:
        raise ValueError(f"the range of quantizer {name!r} is not frozen: call freeze_scales first")
    narrow_range, rounding = quantizer.signed and quantizer.narrow_range, quantizer.format.rounding
    return FixedPointFormat(quantizer.bits, exponent, quantizer.signed, narrow_range, rounding)


def integer_weights(weight: QuantizedWeight) -> Weights:
    """Return the integers and exponents of a kernel or bias, as its quantizer makes them in float64.

    Returns:
        Weights of the variable's shape; a depthwise kernel ``(h, w, C, m)`` becomes ``(h, w, 1, C * m)``.

    Raises:
        ValueError: for scales that are real, not frozen or not one an output channel.
    """
    quantizer, name = weight.quantizer, f"{weight.part} of {weight.layer.name!r}"
    if not isinstance(quantizer, quantized_bits) or quantizer.is_noisy:
        raise ValueError(f"quantizer of the {name} must be a quantized_bits without noise. Received: {quantizer}")
    _check_shift(name, quantizer)
    if quantizer.alpha is not None and not quantizer.frozen:
        raise ValueError(f"the scales of the {name} are not frozen: call freeze_scales first")
    shape = tuple(weight.variable.shape)
    if quantizer.alpha is None:
        exponents = np.full(shape, _fixed_point_exponent(quantizer))
    else:
        exponents = np.broadcast_to(_exponents(name, quantizer.frozen_scale), shape)
    values = quantizer.call(tf.constant(np.asarray(weight.variable), tf.float64)).numpy()  # not cast to float32
    integers = np.ldexp(values, -exponents).astype(np.int64)
    if weight.part == "kernel" and kernel_facts(weight.layer).is_depthwise:
        shape = (*shape[:2], 1, shape[2] * shape[3])
    by_channel = exponents.reshape(-1, shape[-1])
    if np.any(by_channel != by_channel[:1]):
        raise ValueError(
            f"the {name} must have one scale an output channel. Received: scale_axis={quantizer.scale_axis}"
        )
    return Weights(integers.reshape(shape), by_channel[0], quantizer.bits + (not quantizer.signed))


def _check_shift(name: str, quantizer: Quantizer) -> None:
    if quantizer.alpha not in (None, *POWERS_OF_TWO):
        raise ValueError(
            f"scales of {name!r} must be powers of two, alpha='auto_po2' or 'learned_po2': others are no shifts. "
            f"Received: alpha={quantizer.alpha!r}"
        )


def _fixed_point_exponent(quantizer: Quantizer) -> int:
    return quantizer.integer - quantizer.bits + quantizer.signed


def _exponents(name: str, scales: Any) -> np.ndarray:
    """Return the exponents of powers of two."""
    try:
        return scale_exponents(scales)
    except ValueError as error:
        raise ValueError(f"{name!r} must be trained with scales that are powers of two: {error}") from None
