"""The fully connected auto-encoder of anomaly detection.

Source: the MLPerf Tiny reference network (https://github.com/mlcommons/tiny, anomaly detection), with
the same layer names, so that its weights load by layer name.
"""

from __future__ import annotations

import keras

INPUT_SIZE = 640  # 5 frames of 128 mel bands
HIDDEN_UNITS = (128, 128, 128, 128, 8, 128, 128, 128, 128)


def _numbered(name: str, index: int) -> str:
    """Return ``name``, ``name_1``, ``name_2``, ... as index counts from 0."""
    return f"{name}_{index}" if index else name


def dense_bn_relu(x: keras.KerasTensor, units: int, index: int) -> keras.KerasTensor:
    """Apply Dense, BatchNormalization and ReLU: ``(batch, n)`` to ``(batch, units)``."""
    x = keras.layers.Dense(units, name=_numbered("dense", index))(x)
    x = keras.layers.BatchNormalization(name=_numbered("batch_normalization", index))(x)
    return keras.layers.ReLU(name=_numbered("relu", index))(x)


def autoencoder() -> keras.Model:
    """Build the 640-128x4-8-128x4-640 auto-encoder, uncompiled and in float.

    Returns:
        A model from ``(batch, 640)`` log-mel features in dB to their reconstruction ``(batch, 640)``,
        without an activation at the output.
    """
    inputs = keras.Input((INPUT_SIZE,), name="input")
    x = inputs
    for index, units in enumerate(HIDDEN_UNITS):
        x = dense_bn_relu(x, units, index)
    outputs = keras.layers.Dense(INPUT_SIZE, name=_numbered("dense", len(HIDDEN_UNITS)))(x)
    return keras.Model(inputs, outputs, name="autoencoder")
