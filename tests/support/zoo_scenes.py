"""Small forms of networks that find, separate or restore what is in an image."""

from __future__ import annotations

from keras import layers, ops
from zoo_blocks import Zoo, depthwise, normalized

SCENES = Zoo()


@SCENES.architecture((16, 16, 3))
def blazeface(x):
    """Shortcuts whose channels are filled up with zeros."""
    x = layers.Conv2D(6, 5, 2, "same", activation="relu")(x)
    y = layers.Conv2D(8, 1)(layers.DepthwiseConv2D(5, 2, "same")(x))
    shortcut = ops.pad(layers.MaxPooling2D()(x), ((0, 0), (0, 0), (0, 0), (0, 2)))
    x = ops.relu(shortcut + y)
    return [layers.Reshape((-1, 1))(layers.Conv2D(2, 1)(x)), layers.Reshape((-1, 16))(layers.Conv2D(32, 1)(x))]


@SCENES.architecture((16, 16, 3))
def u_net(x):
    def double(x, filters):
        return normalized(normalized(x, filters), filters)

    top = double(x, 4)
    middle = double(layers.MaxPooling2D()(top), 6)
    bottom = double(layers.MaxPooling2D()(middle), 8)
    up = layers.Conv2DTranspose(6, 2, 2, "same")(bottom)
    up = double(layers.Concatenate()([up, middle]), 6)
    up = layers.UpSampling2D()(up)
    return layers.Conv2D(3, 1, activation="softmax")(double(layers.Concatenate()([up, top]), 4))


@SCENES.architecture((17, 17, 3))
def fully_convolutional(x):
    """FCN: scores of two resolutions are added, the last step up is a transposed convolution with a large kernel."""
    x = layers.MaxPooling2D()(normalized(x, 6))
    coarse = layers.MaxPooling2D()(normalized(x, 8))
    scores = layers.Conv2DTranspose(3, 4, 2, "same", use_bias=False)(layers.Conv2D(3, 1)(coarse))
    scores = layers.Add()([scores, layers.Conv2D(3, 1)(x)])
    return layers.Conv2DTranspose(3, 4, 2, "same", use_bias=False, activation="sigmoid")(scores)


@SCENES.architecture((12, 12, 3))
def deeplab(x):
    """Atrous spatial pyramid pooling, with the mean of the image repeated over it."""
    x = layers.SeparableConv2D(8, 3, padding="same", dilation_rate=2, activation="relu")(normalized(x, 6))
    branches = [normalized(x, 4, 1), *(normalized(x, 4, dilation_rate=rate) for rate in (2, 3))]
    mean = normalized(layers.GlobalAveragePooling2D(keepdims=True)(x), 4, 1)
    branches.append(layers.UpSampling2D((12, 12), interpolation="nearest")(mean))
    return layers.Conv2D(3, 1)(layers.Concatenate()(branches))


@SCENES.architecture((16, 16, 3))
def feature_pyramid(x):
    levels = [normalized(x, 4, strides=2)]
    for filters in (6, 8):
        levels.append(normalized(levels[-1], filters, strides=2))
    top = layers.Conv2D(4, 1)(levels[-1])
    outputs = [top]
    for level in levels[-2::-1]:
        top = layers.Conv2D(4, 1)(level) + ops.repeat(ops.repeat(top, 2, axis=1), 2, axis=2)
        outputs.append(top)
    return [layers.Conv2D(3, 3, padding="same")(output) for output in outputs]


@SCENES.architecture((16, 16, 3))
def ssd(x):
    """A dictionary of boxes and classes of two resolutions."""
    x = normalized(depthwise(normalized(x, 6, strides=2, activation="relu6"), activation="relu6"), 8, 1)
    y = normalized(x, 8, strides=2)
    boxes = [layers.Reshape((-1, 4))(layers.Conv2D(8, 3, padding="same")(level)) for level in (x, y)]
    scores = [layers.Reshape((-1, 3))(layers.Conv2D(6, 3, padding="same")(level)) for level in (x, y)]
    return {
        "boxes": layers.Concatenate(axis=1)(boxes),
        "scores": layers.Activation("softmax")(layers.Concatenate(axis=1)(scores)),
    }


@SCENES.architecture((16, 16, 3))
def yolo(x):
    """The head of version 2: space to depth, and centres apart from sizes and scores."""

    def leaky(x, filters, size=3):
        return layers.LeakyReLU(0.1)(normalized(x, filters, size, activation=None))

    fine = leaky(layers.MaxPooling2D()(leaky(x, 4)), 6)
    coarse = leaky(layers.MaxPooling2D()(fine), 8)
    folded = ops.reshape(ops.transpose(ops.reshape(fine, (-1, 4, 2, 4, 2, 6)), (0, 1, 3, 2, 4, 5)), (-1, 4, 4, 24))
    head = layers.Conv2D(2 * 8, 1)(leaky(layers.Concatenate()([folded, coarse]), 8))
    head = layers.Reshape((4, 4, 2, 8))(head)
    return [ops.sigmoid(head[..., :2]), ops.exp(ops.clip(head[..., 2:4], -3.0, 3.0)), ops.sigmoid(head[..., 4:])]


@SCENES.architecture((16, 16, 3))
def yolo_v5_neck(x):
    """SiLU, cross stage partial blocks and pooling of growing windows."""
    x = normalized(x, 8, strides=2, activation="silu")
    left, right = normalized(x, 4, 1, activation="silu"), normalized(x, 4, 1, activation="silu")
    left = left + normalized(normalized(left, 4, 1, activation="silu"), 4, activation="silu")
    x = ops.concatenate([left, right], axis=-1)
    pooled = [x]
    for _ in range(2):
        pooled.append(layers.MaxPooling2D(5, 1, "same")(pooled[-1]))
    return layers.Conv2D(6, 1)(ops.concatenate(pooled, axis=-1))


@SCENES.architecture((16, 16, 3))
def centernet(x):
    x = normalized(normalized(x, 6, strides=2), 8, strides=2)
    x = normalized(layers.Conv2DTranspose(6, 4, 2, "same", use_bias=False)(x), 6)
    heads = {"heat": (2, "sigmoid"), "size": (2, "softplus"), "offset": (2, None)}
    return {
        name: layers.Conv2D(channels, 1, activation=function, name=name)(
            layers.Conv2D(6, 3, padding="same", activation="relu")(x)
        )
        for name, (channels, function) in heads.items()
    }


@SCENES.architecture((10, 10, 1))
def espcn(x):
    """Super-resolution: depth to space."""
    x = layers.Conv2D(8, 5, padding="same", activation="tanh")(x)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = ops.reshape(ops.transpose(ops.reshape(x, (-1, 10, 10, 2, 2)), (0, 1, 3, 2, 4)), (-1, 20, 20, 1))
    return ops.clip(x, 0.0, 1.0)


@SCENES.architecture((10, 10, 1))
def dncnn(x):
    """The noise is taken from the image."""
    y = normalized(layers.Conv2D(6, 3, padding="same", activation="relu")(x), 6)
    return layers.Subtract()([x, layers.Conv2D(1, 3, padding="same")(y)])


@SCENES.architecture((12, 12, 3))
def convolutional_autoencoder(x):
    for filters in (8, 4):
        x = layers.MaxPooling2D(2, padding="same")(layers.Conv2D(filters, 3, padding="same", activation="elu")(x))
    for filters in (4, 8):
        x = layers.UpSampling2D(2)(layers.Conv2D(filters, 3, padding="same", activation="selu")(x))
    return layers.Conv2D(3, 3, padding="same", activation="sigmoid")(x)
