"""Training in which a step of a kernel moves no mean: biases that are trained at the mean of their layers' inputs."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from po2quant.network.quantized import QuantizedWeight, weight_quantizers
from po2quant.network.walk import Arrays, walk

Offsets = dict[keras.layers.Layer, Callable[[], tf.Tensor]]
"""What each layer makes of the mean of its inputs, without its bias."""
_offsets: weakref.WeakKeyDictionary[keras.Model, Offsets] = weakref.WeakKeyDictionary()
"""Those of the models that are centred now."""


@contextmanager
def centred(model: keras.Model, x: Arrays) -> Iterator[None]:
    """Train biases at the mean of what their layers are given, within the block.

    Equation:
        y = x * k(W) + b = (x - m) * k(W) + c, with c = b + m * k(W), k the kernel's quantizer and m the mean of each
        channel of the layer's inputs. Within the block the bias variable holds c, afterwards b again: the network
        computes the same before and after, but for the rounding of sums.

    Gradient:
        that of the right side: a kernel's has no share of the mean. Where BatchNormalization is folded and inputs are
        decibels or pixels, a small step of every weight otherwise moves a unit far.

    Grouped convolutions, and layers without bias, stay as they are.

    Args:
        model: quantized and calibrated network. What was traced of it is traced anew, within the block and after it.
        x: inputs that give the means, ``(samples, ...)``, one array for each input of the network.

    Reference:
        Schraudolph, "Centering neural network gradient factors", 1998.
    """
    offsets = _offsets_of(model, x)
    _shift_biases(offsets, 1.0)
    for layer, offset in offsets.items():
        object.__setattr__(layer, "call", _call_less(offset, layer.call))  # Keras would take note of it
    _offsets[model] = offsets
    _forget_traces(model)
    try:
        yield
    finally:
        del _offsets[model]
        for layer in offsets:
            object.__delattr__(layer, "call")
        _shift_biases(offsets, -1.0)
        _forget_traces(model)


@contextmanager
def plain_biases(model: keras.Model) -> Iterator[None]:
    """Give the biases of a model the values that they have outside of :func:`centred`, within the block.

    What is saved or loaded there is the network as it is without it.
    """
    offsets = _offsets.get(model, {})
    _shift_biases(offsets, -1.0)
    try:
        yield
    finally:
        _shift_biases(offsets, 1.0)


def _offsets_of(model: keras.Model, x: Arrays) -> Offsets:
    kernels = {weight.layer.name: weight for weight in weight_quantizers(model) if weight.part == "kernel"}
    offsets: Offsets = {}
    for node, inputs in walk(model, x):
        layer, weight = node.layer, kernels.get(node.layer.name)
        if weight and getattr(layer, "bias", None) is not None and getattr(layer, "groups", 1) == 1:
            mean = tf.reduce_mean(inputs[0], axis=range(inputs[0].shape.rank - 1))
            offsets.setdefault(layer, functools.partial(_of_mean, weight, mean))
    return offsets


def _of_mean(weight: QuantizedWeight, mean: tf.Tensor) -> tf.Tensor:
    """Return what a layer without bias makes of an input that is the mean everywhere: a number for each channel."""
    kernel = weight.quantizer(tf.convert_to_tensor(weight.variable))
    taps = tf.reduce_sum(kernel, axis=range(kernel.shape.rank - 2))  # of each input and output channel
    is_depthwise = weight.variable is getattr(weight.layer, "depthwise_kernel", None)
    return tf.reshape(mean[:, None] * taps, [-1]) if is_depthwise else tf.linalg.matvec(taps, mean, transpose_a=True)


def _call_less(offset: Callable[[], tf.Tensor], plain: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    @functools.wraps(plain)
    def call(*arguments: Any, **options: Any) -> tf.Tensor:
        return plain(*arguments, **options) - offset()

    return call


def _shift_biases(offsets: Offsets, sign: float) -> None:
    for layer, offset in offsets.items():
        layer.bias.assign_add(sign * offset())


def _forget_traces(model: keras.Model) -> None:
    model.train_function = model.test_function = model.predict_function = None
