"""Convolutions that are made of others, those over sequences ``(steps, channels)`` included."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from po2quant.network.graph import Node
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.rearranging import cropped

CAUSAL = "causal"


def channelwise(name: str) -> layers.Layer:
    """Return a convolution that gives each channel a factor and a bias of its own."""
    return layers.DepthwiseConv2D(1, name=name)


def along_rows(value: Any) -> tuple[int, int]:
    """Return a size along the steps as one along rows and columns."""
    return (int(value[0] if isinstance(value, (tuple, list)) else value), 1)


def arrays_of(layer: Any) -> dict[str, np.ndarray]:
    """Return the kernel and, where the layer has one, the bias."""
    kernel = {"kernel": np.asarray(layer.kernel)}
    return kernel | ({"bias": np.asarray(layer.bias)} if layer.use_bias else {})


def separable(
    node: Node,
    x: Any,
    context: Context,
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
    dilation: tuple[int, int],
) -> Any:
    """A depthwise convolution without bias, a 1x1 convolution with the layer's bias, and its activation."""
    layer = node.layer

    def make() -> tuple[Any, Any]:
        depthwise = layers.DepthwiseConv2D(
            size,
            strides,
            padding,
            layer.depth_multiplier,
            dilation_rate=dilation,
            use_bias=False,
            name=context.name(layer, "depthwise"),
        )
        pointwise = layers.Conv2D(layer.filters, 1, use_bias=layer.use_bias, name=context.name(layer))

        def fill() -> None:
            kernel = np.asarray(layer.depthwise_kernel)
            depthwise.kernel.assign(kernel.reshape(depthwise.kernel.shape))
            pointwise.kernel.assign(np.asarray(layer.pointwise_kernel).reshape(pointwise.kernel.shape))
            if layer.use_bias:
                pointwise.bias.assign(layer.bias)

        context.transfers.append(fill)
        return depthwise, pointwise

    depthwise, pointwise = context.once(layer, make)
    return context.activated(pointwise(depthwise(x)), layer.activation, node)


def separable_convolution(node: Node, inputs: list[Any], context: Context) -> Any:
    """SeparableConv2D."""
    layer = node.layer
    return separable(node, inputs[0], context, layer.kernel_size, layer.strides, layer.padding, layer.dilation_rate)


def transposed(node: Node, image: Any, context: Context, size: tuple[int, int], strides: tuple[int, int]) -> Any:
    """A convolution with the kernel turned round over the image with zeros between its pixels.

    Zeros come in by reshaping: each pixel becomes a row of its own, which is padded to the stride.
    """
    layer = node.layer
    dilation = tuple((*layer.dilation_rate, 1)[:2])
    spans = [step * (taps - 1) + 1 for step, taps in zip(dilation, size, strict=True)]
    rows, columns, channels = image.shape[1:]
    x = image
    if strides[1] > 1:
        x = context.add(layers.Reshape, node, x, (rows * columns, 1, channels), part="spread")
        x = context.add(layers.ZeroPadding2D, node, x, ((0, 0), (0, strides[1] - 1)), part="spread")
        x = context.add(layers.Reshape, node, x, (rows, columns * strides[1], channels), part="spread")
    if strides[0] > 1:
        x = context.add(layers.Reshape, node, x, (rows, 1, columns * strides[1] * channels), part="spread")
        x = context.add(layers.ZeroPadding2D, node, x, ((0, 0), (0, strides[0] - 1)), part="spread")
        x = context.add(layers.Reshape, node, x, (rows * strides[0], columns * strides[1], channels), part="spread")
    # Keras' output begins `before` elements before the first that a whole kernel reaches.
    pads = []
    for length, span, stride, output in zip((rows, columns), spans, strides, _image_shape(node), strict=True):
        full = (length - 1) * stride + span
        cut = max(full - output, 0)
        before = 0 if layer.padding == "valid" else cut // 2
        begin = span - 1 - before
        pads.append((begin, output + span - 1 - begin - length * stride))
    x = _padded(node, x, context, pads)

    def arrays() -> dict[str, np.ndarray]:
        kernel = np.asarray(layer.kernel).reshape(*size, layer.filters, channels)
        return arrays_of(layer) | {"kernel": np.ascontiguousarray(kernel[::-1, ::-1].transpose(0, 1, 3, 2))}

    new = context.weighted(
        node,
        layers.Conv2D,
        arrays,
        filters=layer.filters,
        kernel_size=size,
        dilation_rate=dilation,
        use_bias=layer.use_bias,
    )
    return context.activated(new(x), layer.activation, node)


