"""Layers that move values without changing any: one walk over the input's elements."""

from __future__ import annotations

import math
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
    _check_nearest(getattr(layer, "interpolation", "nearest"))
    return repeated(node, inputs[0], context, sizes)


def resizing(node: Node, inputs: list[Any], context: Context) -> Any:
    """Resizing to a multiple of the size by repeating, or to a part of it by leaving out."""
    layer = node.layer
    return resized(
        node,
        inputs[0],
        context,
        (layer.height, layer.width),
        layer.interpolation,
        layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio,
    )


def resized(
    node: Node, x: Any, context: Context, size: Sequence[int], interpolation: str, keeps_aspect_ratio: bool
) -> Any:
    """Return an image in another size: each pixel several times, or the middle one of several.

    Args:
        node: what it is for.
        x: the image.
        context: of the network.
        size: rows and columns.
        interpolation: must be ``'nearest'``.
        keeps_aspect_ratio: whether it is cropped or padded, which is refused.

    Raises:
        ValueError: for another way of resizing.
    """
    _check_nearest(interpolation)
    image = tuple(x.shape[1:3])
    ratios = [max(new, old) / min(new, old) for new, old in zip(size, image, strict=True)]
    if keeps_aspect_ratio or not all(ratio.is_integer() for ratio in ratios):
        raise ValueError(f"it must resize to a multiple or part of {image}, as a whole. Received: {tuple(size)}")
    steps = [max(old // new, 1) for new, old in zip(size, image, strict=True)]
    kept = tuple(slice(step // 2, None, step) for step in steps)
    counts = [max(new // old, 1) for new, old in zip(size, image, strict=True)]
    return rearranged(node, x, context, lambda values: _repeat(values[kept], counts), node.fixed_shape)


def _check_nearest(interpolation: str) -> None:
    if interpolation != "nearest":
        raise ValueError(f"interpolation must be 'nearest'. Received: interpolation={interpolation!r}")


def repeated(node: Node, x: Any, context: Context, counts: Sequence[int]) -> Any:
    """Return a tensor in which each element along the first axes stands as often as ``counts`` say."""
    return rearranged(node, x, context, lambda values: _repeat(values, counts), node.fixed_shape)


def _repeat(values: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    shape: list[int] = []
    for axis, count in enumerate(counts):
        values = np.expand_dims(values, 2 * axis + 1)
        shape += [values.shape[2 * axis], count]
    return np.broadcast_to(values, (*shape, *values.shape[2 * len(counts) :]))


def tiled(node: Node, x: Any, context: Context, counts: Sequence[int]) -> Any:
    """Return a tensor that stands as often along each axis as ``counts`` say."""

    def tile(values: np.ndarray) -> np.ndarray:
        shape: list[int] = []
        for axis, count in enumerate(counts):
            values = np.expand_dims(values, 2 * axis)
            shape += [count, values.shape[2 * axis + 1]]
        return np.broadcast_to(values, shape)

    return rearranged(node, x, context, tile, node.fixed_shape)


def zero_padded(node: Node, x: Any, context: Context, pads: Sequence[Sequence[int]]) -> Any:
    """Return a tensor with zeros at both ends of its axes, two numbers for each axis."""
    pads = [(int(before), int(after)) for before, after in pads]
    if len(pads) == 3 and not any(pads[2]):
        return context.add(layers.ZeroPadding2D, node, x, tuple(pads[:2]))
    for axis, ends in enumerate(pads):
        if any(ends):
            shape = tuple(x.shape[1:])
            image = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
            padded = (*shape[:axis], shape[axis] + sum(ends), *shape[axis + 1 :])
            x = context.add(layers.Reshape, node, x, image, part="row")
            x = context.add(layers.ZeroPadding2D, node, x, ((0, 0), ends))
            x = context.add(layers.Reshape, node, x, padded, part="padded")
    return x


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
