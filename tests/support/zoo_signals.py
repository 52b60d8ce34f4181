"""Small forms of networks over sound, motion, vital signs and tables of numbers."""

from __future__ import annotations

import keras
from keras import layers, ops
from zoo_blocks import Zoo, classified, depthwise, normalized

SIGNALS = Zoo()


@SIGNALS.architecture((16,))
def multilayer_perceptron(x):
    for units in (12, 8):
        x = layers.Dropout(0.2)(layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(x))))
    return layers.Dense(1, activation="sigmoid")(x)


@SIGNALS.architecture((24,))
def dense_autoencoder(x):
    """MLPerf Tiny's anomaly detection."""
    for units in (16, 16, 4, 16, 16):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(x)))
    return layers.Dense(24)(x)


@SIGNALS.architecture((6,), (10,))
def wide_and_deep(wide, deep):
    """Two inputs, one of which goes past the hidden layers."""
    deep = layers.Dense(8, activation="relu")(layers.Normalization(mean=[0.1] * 10, variance=[0.5] * 10)(deep))
    return layers.Dense(2, activation="softmax")(layers.Concatenate()([wide, layers.Dense(6, activation="relu")(deep)]))


@SIGNALS.architecture((12,))
def highway(x):
    """A gate carries what it does not transform."""
    gate = layers.Dense(12, activation="sigmoid")(x)
    return layers.Dense(3)(gate * layers.Dense(12, activation="relu")(x) + (1.0 - gate) * x)


@SIGNALS.architecture((12,))
def self_normalizing(x):
    for units in (12, 8):
        x = layers.AlphaDropout(0.1)(layers.Dense(units, activation="selu")(x))
    return layers.Dense(2)(x)


@SIGNALS.architecture((32, 6))
def motion(x):
    """Human activity of accelerometers and gyroscopes."""
    for filters in (8, 8):
        x = layers.Conv1D(filters, 3, activation="relu")(x)
    x = layers.Flatten()(layers.MaxPooling1D(2)(layers.Dropout(0.5)(x)))
    return layers.Dense(6, activation="softmax")(layers.Dense(12, activation="relu")(x))


@SIGNALS.architecture((32, 3), (32, 3))
def two_sensors(acceleration, rotation):
    heads = []
    for x in (acceleration, rotation):
        x = layers.SeparableConv1D(6, 5, 2, "same", activation="relu")(x)
        heads.append(layers.GlobalMaxPooling1D()(layers.SpatialDropout1D(0.1)(x)))
    return layers.Dense(4, activation="softmax")(layers.Concatenate()(heads))


@SIGNALS.architecture((48, 1))
def electrocardiogram(x):
    """Residual, with kernels of 16 steps."""
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(6, 16, padding="same")(x)))
    for filters in (6, 8):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(filters, 16, 2, "same", use_bias=False)(x)))
        y = layers.Conv1D(filters, 16, padding="same", use_bias=False)(layers.Dropout(0.2)(y))
        x = layers.Add()([y, layers.Conv1D(filters, 1)(layers.MaxPooling1D(2, padding="same")(x))])
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return layers.Dense(4, activation="softmax")(layers.Flatten()(x))


@SIGNALS.architecture((8, 48, 1))
def eegnet(x):
    """Channels of an electroencephalogram are rows."""
    x = layers.BatchNormalization()(layers.Conv2D(4, (1, 16), padding="same", use_bias=False)(x))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D((8, 1), depth_multiplier=2, use_bias=False)(x))
    x = layers.Dropout(0.5)(layers.AveragePooling2D((1, 4))(layers.Activation("elu")(x)))
    x = layers.BatchNormalization()(layers.SeparableConv2D(8, (1, 8), padding="same", use_bias=False)(x))
    x = layers.AveragePooling2D((1, 4))(layers.Activation("elu")(x))
    return layers.Dense(3, activation="softmax")(layers.Flatten()(x))


@SIGNALS.architecture((40, 1))
def wavenet(x):
    """Dilated causal convolutions with gates, and a sum of what each block skips."""
    x = layers.Conv1D(6, 2, padding="causal")(x)
    skips = []
    for rate in (1, 2, 4):
        filtered = layers.Conv1D(6, 2, padding="causal", dilation_rate=rate, activation="tanh")(x)
        gate = layers.Conv1D(6, 2, padding="causal", dilation_rate=rate, activation="sigmoid")(x)
        y = layers.Multiply()([filtered, gate])
        skips.append(layers.Conv1D(8, 1)(y))
        x = layers.Add()([x, layers.Conv1D(6, 1)(y)])
    x = layers.Conv1D(8, 1, activation="relu")(layers.ReLU()(layers.Add()(skips)))
    return layers.Conv1D(8, 1, activation="softmax")(x)


@SIGNALS.architecture((40, 4))
def temporal_convolutional_network(x):
    """What it says of the last step."""
    for rate in (1, 2, 4):
        y = x
        for _ in range(2):
            y = layers.Conv1D(6, 3, padding="causal", dilation_rate=rate)(y)
            y = layers.SpatialDropout1D(0.1)(layers.ReLU()(layers.BatchNormalization()(y)))
        x = layers.ReLU()(layers.Add()([y, layers.Conv1D(6, 1)(x) if x.shape[-1] != 6 else x]))
    return layers.Dense(2)(x[:, -1, :])


@SIGNALS.architecture((128, 1))
def m5(x):
    """Of the waveform itself."""
    for filters, size, strides in ((6, 20, 4), (8, 3, 1)):
        x = layers.Conv1D(filters, size, strides, "same")(x)
        x = layers.MaxPooling1D(4)(layers.ReLU()(layers.BatchNormalization()(x)))
    return layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling1D()(x))