def _image_shape(node: Node) -> tuple[int, int]:
    rows, *columns, _ = node.fixed_shape
    return rows, (columns[0] if columns else 1)


def _padded(node: Node, x: Any, context: Context, pads: list[tuple[int, int]]) -> Any:
    """Return an image with zeros around it, or without its last pixels where padding is negative."""
    added = tuple((max(begin, 0), max(end, 0)) for begin, end in pads)
    removed = tuple((max(-begin, 0), max(-end, 0)) for begin, end in pads)
    if any(map(any, removed)):
        x = cropped(node, x, context, removed, "cropping")
    return context.add(layers.ZeroPadding2D, node, x, added, part="padding") if any(map(any, added)) else x


def transposed_convolution(node: Node, inputs: list[Any], context: Context) -> Any:
    """Conv2DTranspose."""
    return transposed(node, inputs[0], context, node.layer.kernel_size, node.layer.strides)


def sequence_convolution(node: Node, inputs: list[Any], context: Context) -> Any:
    """Conv1D and DepthwiseConv1D, causal padding included."""
    layer, x = node.layer, context.image(inputs[0], node)
    is_depthwise = isinstance(layer, layers.DepthwiseConv1D)
    padding = layer.padding
    if padding == CAUSAL:
        missing = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        x, padding = context.add(layers.ZeroPadding2D, node, x, ((missing, 0), (0, 0)), part="causal"), "valid"
    options = {
        "kernel_size": along_rows(layer.kernel_size),
        "padding": padding,
        "use_bias": layer.use_bias,
        "dilation_rate": along_rows(layer.dilation_rate),
        # A depthwise convolution must step alike in both directions; one column can be stepped over as wanted.
        "strides": layer.strides * 2 if is_depthwise else along_rows(layer.strides),
    }
    if is_depthwise:
        new = context.weighted(
            node, layers.DepthwiseConv2D, lambda: arrays_of(layer), depth_multiplier=layer.depth_multiplier, **options
        )
    else:
        new = context.weighted(
            node, layers.Conv2D, lambda: arrays_of(layer), filters=layer.filters, groups=layer.groups, **options
        )
    return context.of_image(context.activated(new(x), layer.activation, node), node)


def separable_sequence_convolution(node: Node, inputs: list[Any], context: Context) -> Any:
    """SeparableConv1D."""
    layer = node.layer
    sizes = along_rows(layer.kernel_size), layer.strides * 2, layer.padding, along_rows(layer.dilation_rate)
    return context.of_image(separable(node, context.image(inputs[0], node), context, *sizes), node)


def transposed_sequence_convolution(node: Node, inputs: list[Any], context: Context) -> Any:
    """Conv1DTranspose."""
    image = context.image(inputs[0], node)
    return context.of_image(
        transposed(node, image, context, along_rows(node.layer.kernel_size), along_rows(node.layer.strides)), node
    )


EXPANSIONS = {
    layers.Conv1D: sequence_convolution,
    layers.DepthwiseConv1D: sequence_convolution,
    layers.SeparableConv1D: separable_sequence_convolution,
    layers.Conv1DTranspose: transposed_sequence_convolution,
    layers.SeparableConv2D: separable_convolution,
    layers.Conv2DTranspose: transposed_convolution,
}
