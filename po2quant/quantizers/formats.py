"""What tells one quantizer's computation from another's, apart from sizes: the grid, and the source of its scale.

Formats are hashable, so that quantizers alike share one traced graph. A width is no part of them: it is a tensor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import qkeras
import tensorflow as tf

from po2quant import scale as po2
from po2quant.bit_config import AUTO, AUTO_PO2, MAX, MSE, NEAREST, STOCK
from po2quant.fixed_point import HALF_EVEN
from po2quant.quantizers.functional import Grid, affine_scale, fake_quantize, symmetric_scale


@dataclasses.dataclass(frozen=True)
class Format:
    """Integers of some width, and how a tensor is rounded to them.

    Args:
        alpha: kind of scale, one of :data:`~po2quant.bit_config.ALPHAS`; None for fixed point, whatever its factor.
        integer: bits left of the binary point.
        signed: whether negative values are represented.
        narrow_range: whether the most negative integer is unused.
        clipped_gradient: whether clipped values get no gradient.
        scale_rule: row of :data:`SCALE_RULES`.
        axes: axes that share a scale.
        scale_axis: the same as QKeras says it.
        min_exponent: smallest exponent, None for no limit.
        max_exponent: largest exponent, None for no limit.
        candidates: exponents that a search tries.
        small: whether tensors have few values; see :func:`~po2quant.scale.is_small`.
        rounding: one of :data:`~po2quant.fixed_point.ROUNDING_MODES`.
    """

    alpha: str | None
    integer: int = 0
    signed: bool = True
    narrow_range: bool = True
    clipped_gradient: bool = True
    scale_rule: str = MSE
    axes: tuple[int, ...] = ()
    scale_axis: int | tuple[int, ...] | None = None
    min_exponent: int | None = None
    max_exponent: int | None = None
    candidates: int = po2.MSE_CANDIDATES
    small: bool | None = None
    rounding: str = HALF_EVEN

    def magnitude_bits(self, bit_width: tf.Tensor) -> tf.Tensor:
        """Return the bits of an integer without its sign."""
        return bit_width - int(self.signed)

    def limits(self, bit_width: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the smallest and the largest integer as tensors of ``dtype``."""
        return po2.integer_limits(self.magnitude_bits(bit_width), self.signed, self.narrow_range, dtype)

    def grid(self, scale: tf.Tensor, bit_width: tf.Tensor) -> Grid:
        """Return the values that a power-of-two scale gives."""
        return Grid(scale, bit_width, self.signed, self.narrow_range, self.small, self.rounding)

    def fixed_scale(self, bit_width: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Return the step of QKeras' fixed-point format: ``2**(integer - bits + keep_negative)``."""
        return po2.power_of_two(tf.cast(self.integer, tf.int32) - self.magnitude_bits(bit_width), dtype)

    def fake_quantize(
        self, x: tf.Tensor, scale: tf.Tensor, bit_width: tf.Tensor, zero_point: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return the nearest values of any scale and zero point."""
        low, high = self.limits(bit_width, x.dtype)
        parts = self.alpha != AUTO, self.clipped_gradient, self.rounding
        return fake_quantize(x, scale, low, high, zero_point, *parts)

    def scale_of(self, x: tf.Tensor, bit_width: tf.Tensor) -> tf.Tensor:
        """Return the scale that the values of ``x`` call for, one for all that share :attr:`axes`."""
        if self.alpha == AUTO:
            max_abs = tf.reduce_max(tf.abs(x), axis=self.axes, keepdims=True)
            return symmetric_scale(max_abs, self.limits(bit_width, x.dtype)[1])
        return SCALE_RULES[self.scale_rule](x, bit_width, self)

    def within_limits(self, exponent: tf.Tensor) -> tf.Tensor:
        """Return the exponent, or the limit that it exceeds."""
        if self.min_exponent is not None:
            exponent = tf.maximum(exponent, self.min_exponent)
        if self.max_exponent is not None:
            exponent = tf.minimum(exponent, self.max_exponent)
        return exponent

    def scale_and_zero_point(
        self, minimum: tf.Tensor, maximum: tf.Tensor, bit_width: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Return the scale and the zero point (None for 0) that hold a range of values."""
        low, high = self.limits(bit_width, minimum.dtype)
        if self.alpha == AUTO and self.signed and not self.narrow_range:
            return affine_scale(minimum, maximum, low, high)
        max_abs = tf.maximum(tf.maximum(maximum, -minimum) if self.signed else maximum, 0.0)
        if self.alpha == AUTO:
            return symmetric_scale(max_abs, high), None
        return po2.power_of_two(po2.max_exponent(max_abs, self.magnitude_bits(bit_width)), max_abs.dtype), None

    def learned_exponent(self, threshold: tf.Tensor, bit_width: tf.Tensor) -> tf.Tensor:
        """Return the exponent of the scale whose threshold is ``2**threshold``."""
        magnitude_bits = self.magnitude_bits(bit_width)
        ceiling = tf.cast(tf.math.ceil(threshold), tf.int32)
        return tf.clip_by_value(ceiling, po2.MIN_EXPONENT + magnitude_bits, po2.MAX_EXPONENT) - magnitude_bits

    def learned_scale(self, threshold: tf.Tensor, bit_width: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Return the scale whose threshold is ``2**threshold``."""
        return po2.power_of_two(self.learned_exponent(threshold, bit_width), dtype)

    def threshold_of(self, scale: tf.Tensor, bit_width: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Return log2 t in the middle of the thresholds that give ``scale``."""
        return tf.cast(po2.floor_log2(scale) + self.magnitude_bits(bit_width), dtype) - 0.5


def _of_largest(exponent_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[..., tf.Tensor]:
    def scale(x: tf.Tensor, bit_width: tf.Tensor, values: Format) -> tf.Tensor:
        max_abs = tf.reduce_max(tf.abs(x), axis=values.axes, keepdims=True)
        exponent = exponent_of(max_abs, values.magnitude_bits(bit_width))
        return po2.power_of_two(values.within_limits(exponent), x.dtype)

    return scale


def _of_least_error(x: tf.Tensor, bit_width: tf.Tensor, values: Format) -> tf.Tensor:
    exponent = po2.mse_exponent(
        x, values.magnitude_bits(bit_width), values.axes, values.signed, values.candidates, values.small
    )
    return po2.power_of_two(values.within_limits(exponent), x.dtype)


def _of_qkeras(x: tf.Tensor, bit_width: tf.Tensor, values: Format) -> tf.Tensor:
    """Return the scale of qkeras' ``quantized_bits``, which computes in float32."""
    stock = qkeras.quantizers.quantized_bits(
        tf.cast(bit_width, tf.float32),
        values.integer,
        values.narrow_range,
        values.signed,
        alpha=AUTO_PO2,
        scale_axis=list(values.scale_axis) if isinstance(values.scale_axis, tuple) else values.scale_axis,
        min_po2_exponent=values.min_exponent,
        max_po2_exponent=values.max_exponent,
    )
    stock(tf.cast(x, tf.float32))
    return tf.cast(stock.scale, x.dtype) * values.fixed_scale(bit_width, x.dtype)


SCALE_RULES: dict[str, Callable[[tf.Tensor, tf.Tensor, Format], tf.Tensor]] = {
    MSE: _of_least_error,
    MAX: _of_largest(po2.max_exponent),
    NEAREST: _of_largest(po2.nearest_exponent),
    STOCK: _of_qkeras,
}
"""How a power-of-two scale follows from values, bit width and format: least squared error, never clipping, the rounded
exponent of the largest value, qkeras' own computation."""
