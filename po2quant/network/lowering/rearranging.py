"""Layers that move values without changing any: one walk over the input's elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import layers

from po2quant.layers import Rearrange
from po2quant.network.graph import Node
from po2quant.network.lowering.context import Context

View = Callable[[np.ndarray], np.ndarray]
"""What slicing, transposing, flipping or broadcasting makes of an array, without a copy."""


def rearranged(
    node: Node, x: Any, context: Context, view: View, shape: tuple[int, ...] | None = None, part: str | None = None
) -> Any:
    """Return a tensor after a :class:`~po2quant.layers.Rearrange` that does to it what ``view`` does.

    Args:
        node: what it is for.
        x: the tensor.
        context: of the network.
        view: of an array of the tensor's shape without the batch.
        shape: of the output without the batch; by default the view's.
        part: for the layer's name.
    """
    base = np.arange(int(np.prod(x.shape[1:]))).reshape(x.shape[1:])
    seen = view(base)
    return context.add(Rearrange.of, node, x, seen, base, seen.shape if shape is None else shape, part=part)


def permutation(node: Node, inputs: list[Any], context: Context) -> Any:
    """Permute."""
    axes = [axis - 1 for axis in node.layer.dims]
    return rearranged(node, inputs[0], context, lambda x: x.transpose(axes))


def cropped(node: Node, x: Any, context: Context, cropping: Any, part: str | None = None) -> Any:
    """Return a tensor without its first and last elements along the first axes."""
    ends = [slice(first, size - last) for (first, last), size in zip(cropping, x.shape[1:], strict=False)]
    return rearranged(node, x, context, lambda values: values[tuple(ends)], part=part)


def cropping(node: Node, inputs: list[Any], context: Context) -> Any:
    """Cropping1D and Cropping2D."""
    amounts = node.layer.cropping
    return cropped(node, inputs[0], context, [amounts] if isinstance(node.layer, layers.Cropping1D) else amounts)


def upsampling(node: Node, inputs: list[Any], context: Context) -> Any:
    """UpSampling1D and UpSampling2D by repeating."""
    layer = node.layer
    sizes = layer.size if isinstance(layer.size, (tuple, list)) else (layer.size,)
    _check_nearest(layer)
    return repeated(node, inputs[0], context, sizes)


def resizing(node: Node, inputs: list[Any], context: Context) -> Any:
    """Resizing to a multiple of the size by repeating."""
    layer, image = node.layer, inputs[0].shape[1:3]
    _check_nearest(layer)
    wanted = (layer.height, layer.width)
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio or any(np.mod(wanted, image)):
        raise ValueError(f"it must resize to a multiple of {tuple(image)}, as a whole. Received: {wanted}")
    return repeated(node, inputs[0], context, [new // old for new, old in zip(wanted, image, strict=True)])


def _check_nearest(layer: Any) -> None:
    interpolation = getattr(layer, "interpolation", "nearest")
    if interpolation != "nearest":
        raise ValueError(f"interpolation must be 'nearest'. Received: interpolation={interpolation!r}")


def repeated(node: Node, x: Any, context: Context, sizes: Sequence[int]) -> Any:
    """Return a tensor in which each element along the first axes stands as often as ``sizes`` say."""

    def repeat(values: np.ndarray) -> np.ndarray:
        shape: list[int] = []
        for axis, size in enumerate(sizes):
            values = np.expand_dims(values, 2 * axis + 1)
            shape += [values.shape[2 * axis], size]
        return np.broadcast_to(values, (*shape, *values.shape[2 * len(sizes) :]))

    return rearranged(node, x, context, repeat, node.fixed_shape)


def repetition(node: Node, inputs: list[Any], context: Context) -> Any:
    """RepeatVector."""
    count = node.layer.n
    return rearranged(node, inputs[0], context, lambda x: np.broadcast_to(x, (count, *x.shape)))


EXPANSIONS = {
    layers.Permute: permutation,
    layers.Cropping1D: cropping,
    layers.Cropping2D: cropping,
    layers.UpSampling1D: upsampling,
    layers.UpSampling2D: upsampling,
    layers.Resizing: resizing,
    layers.RepeatVector: repetition,
}
