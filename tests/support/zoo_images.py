"""Small forms of networks that classify images: their blocks and connections, a few channels wide."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops
from zoo_blocks import Zoo, classified, depthwise, gated, normalized

IMAGES = Zoo()


@IMAGES.architecture((28, 28, 1))
def lenet(x):
    for filters in (6, 16):
        x = layers.AveragePooling2D(2)(layers.Conv2D(filters, 5, activation="tanh")(x))
    x = layers.Flatten()(x)
    for units in (24, 16):
        x = layers.Dense(units, activation="tanh")(x)
    return layers.Dense(10, activation="softmax")(x)


@IMAGES.architecture((35, 35, 3))
def alexnet(x):
    x = layers.MaxPooling2D(3, 2)(layers.Conv2D(8, 7, 2, activation="relu")(x))
    x = layers.MaxPooling2D(3, 1)(layers.Conv2D(12, 5, padding="same", groups=2, activation="relu")(x))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.Dropout(0.5)(layers.Dense(16, activation="relu")(layers.Flatten()(x)))
    return layers.Dense(5, activation="softmax")(x)


@IMAGES.architecture((12, 12, 3))
def network_in_network(x):
    for filters in (8, 12):
        for size in (3, 1, 1):
            x = layers.Conv2D(filters, size, padding="same", activation="relu")(x)
        x = layers.Dropout(0.5)(layers.MaxPooling2D(3, 2, "same")(x))
    return layers.Softmax()(layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1)(x)))


@IMAGES.architecture((24, 24, 3))
def squeezenet(x):
    def fire(x, squeezed, expanded):
        x = layers.Conv2D(squeezed, 1, activation="relu")(x)
        pair = [layers.Conv2D(expanded, size, padding="same", activation="relu")(x) for size in (1, 3)]
        return layers.Concatenate()(pair)

    x = layers.MaxPooling2D(3, 2)(layers.Conv2D(8, 3, 2, activation="relu")(x))
    x = fire(x, 4, 8)
    bypassed = layers.Add()([x, fire(x, 4, 8)])
    x = layers.Conv2D(5, 1, activation="relu")(layers.Dropout(0.5)(bypassed))
    return layers.Softmax()(layers.GlobalAveragePooling2D()(x))


def shuffled(x: Any, groups: int) -> Any:
    rows, columns, channels = x.shape[1:]
    x = layers.Reshape((rows, columns, groups, channels // groups))(x)
    return layers.Reshape((rows, columns, channels))(layers.Permute((1, 2, 4, 3))(x))


@IMAGES.architecture((16, 16, 3))
def shufflenet(x):
    x = normalized(x, 12, strides=2)
    for strides in (2, 1):
        y = shuffled(normalized(x, 12, 1, groups=3), 3)
        y = normalized(depthwise(y, strides=strides, activation=None), 12, 1, activation=None, groups=3)
        if strides == 2:
            x = layers.Activation("relu")(layers.Concatenate()([layers.AveragePooling2D(3, 2, "same")(x), y]))
            x = normalized(x, 12, 1)
        else:
            x = layers.ReLU()(layers.Add()([x, y]))
    return classified(x)


@IMAGES.architecture((16, 16, 3))
def shufflenet_v2(x):
    x = layers.MaxPooling2D(3, 2, "same")(normalized(x, 8, strides=2))
    left = normalized(depthwise(x, strides=2, activation=None), 8, 1)
    right = normalized(depthwise(normalized(x, 8, 1), strides=2, activation=None), 8, 1)
    x = ops.concatenate([left, right], axis=-1)
    x = shuffled(x, 2)
    left, right = ops.split(x, 2, axis=-1)
    right = normalized(depthwise(normalized(right, 8, 1), activation=None), 8, 1)
    x = ops.concatenate([left, right], axis=-1)
    x = ops.reshape(ops.moveaxis(ops.reshape(x, (-1, 2, 2, 2, 8)), 4, 3), (-1, 2, 2, 16))
    return classified(normalized(x, 12, 1))


def inception(x: Any, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> Any:
    def conv(x, filters, size):
        return layers.Conv2D(filters, size, padding="same", activation="relu")(x)

    branches = [conv(x, one, 1), conv(conv(x, three[0], 1), three[1], 3), conv(conv(x, five[0], 1), five[1], 5)]
    return layers.Concatenate()([*branches, conv(layers.MaxPooling2D(3, 1, "same")(x), pooled, 1)])


@IMAGES.architecture((20, 20, 3))
def googlenet(x):
    """With an auxiliary classifier, as it was trained."""
    x = layers.MaxPooling2D(3, 2, "same")(layers.Conv2D(8, 5, 2, "same", activation="relu")(x))
    x = inception(x, 4, (4, 6), (2, 4), 4)
    auxiliary = layers.Conv2D(4, 1, activation="relu")(layers.AveragePooling2D(5, 3, "same")(x))
    auxiliary = layers.Dense(5, activation="softmax", name="auxiliary")(layers.Flatten()(auxiliary))
    x = layers.AveragePooling2D(5, 1)(inception(x, 4, (4, 6), (2, 4), 4))
    return [layers.Dense(5, activation="softmax", name="main")(layers.Dropout(0.4)(layers.Flatten()(x))), auxiliary]


@IMAGES.architecture((16, 16, 3))
def inception_v1_factorized(x):
    """Rows and columns by kernels of their own, as in Inception v3."""
    x = normalized(x, 8, strides=2)
    tower = normalized(normalized(normalized(x, 4, 1), 6, (1, 7)), 6, (7, 1))
    pooled = normalized(layers.AveragePooling2D(3, 1, "same")(x), 4, 1)
    split = normalized(x, 4, 1)
    pair = layers.Concatenate()([normalized(split, 4, (1, 3)), normalized(split, 4, (3, 1))])
    return classified(layers.Concatenate()([tower, pooled, pair]))


@IMAGES.architecture((12, 12, 3))
def resnet8(x):
    """MLPerf Tiny's image classification."""
    x = normalized(x, 4)
    for filters, strides in ((4, 1), (8, 2), (12, 2)):
        y = normalized(normalized(x, filters, strides=strides), filters, activation=None)
        shortcut = x if strides == 1 else layers.Conv2D(filters, 1, strides, "same")(x)
        x = layers.ReLU()(layers.Add()([y, shortcut]))
    return classified(x, 10)


