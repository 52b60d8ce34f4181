"""Training in which a step of a kernel moves no mean: biases that are trained at the mean of their layers' inputs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

from po2quant.network.quantized import QuantizedWeight, weight_quantizers
from po2quant.network.walk import Arrays, walk


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
    kernels = {weight.layer.name: weight for weight in weight_quantizers(model) if weight.part == "kernel"}
    means: dict[str, tf.Tensor] = {}
    for node, inputs in walk(model, x):
        if node.layer.name in kernels and getattr(node.layer, "bias", None) is not None:
            means.setdefault(node.layer.name, tf.reduce_mean(inputs[0], axis=range(inputs[0].shape.rank - 1)))
    with ExitStack() as stack:
        stack.callback(_forget_traces, model)
        for name, mean in means.items():
            if getattr(kernels[name].layer, "groups", 1) == 1:
                stack.enter_context(_centred_layer(kernels[name], mean))
        _forget_traces(model)
        yield


@contextmanager
def _centred_layer(weight: QuantizedWeight, mean: tf.Tensor) -> Iterator[None]:
    layer, plain = weight.layer, weight.layer.call

    def of_mean() -> tf.Tensor:
        """Return what the layer makes of an input that is the mean everywhere, without its bias."""
        kernel = weight.quantizer(tf.convert_to_tensor(weight.variable))
        taps = tf.reduce_sum(kernel, axis=range(kernel.shape.rank - 2))  # of each input and output channel
        is_depthwise = weight.variable is getattr(layer, "depthwise_kernel", None)
        return (
            tf.reshape(mean[:, None] * taps, [-1]) if is_depthwise else tf.linalg.matvec(taps, mean, transpose_a=True)
        )

    @functools.wraps(plain)
    def call(*arguments: Any, **options: Any) -> tf.Tensor:
        return plain(*arguments, **options) - of_mean()

    layer.bias.assign_add(of_mean())
    object.__setattr__(layer, "call", call)  # Keras would take note of it
    try:
        yield
    finally:
        object.__delattr__(layer, "call")
        layer.bias.assign_sub(of_mean())


def _forget_traces(model: keras.Model) -> None:
    model.train_function = model.test_function = model.predict_function = None
