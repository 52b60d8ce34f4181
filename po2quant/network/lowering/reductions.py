"""Means, sums and extremes over axes, as poolings over images ``(axes before, reduced axes, axes after)``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers

from po2quant.network.graph import Node
from po2quant.network.lowering.arithmetic import rescaled
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.rearranging import rearranged


def _pooled(
    node: Node, x: Any, context: Context, axis: Any, window: Callable[..., Any], whole: Callable[..., Any]
) -> Any:
    """Return a tensor pooled over some axes, in the shape of the node's output.

    Args:
        node: what it is for.
        x: the tensor.
        context: of the network.
        axis: an axis or several, samples counted.
        window: pooling over windows of images.
        whole: pooling over whole images.

    Raises:
        ValueError: for a reduction over samples.
    """
    rank = len(x.shape)
    axes = sorted(int(place) % rank for place in np.ravel(range(rank) if axis is None else axis))
    if 0 in axes:
        raise ValueError(f"samples must stay apart. Received: a reduction over axis={axis}")
    if axes == list(range(1, rank - 1)) and rank <= 4:
        y = context.add(whole, node, context.image(x, node))
    else:
        image = _image(node, x, context, axes)
        y = context.add(window, node, image, (1, image.shape[2]))
    return y if tuple(y.shape[1:]) == node.shape else context.add(layers.Reshape, node, y, node.shape, part="reshaped")


def _image(node: Node, x: Any, context: Context, axes: list[int]) -> Any:
    """Return a tensor as an image whose columns are some axes of it."""
    rank = len(x.shape)
    if axes != list(range(axes[0], axes[-1] + 1)):
        order = [place for place in range(1, rank) if place not in axes] + axes
        x = rearranged(node, x, context, lambda values: values.transpose([place - 1 for place in order]), part="turned")
        axes = list(range(rank - len(axes), rank))
    sizes = x.shape[1 : axes[0]], x.shape[axes[0] : axes[-1] + 1], x.shape[axes[-1] + 1 :]
    return context.add(layers.Reshape, node, x, tuple(map(math.prod, sizes)), part="window")


def mean(node: Node, context: Context, x: Any, axis: Any = None) -> Any:
    """The mean over axes."""
    return _pooled(node, x, context, axis, layers.AveragePooling2D, layers.GlobalAveragePooling2D)


def total(node: Node, context: Context, x: Any, axis: Any = None) -> Any:
    """The sum over axes: their mean, times their number."""
    count = math.prod(x.shape[1:]) // math.prod(node.fixed_shape)
    return rescaled(node, mean(node, context, x, axis), context, float(count), part="scaled")


def largest(node: Node, context: Context, x: Any, axis: Any = None) -> Any:
    """The maximum over axes."""
    return _pooled(node, x, context, axis, layers.MaxPooling2D, layers.GlobalMaxPooling2D)


def smallest(node: Node, context: Context, x: Any, axis: Any = None) -> Any:
    """The minimum over axes: the negative of the maximum of the negative."""
    negative = rescaled(node, x, context, -1.0, part="negative")
    return rescaled(node, largest(node, context, negative, axis), context, -1.0, part="restored")