@SIGNALS.architecture((49, 10, 1))
def ds_cnn(x):
    """MLPerf Tiny's keyword spotting."""
    x = normalized(x, 6, (10, 4), strides=2)
    for _ in range(2):
        x = normalized(depthwise(x), 6, 1)
    x = layers.AveragePooling2D((25, 5))(layers.Dropout(0.4)(x))
    return layers.Dense(12, activation="softmax")(layers.Flatten()(x))


@SIGNALS.architecture((49, 10))
def tc_resnet(x):
    """Coefficients of a spectrum are channels of a sequence."""
    x = layers.Conv1D(6, 3, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(8, 9, 2, "same", use_bias=False)(x)))
    y = layers.BatchNormalization()(layers.Conv1D(8, 9, padding="same", use_bias=False)(y))
    shortcut = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(8, 1, 2, "same", use_bias=False)(x)))
    x = layers.ReLU()(layers.Add()([y, shortcut]))
    return layers.Dense(12, activation="softmax")(layers.GlobalAveragePooling1D()(x))


@SIGNALS.architecture((32, 8))
def matchboxnet(x):
    """Separable convolutions over time, dilated at the end."""
    y = layers.BatchNormalization()(layers.SeparableConv1D(8, 9, padding="same", use_bias=False)(x))
    shortcut = layers.BatchNormalization()(layers.Conv1D(8, 1, use_bias=False)(x))
    x = layers.Dropout(0.1)(layers.ReLU()(layers.Add()([y, shortcut])))
    x = layers.SeparableConv1D(8, 9, padding="same", dilation_rate=2, activation="relu")(x)
    return layers.Softmax()(layers.GlobalAveragePooling1D()(layers.Conv1D(5, 1)(x)))


@SIGNALS.architecture((24, 16))
def spectrogram_mask(x):
    """A gate of each frequency at each step, and a mean over the steps that is taken away."""
    mean = ops.expand_dims(ops.mean(x, axis=1), 1)
    mask = layers.Conv1D(16, 3, padding="same", activation="sigmoid")(x - ops.tile(mean, (1, 24, 1)))
    return x * mask


@SIGNALS.architecture((32, 4))
def vital_sign_generator(x):
    """Up again by transposed convolutions."""
    x = layers.Conv1D(8, 5, 2, "same", activation=layers.LeakyReLU(0.2))(x)
    x = layers.Cropping1D(1)(layers.ZeroPadding1D(2)(layers.UpSampling1D(2)(x)))
    return layers.Conv1DTranspose(2, 4, 2, "same", activation="tanh")(x)


@SIGNALS.architecture((24, 3))
def pointnet(x):
    """Of points whatever their order."""
    for filters in (8, 12):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(filters, 1)(x)))
    whole = layers.RepeatVector(24)(layers.GlobalMaxPooling1D()(x))
    return layers.Conv1D(3, 1, activation="softmax")(layers.Concatenate()([x, whole]))


@SIGNALS.architecture((12, 12, 1), (12, 12, 1))
def siamese(left, right):
    """One network on both inputs; how far apart they are, element by element."""
    x = inner = keras.Input((12, 12, 1))
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, activation="relu")(x))
    twin = keras.Model(inner, layers.Dense(8, activation="sigmoid")(layers.Flatten()(layers.MaxPooling2D()(x))))
    difference = twin(left) - twin(right)
    return layers.Dense(1, activation="sigmoid")(ops.maximum(difference, -difference))


@SIGNALS.architecture((12, 12, 1), (5,))
def image_and_numbers(image, numbers):
    """Numbers steer the channels of an image."""
    x = layers.Conv2D(6, 3, activation="relu")(image)
    scale, shift = layers.Dense(6)(numbers), layers.Dense(6)(numbers)
    x = x * layers.Reshape((1, 1, 6))(scale) + layers.Reshape((1, 1, 6))(shift)
    return [classified(x), layers.Dense(1, name="value")(layers.Concatenate()([layers.Flatten()(x), numbers]))]


@SIGNALS.architecture((16, 8))
def average_of_experts(x):
    experts = [layers.Dense(4, activation=name)(x) for name in ("relu", "softplus", "softsign")]
    return layers.GlobalMaxPooling1D()(layers.Average()(experts))


@SIGNALS.architecture((16, 10))
def gru_keyword_spotter(x):
    """Hello Edge's, over the coefficients of each step."""
    return layers.Dense(12, activation="softmax")(layers.GRU(12, dropout=0.2)(x))


@SIGNALS.architecture((8, 4))
def lstm_autoencoder(x):
    """Anomalies are what it cannot write down again."""
    x = layers.LSTM(4)(layers.LSTM(8, return_sequences=True)(x))
    for units in (4, 8):
        x = layers.LSTM(units, return_sequences=True)(x if len(x.shape) == 3 else layers.RepeatVector(8)(x))
    return layers.TimeDistributed(layers.Dense(4))(x)


@SIGNALS.architecture((24, 12, 1))
def convolutional_recurrent(x):
    """A spectrogram's columns, read in both directions."""
    x = layers.MaxPooling2D((1, 2))(normalized(x, 4, 3, strides=(2, 1)))
    x = layers.Reshape((12, 24))(x)
    x = layers.Bidirectional(layers.GRU(6, return_sequences=True))(x)
    x = layers.BatchNormalization()(layers.Bidirectional(layers.LSTM(4), merge_mode="ave")(x))
    return layers.Dense(5, activation="softmax")(x)
