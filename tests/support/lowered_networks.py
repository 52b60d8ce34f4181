"""Small networks of layers outside the core, a name each: what their input looks like, and what they make of it."""

import keras
import numpy as np
from keras import layers, ops

IMAGE, SEQUENCE, VECTOR = (6, 5, 4), (7, 4), (6,)


def functional(shape, build):
    x = keras.Input(shape, name="x")
    return keras.Model(x, build(x))


def chain(*stack):
    def build(x):
        for layer in stack:
            x = layer(x)
        return x

    return build


def conv(*arguments, **options):
    return layers.Conv2D(4, 1, *arguments, **options)


def slopes(low, high):
    """An initializer of slopes from one number to another."""
    return lambda shape, dtype=None: np.linspace(low, high, int(np.prod(shape))).reshape(shape)


def nested(x):
    def block(x):
        inner = keras.Input(x.shape[1:])
        y = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 1, name="conv")(inner))
        return keras.Model(inner, layers.Add(name="sum")([inner, layers.ReLU(name="relu")(y)]))(x)

    return layers.GlobalAveragePooling2D()(block(block(conv()(x))))


def twice(x):
    """One inner model on two tensors, as in a siamese network."""
    inner = keras.Sequential([keras.Input((6, 5, 2)), conv(), layers.BatchNormalization(), layers.ReLU()])
    left, right = ops.split(x, 2, axis=-1)
    return layers.Subtract()([inner(left), inner(right)])


def shuffled(x):
    """The channel shuffle of ShuffleNet."""
    y = ops.reshape(x, (-1, 6, 5, 2, 2))
    return conv()(ops.reshape(ops.transpose(y, (0, 1, 2, 4, 3)), (-1, 6, 5, 4)))


def operators(x):
    y = conv()(x)
    y = ops.relu(y * 0.5 + 1.0 - y) * ops.sigmoid(y)
    y = ops.concatenate([y[:, 1:5, ::2], -y[:, :4, :3]], axis=-1)
    return ops.mean(ops.maximum(y, 0) / 2.0, axis=(1, 2))


def gate(x):
    y = conv()(x)
    return layers.Multiply()([y, layers.Dense(4, activation="hard_sigmoid")(layers.GlobalAveragePooling2D()(y))])


def dense_net(x):
    y = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Concatenate()([x, layers.Conv2D(2, 3, padding="same")(y)])
    return layers.Conv2D(3, 1)(layers.BatchNormalization()(y))


def shaped(x):
    """Changes of shape and place."""
    y = ops.stack([conv()(x), conv()(x)], axis=3)
    y = ops.moveaxis(ops.squeeze(ops.expand_dims(y, 1), 1), 3, 1)[:, -1]
    return (
        conv()(ops.tile(y, (1, 2, 1, 1))) + ops.repeat(ops.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0))), 4, axis=1)[:, :12]
    )


def sized(x):
    y = ops.image.resize(conv()(x), (12, 15), interpolation="nearest")
    y = layers.Resizing(4, 15, "nearest")(y)
    return ops.pad(y, ((0, 0), (0, 0), (0, 0), (1, 2)))


def spaced(x):
    y = ops.depth_to_space(conv()(x), 2)
    return ops.space_to_depth(conv()(y), 2)


def reduced(x):
    y = layers.Conv2D(4, 1, name="base")(x)
    y = y + ops.mean(y, axis=-1, keepdims=True) + ops.max(y, axis=(1, 3), keepdims=True)
    return ops.sum(y, axis=2) - ops.min(y, axis=2) + ops.mean(y, axis=(2,))


def limited(x):
    y = layers.Conv2D(4, 1)(x)
    y = ops.clip(y, -0.5, 1.0) + ops.maximum(y, 0.25) * ops.minimum(y, 0.5) + ops.abs(y) - ops.square(y)
    return ops.clip(y, 0.1, 2.0) + keras.activations.relu(y, negative_slope=0.1, max_value=1.5, threshold=0.2)


def spread(x):
    """Every pair of shapes that is broadcast."""
    y = layers.Conv2D(4, 1)(x)
    column, row, channel = y[:, :, :1], y[:, :1], layers.Dense(4)(layers.GlobalAveragePooling2D()(y))
    gated = layers.Multiply()([y, channel[:, None, None, :]]) + y[:, :1, :1, :1]
    return layers.Add()([layers.Multiply()([column, row]), gated])


def steps(x):
    """Causal, dilated and strided, one layer on another."""
    y = layers.Conv1D(4, 3, padding="causal", dilation_rate=3)(x)
    y = layers.DepthwiseConv1D(2, padding="same")(layers.Conv1D(4, 2, strides=2, padding="causal")(y))
    return y + layers.SeparableConv1D(4, 3, padding="same", dilation_rate=2)(y)


