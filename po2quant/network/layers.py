"""Which Keras layers the package knows, and what each means for quantization."""

from __future__ import annotations

import keras

WEIGHT_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
POOLING_LAYERS = (
    keras.layers.AveragePooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
)
PASSING_LAYERS = (
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Identity,
)
"""Layers that move values without changing them (in inference)."""

ACTIVATIONS = ("linear", "relu", "relu6", "silu", "sigmoid", "softmax")
ALIASES = {"swish": "silu"}
COMPUTE_DTYPES = ("float32", "float64")
NONNEGATIVE_ACTIVATIONS = ("relu", "relu6", "sigmoid", "softmax")


def activation_of(layer: keras.layers.Layer) -> str | None:
    """Return the function of an activation layer, or None for any other layer.

    Raises:
        ValueError: for a function that is not known.
    """
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if isinstance(layer, keras.layers.ReLU):
        if layer.negative_slope or layer.threshold:
            raise ValueError(
                f"layer {layer.name!r}: a ReLU with a slope or a threshold is not supported, use ReLU or ReLU6"
            )
        if layer.max_value not in (None, 6.0):
            raise ValueError(
                f"layer {layer.name!r}: max_value of a ReLU must be None or 6. Received: max_value={layer.max_value}"
            )
        return "relu" if layer.max_value is None else "relu6"
    if not isinstance(layer, keras.layers.Activation):
        return None
    return activation_name(layer.activation, layer.name)


def activation_name(function: object, layer_name: str) -> str:
    """Return the name of a Keras activation function, or raise ValueError for an unknown one."""
    name = getattr(function, "__name__", str(function))
    name = ALIASES.get(name, name)
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation of layer {layer_name!r} must be one of {', '.join(ACTIVATIONS)}. Received: {name!r}"
        )
    return name


def is_relu(layer: keras.layers.Layer) -> bool:
    """Return whether a layer is a ReLU or ReLU6."""
    return activation_of(layer) in ("relu", "relu6")


def check_supported(layer: keras.layers.Layer) -> None:
    """Raise ValueError, saying what to do, for a layer that cannot be quantized."""
    known = (
        *WEIGHT_LAYERS,
        *POOLING_LAYERS,
        *PASSING_LAYERS,
        keras.layers.InputLayer,
        keras.layers.BatchNormalization,
        keras.layers.Add,
        keras.layers.Multiply,
        keras.layers.Concatenate,
    )
    if type(layer) is not keras.layers.InputLayer and layer.compute_dtype not in COMPUTE_DTYPES:
        raise ValueError(
            f"layer {layer.name!r} must compute in {' or '.join(COMPUTE_DTYPES)}. Received: {layer.compute_dtype}"
        )
    # A subclass may compute something else than the layer that would take its place.
    if type(layer) not in known and activation_of(layer) is None:
        raise ValueError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be quantized. Replace it by supported layers: "
            "Conv2D, DepthwiseConv2D, Dense, BatchNormalization, ReLU, Activation, Softmax, Add, Multiply, "
            "Concatenate, pooling, Flatten, Reshape, Dropout, ZeroPadding2D"
        )


def kernel_of(layer: keras.layers.Layer) -> keras.Variable:
    """Return the kernel of a convolution or dense layer, Keras' or QKeras'."""
    depthwise = getattr(layer, "depthwise_kernel", None)
    return layer.kernel if depthwise is None else depthwise
