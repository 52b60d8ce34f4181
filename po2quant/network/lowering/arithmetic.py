"""Sums, differences, products and extremes, of tensors and of constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from po2quant.network.graph import Node
from po2quant.network.lowering.context import Context


def rescaled(node: Node, x: Any, context: Context, scale: Any = 1.0, offset: Any = 0.0, part: str | None = None) -> Any:
    """Return ``x * scale + offset``.

    Args:
        node: what it is for.
        x: the tensor.
        context: of the network.
        scale: a number, or one for each channel.
        offset: the same.
        part: for the layer's name.

    Raises:
        ValueError: for constants of another shape.
    """
    scale, offset = np.asarray(scale, np.float64), np.asarray(offset, np.float64)
    if scale.size == offset.size == 1:
        if (scale.item(), offset.item()) == (1.0, 0.0):
            return x
        return context.add(layers.Rescaling, node, x, scale.item(), offset.item(), part=part)
    channels = x.shape[-1]
    for name, values in (("scale", scale), ("offset", offset)):
        if values.size not in (1, channels) or values.shape[-1:] not in ((), (1,), (channels,)):
            raise ValueError(
                f"a constant {name} must be one number or one for each of the {channels} channels. "
                f"Received: shape {values.shape}"
            )
    return channelwise(node, x, context, lambda: (scale, offset), part)


def channelwise(
    node: Node, x: Any, context: Context, constants: Callable[[], tuple[Any, Any]], part: str | None = None
) -> Any:
    """Return ``x * scale + offset`` of each channel: a BatchNormalization, which the next stage folds.

    Args:
        node: what it is for.
        x: the tensor.
        context: of the network.
        constants: returns scale and offset, of one channel or all, as they are when it is called.
        part: for the layer's name.
    """
    norm = layers.BatchNormalization(epsilon=0.0, name=context.name(node.layer, part))
    y = norm(context.image(x, node) if context.has_image(x) else x)

    def fill() -> None:
        for variable, values in zip((norm.gamma, norm.beta), constants(), strict=True):
            variable.assign(np.broadcast_to(np.ravel(values), variable.shape))

    context.transfers.append(fill)
    return context.of_image(y, node) if context.has_image(x) else y


def broadcast(node: Node, inputs: list[Any], context: Context) -> list[Any]:
    """Return tensors of one rank: axes of size 1 are put before the others, as numpy does it."""
    rank = max(len(x.shape) for x in inputs) - 1
    return [
        x
        if len(x.shape) == rank + 1
        else context.add(layers.Reshape, node, x, (*(1,) * (rank + 1 - len(x.shape)), *x.shape[1:]), part="broadcast")
        for x in inputs
    ]


def together(node: Node, inputs: list[Any], context: Context, layer_class: Callable[..., Any]) -> Any:
    """Apply a layer that joins tensors element by element, as images where they all were made of images."""
    inputs = broadcast(node, inputs, context)
    is_same = len({tuple(x.shape) for x in inputs}) == 1
    as_images = is_same and all(context.has_image(x) for x in inputs)
    operands = [context.image(x, node) for x in inputs] if as_images else inputs
    joined = layer_class(name=context.name(node.layer))(operands)
    return context.of_image(joined, node) if as_images else joined


def joining(layer_class: Callable[..., Any]) -> Callable[[Node, list[Any], Context], Any]:
    """Return the rule of Add, Multiply, Maximum or Minimum."""

    def rule(node: Node, inputs: list[Any], context: Context) -> Any:
        return together(node, inputs, context, layer_class)

    return rule


def subtraction(node: Node, inputs: list[Any], context: Context) -> Any:
    """Subtract: the sum of the first and the negative of the second tensor."""
    return together(node, [inputs[0], rescaled(node, inputs[1], context, -1.0, part="negative")], context, layers.Add)


def average(node: Node, inputs: list[Any], context: Context) -> Any:
    """Average: the sum, times one over the number of tensors."""
    return rescaled(node, together(node, inputs, context, layers.Add), context, 1.0 / len(inputs), part="scaled")


def is_tensor(value: Any) -> bool:
    """Return whether an argument of an operator is a tensor rather than a constant."""
    return isinstance(value, keras.KerasTensor)


def operator_sum(node: Node, x1: Any, x2: Any, context: Context) -> Any:
    """``x1 + x2``."""
    if is_tensor(x1) and is_tensor(x2):
        return together(node, [x1, x2], context, layers.Add)
    tensor, constant = (x1, x2) if is_tensor(x1) else (x2, x1)
    return rescaled(node, tensor, context, 1.0, constant)


def operator_difference(node: Node, x1: Any, x2: Any, context: Context) -> Any:
    """``x1 - x2``."""
    if is_tensor(x1) and is_tensor(x2):
        return subtraction(node, [x1, x2], context)
    return rescaled(node, x1, context, 1.0, -np.asarray(x2)) if is_tensor(x1) else rescaled(node, x2, context, -1.0, x1)


def operator_product(node: Node, x1: Any, x2: Any, context: Context) -> Any:
    """``x1 * x2``."""
    if is_tensor(x1) and is_tensor(x2):
        return together(node, [x1, x2], context, layers.Multiply)
    tensor, constant = (x1, x2) if is_tensor(x1) else (x2, x1)
    return rescaled(node, tensor, context, constant)


def operator_quotient(node: Node, x1: Any, x2: Any, context: Context) -> Any:
    """``x1 / x2`` by a constant."""
    if is_tensor(x2):
        raise ValueError("a quotient must have a constant divisor. Received: a tensor")
    return rescaled(node, x1, context, 1.0 / np.asarray(x2, np.float64))


EXPANSIONS = {
    layers.Add: joining(layers.Add),
    layers.Multiply: joining(layers.Multiply),
    layers.Maximum: joining(layers.Maximum),
    layers.Minimum: joining(layers.Minimum),
    layers.Subtract: subtraction,
    layers.Average: average,
}
