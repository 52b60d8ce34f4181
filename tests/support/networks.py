"""Small networks: random weights and inputs, outputs, and the names that layers get."""

from __future__ import annotations

import keras
import numpy as np

from po2quant.cost import LayerShape

DENSE_NETWORK = (
    LayerShape("input", "InputLayer", "input", (4,)),
    LayerShape("activation", "Activation", "activation", (4,)),
    LayerShape("dense", "Dense", "weights", (2,), 8, 2, 8, 2, "u"),
    LayerShape("softmax", "Activation", "softmax", (2,)),
)
"""The smallest network as the accounting sees it: one kernel, one bias and one activation to choose widths for."""


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every variable random values, so that no BatchNormalization is close to the identity; return the model."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        values = rng.normal(0.0, 0.5, weight.shape)
        if "variance" in weight.path or "gamma" in weight.path:
            values = rng.uniform(0.5, 2.0, weight.shape)
        if weight.dtype.startswith("float"):
            weight.assign(values)
    return model


def noise(model: keras.Model, samples: int = 32, seed: int = 1) -> np.ndarray | list[np.ndarray]:
    """Return random inputs of a model, in a list where it has several."""
    rng = np.random.default_rng(seed)
    shapes = [(samples, *tensor.shape[1:]) for tensor in model.inputs]
    arrays = [rng.normal(size=shape).astype(keras.config.floatx()) for shape in shapes]
    return arrays if len(arrays) > 1 else arrays[0]


def state_of(model: keras.Model) -> list[np.ndarray]:
    """Return the values of all that a model has, its quantizers' state included."""
    return [variable.numpy() for variable in model.variables]


def outputs(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Return what a model of one output computes in inference."""
    return np.asarray(model(x, training=False))


def numbered(name: str, count: int) -> list[str]:
    """Return names as layers and quantizer slots get them: ``name``, ``name_1``, ``name_2``."""
    return [name, *(f"{name}_{index}" for index in range(1, count))]