@IMAGES.architecture((12, 12, 3))
def resnext(x):
    x = normalized(x, 8)
    y = normalized(normalized(normalized(x, 8, 1), 8, groups=4), 8, 1, activation=None)
    return classified(ops.relu(x + y))


@IMAGES.architecture((12, 12, 3))
def wide_resnet(x):
    """Normalized before it is activated."""
    x = layers.Conv2D(8, 3, padding="same")(x)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = layers.Dropout(0.3)(layers.Conv2D(8, 3, padding="same")(y))
        y = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(y)))
        x = layers.Add()([x, y])
    return classified(layers.ReLU()(layers.BatchNormalization()(x)))


@IMAGES.architecture((12, 12, 3))
def senet(x):
    x = normalized(x, 8)
    y = normalized(normalized(x, 8), 8, activation=None)
    return classified(layers.ReLU()(layers.Add()([x, gated(y, 4)])))


@IMAGES.architecture((12, 12, 3))
def cbam(x):
    """Attention to channels, by means and maxima, and to places."""
    x = normalized(x, 8)
    shared = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(8)])
    means, maxima = layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)
    x = x * ops.reshape(ops.sigmoid(shared(means) + shared(maxima)), (-1, 1, 1, 8))
    summary = ops.concatenate([ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)], axis=-1)
    return classified(x * layers.Conv2D(1, 7, padding="same", activation="sigmoid")(summary))


@IMAGES.architecture((12, 12, 3))
def ghostnet(x):
    x = normalized(x, 8)
    y = normalized(x, 8, 1)
    y = layers.Concatenate()([y, depthwise(y)])
    y = gated(y, 4, "hard_sigmoid")
    z = normalized(y, 4, 1, activation=None)
    z = layers.Concatenate()([z, depthwise(z, activation=None)])
    return classified(layers.Add()([x, z]))