def named_ends(x):
    return {"scores": layers.Dense(3, activation="softmax")(x), "box": layers.Dense(2, name="other")(x)}


def pair(layer_class):
    return lambda x: layer_class()([layers.Dense(4)(x), layers.Dense(4)(x)])


MODELS = {
    "nested models with equal names": (IMAGE, nested),
    "one inner model called twice": (IMAGE, twice),
    "operators": (IMAGE, operators),
    "channel shuffle": (IMAGE, shuffled),
    "shapes and places": (IMAGE, shaped),
    "sizes": (IMAGE, sized),
    "space and depth": (IMAGE, spaced),
    "reductions over any axes": (IMAGE, reduced),
    "limits": (IMAGE, limited),
    "broadcasting": (IMAGE, spread),
    "causal and dilated steps": (SEQUENCE, steps),
    "a dictionary of outputs": (VECTOR, named_ends),
    "pooling operators": (IMAGE, lambda x: ops.max_pool(ops.average_pool(x, 2, padding="same"), 2, 1)),
    "dilated depthwise": (IMAGE, chain(layers.DepthwiseConv2D(2, dilation_rate=2, padding="same", activation="relu6"))),
    "approximate gelu": (VECTOR, chain(layers.Dense(4), ops.gelu, layers.Dense(3))),
    "exact gelu": (VECTOR, chain(layers.Dense(4), lambda x: ops.gelu(x, approximate=False))),
    "Conv1D": (
        SEQUENCE,
        chain(
            layers.Conv1D(6, 3, 2, "same"),
            layers.BatchNormalization(axis=2),
            layers.ReLU(),
            layers.Conv1D(4, 2, dilation_rate=2, padding="causal", activation="tanh"),
            layers.MaxPooling1D(2),
            layers.Flatten(),
            layers.Dense(3),
        ),
    ),
    "DepthwiseConv1D": (SEQUENCE, chain(layers.DepthwiseConv1D(3, 2, "same", depth_multiplier=2))),
    "SeparableConv1D": (SEQUENCE, chain(layers.SeparableConv1D(5, 3, 2, "same", depth_multiplier=2))),
    "Conv1DTranspose": (SEQUENCE, chain(layers.Conv1DTranspose(3, 3, 2, "same"))),
    "1D": (
        SEQUENCE,
        chain(
            layers.ZeroPadding1D((2, 1)),
            layers.SpatialDropout1D(0.3),
            layers.AveragePooling1D(3, 2, "same"),
            layers.Cropping1D((1, 0)),
            layers.UpSampling1D(2),
            layers.GlobalMaxPooling1D(),
        ),
    ),
    "TimeDistributed": (
        SEQUENCE,
        chain(
            layers.TimeDistributed(layers.Dense(6, activation="relu")),
            layers.TimeDistributed(layers.Reshape((2, 3))),
            layers.TimeDistributed(layers.Flatten()),
            layers.TimeDistributed(layers.LeakyReLU(0.2)),
        ),
    ),
    "GlobalAveragePooling1D": (SEQUENCE, chain(layers.Dense(5), layers.GlobalAveragePooling1D(), layers.Dense(2))),
    "SeparableConv2D": (IMAGE, chain(layers.SeparableConv2D(5, 3, 2, "same", activation="relu"))),
    "Conv2DTranspose same": (IMAGE, chain(layers.Conv2DTranspose(3, 3, 2, "same", activation="relu"))),
    "Conv2DTranspose valid": (IMAGE, chain(layers.Conv2DTranspose(3, (2, 3), (3, 1)))),
    "Conv2DTranspose without overlap": (IMAGE, chain(layers.Conv2DTranspose(2, 2, 2))),
    "Conv2DTranspose dilated": (IMAGE, chain(layers.Conv2DTranspose(2, 3, dilation_rate=2))),
    "Conv1DTranspose dilated": (SEQUENCE, chain(layers.Conv1DTranspose(2, 3, dilation_rate=2, padding="same"))),
    "Conv2DTranspose even": (IMAGE, chain(layers.Conv2DTranspose(2, 4, 2, "same", use_bias=False))),
    "BatchNormalization first, and over a vector": (
        VECTOR,
        chain(layers.BatchNormalization(), layers.ReLU(), layers.BatchNormalization(), layers.Dense(3)),
    ),
    "BatchNormalization before a padded convolution": (
        IMAGE,
        chain(layers.BatchNormalization(), layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()),
    ),
    "BatchNormalization after an activation inside": (
        IMAGE,
        chain(conv(activation="relu"), layers.BatchNormalization(), layers.DepthwiseConv2D(2, depth_multiplier=2)),
    ),
    "BatchNormalization over a sequence": (SEQUENCE, chain(layers.BatchNormalization(), layers.ReLU())),
    "BatchNormalization of a dense net": (IMAGE, dense_net),
    "Rescaling of an input": (IMAGE, chain(layers.Rescaling(1 / 127.5, -1), layers.Conv2D(3, 3, 2, "same"))),
    "Rescaling before a convolution": (IMAGE, chain(layers.Rescaling(1 / 255), layers.Conv2D(3, 3))),
    "Rescaling of channels": (VECTOR, chain(layers.Rescaling([1.0, 2, 3, 4, 5, 6], 0.5), layers.ReLU())),
    "Normalization": (
        VECTOR,
        chain(layers.Normalization(mean=np.arange(6.0), variance=np.arange(1.0, 7)), layers.Dense(3)),
    ),
    "Rescaling and Normalization in the middle": (
        IMAGE,
        chain(
            layers.ReLU(),
            layers.Rescaling(2.0, -0.5),
            conv(activation="relu"),
            layers.Normalization(mean=np.arange(4.0), variance=np.arange(1.0, 5)),
            layers.Conv2D(2, 3, padding="same"),
            layers.Rescaling([0.5, 2.0], [1.0, -1.0]),
        ),
    ),
    "Normalization by numbers": (
        VECTOR,
        chain(layers.Normalization(mean=0.5, variance=4.0, axis=None), layers.ReLU()),
    ),
    "noise": (
        IMAGE,
        chain(
            layers.GaussianNoise(0.2),
            layers.RandomFlip(),
            conv(),
            layers.GaussianDropout(0.2),
            layers.ActivityRegularization(0.1),
            layers.AlphaDropout(0.2),
        ),
    ),
    "Permute": (IMAGE, chain(layers.Permute((3, 1, 2)), conv())),
    "RepeatVector": (VECTOR, chain(layers.RepeatVector(3), layers.Conv1D(2, 2))),
    "Cropping2D and UpSampling2D": (IMAGE, chain(layers.Cropping2D(((1, 2), (0, 1))), layers.UpSampling2D((2, 3)))),
    "Resizing": (IMAGE, chain(conv(), layers.Resizing(12, 15, "nearest"))),
    "Subtract": (VECTOR, pair(layers.Subtract)),
    "Average": (VECTOR, pair(layers.Average)),
    "Maximum": (VECTOR, pair(layers.Maximum)),
    "Minimum": (VECTOR, pair(layers.Minimum)),
    "a gate of one vector": (IMAGE, gate),
    "PReLU of slopes around 1": (IMAGE, chain(conv(), layers.PReLU(slopes(0.5, 3.0), shared_axes=[1, 2]))),
    "PReLU of slopes above 1": (IMAGE, chain(conv(), layers.PReLU(slopes(1.5, 3.0), shared_axes=[1, 2]))),
    "PReLU": (IMAGE, chain(conv(), layers.PReLU(shared_axes=[1, 2]))),
    "LeakyReLU": (VECTOR, chain(layers.Dense(4), layers.LeakyReLU(0.1))),
    "LeakyReLU inside": (VECTOR, chain(layers.Dense(4, activation=layers.LeakyReLU(0.1)))),
    "ELU": (VECTOR, chain(layers.Dense(4), layers.ELU(0.5))),
    "ReLU with a limit": (VECTOR, chain(layers.Dense(4), layers.ReLU(1.0))),
    "ReLU with a slope and a threshold": (VECTOR, chain(layers.Dense(4), layers.ReLU(2.0, 0.1, 0.25))),
    "softmax before Flatten": (
        IMAGE,
        chain(layers.GlobalAveragePooling2D(keepdims=True), layers.Softmax(), layers.Flatten()),
    ),
    "softmax inside before Reshape": (IMAGE, chain(conv(activation="softmax"), layers.Reshape((-1, 4)))),
    "softmax inside a Conv1D": (SEQUENCE, chain(layers.Conv1D(3, 2, activation="softmax"))),
    "softmax over the last of four axes": (IMAGE, chain(conv(), layers.Softmax(axis=3))),
}
FUNCTIONS = ("tanh", "elu", "selu", "gelu", "mish", "softplus", "softsign", "exponential", "hard_sigmoid", "hard_silu")
MODELS |= {name: (VECTOR, chain(layers.Dense(4, activation=name), layers.Dense(3))) for name in FUNCTIONS}