@IMAGES.architecture((12, 12, 3))
def densenet_block(x):
    x = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(3):
        y = layers.Conv2D(8, 1)(layers.ReLU()(layers.BatchNormalization()(x)))
        y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(y)))
        x = layers.Concatenate()([x, y])
    x = layers.Conv2D(8, 1)(layers.ReLU()(layers.BatchNormalization()(x)))
    return classified(layers.AveragePooling2D(2)(x))


@IMAGES.architecture((12, 12, 3))
def repvgg(x):
    """Three branches, as it is trained."""
    for _ in range(2):
        branches = [normalized(x, 6, 3, activation=None), normalized(x, 6, 1, activation=None)]
        if x.shape[-1] == 6:
            branches.append(layers.BatchNormalization()(x))
        x = layers.ReLU()(layers.Add()(branches))
    return classified(x)


@IMAGES.architecture((12, 12, 3))
def mobilefacenet(x):
    def prelu():
        return layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25))

    x = prelu()(normalized(x, 8, strides=2, activation=None))
    y = prelu()(depthwise(prelu()(normalized(x, 12, 1, activation=None)), activation=None))
    x = layers.Add()([x, normalized(y, 8, 1, activation=None)])
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(6)(x))
    return layers.Flatten()(layers.Conv2D(6, 1)(x))


@IMAGES.architecture((20, 24, 3))
def pilotnet(x):
    """Steering angle: the image is cropped and normalized by the network."""
    x = layers.Rescaling(1 / 127.5, -1.0)(layers.Cropping2D(((6, 2), (0, 0)))(x * 255.0))
    for filters, size, strides in ((6, 5, 2), (8, 3, 1)):
        x = layers.Conv2D(filters, size, strides, activation="elu")(x)
    x = layers.Dense(8, activation="elu")(layers.Flatten()(x))
    return layers.Dense(1)(x)


@IMAGES.architecture((20, 20, 4))
def deep_q_network(x):
    """With values and advantages apart."""
    x = layers.Conv2D(6, 8, 4, activation="relu")(x / 2.0)
    x = layers.Flatten()(layers.Conv2D(8, 3, activation="relu")(x))
    value, advantages = layers.Dense(1)(x), layers.Dense(4)(x)
    return value + (advantages - ops.mean(advantages, axis=-1, keepdims=True))


@IMAGES.architecture((8, 8, 3))
def mlp_mixer(x):
    """With BatchNormalization in the place of LayerNormalization."""
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 2, 2)(x))
    tokens = layers.Permute((2, 1))(layers.BatchNormalization()(x))
    tokens = layers.Dense(16)(layers.Dense(8, activation="gelu")(tokens))
    x = layers.Add()([x, layers.Permute((2, 1))(tokens)])
    channels = layers.Dense(8)(layers.Dense(12, activation="gelu")(layers.BatchNormalization()(x)))
    return layers.Dense(5)(layers.GlobalAveragePooling1D()(layers.Add()([x, channels])))


@IMAGES.architecture((12, 12, 3))
def convmixer(x):
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, 3, activation="gelu")(x))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", activation="gelu")(x))
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, activation="gelu")(layers.Add()([x, y])))
    return classified(x)


@IMAGES.architecture((12, 12, 3))
def maxout(x):
    x = layers.Maximum()([layers.Conv2D(6, 3)(x), layers.Conv2D(6, 3)(x)])
    x = layers.MaxPooling2D()(x)
    return layers.Dense(5, activation="softmax")(layers.Flatten()(layers.Minimum()([x, layers.Conv2D(6, 1)(x)])))


@IMAGES.architecture((12, 12, 3))
def augmented(x):
    """Random augmentation inside the model, which does nothing in inference."""
    x = layers.RandomZoom(0.1)(layers.RandomRotation(0.1)(layers.RandomFlip()(x)))
    x = layers.GaussianNoise(0.1)(layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.2, 0.3, 0.4])(x))
    return classified(layers.Activation("mish")(layers.SpatialDropout2D(0.1)(layers.Conv2D(6, 3)(x))))
