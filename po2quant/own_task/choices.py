"""Which loss, metric and sign of the inputs a network and its data ask for."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from po2quant.benchmark import Dataset, Split
from po2quant.network.graph import Node, read_graph
from po2quant.own_task.metrics import BINARY, CATEGORICAL, FROM_LOGITS, SPARSE, SQUARED, targets

SOFTMAX, SIGMOID = "softmax", "sigmoid"
CLASSES, ONE_HOT, YES_OR_NO, NUMBERS = "classes", "one-hot classes", "yes or no", "numbers"
METRIC_OF = {SPARSE: "accuracy", CATEGORICAL: "accuracy", BINARY: "binary_accuracy"}
CHECKED_SAMPLES = 2**16
"""Targets that are looked at."""


@dataclasses.dataclass(frozen=True)
class Choices:
    """What a network and its data ask for, and why, in a line."""

    loss: str
    metric: str
    signed_input: bool
    reason: str


def choices(model: keras.Model, dataset: Dataset, loss: str | None = None, metric: str | None = None) -> Choices:
    """Return the loss, the metric and the sign of the inputs for a network with one output.

    Whole targets are classes, one-hot or yes and no where their shape says so, and others numbers. A network that
    ends in softmax or sigmoid gives probabilities, another one logits.

    Args:
        model: the network.
        dataset: its data.
        loss: where it is known already.
        metric: likewise.

    Raises:
        ValueError: for targets that do not fit the outputs.

    Example:
        >>> from po2quant.benchmark import Split
        >>> network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> data = Dataset("data", "own", Split(np.zeros((2, 2), np.float32), np.array([0, 2], np.int32)))
        >>> choices(network, data).loss
        'sparse_categorical_crossentropy_from_logits'
    """
    ending, shape = ending_of(model), tuple(model.outputs[0].shape[1:])
    splits = [split for split in (dataset.train, dataset.validation, dataset.test) if split is not None]
    kind = _kind_of(splits, shape, ending)
    base = {CLASSES: SPARSE, ONE_HOT: BINARY if ending == SIGMOID else CATEGORICAL, YES_OR_NO: BINARY}.get(
        kind, SQUARED
    )
    loss = loss or (base if base == SQUARED or ending is not None else base + FROM_LOGITS)
    metric = metric or METRIC_OF.get(loss.removesuffix(FROM_LOGITS), "r2")
    lowest, highest = (float(of([of(split.x) for split in splits])) * splits[0].scale for of in (np.min, np.max))
    reason = (
        f"targets are {kind}, the network ends in {ending or 'no function'}: loss {loss}, metric {metric}; inputs from "
        f"{lowest:.4g} to {highest:.4g}"
    )
    return Choices(loss, metric, lowest < 0, reason)


def ending_of(model: keras.Model) -> str | None:
    """Return softmax or sigmoid, where a network of one output ends in it; shapes may change after it."""
    node: Node = read_graph(model).outputs[0]
    while True:
        layer: Any = node.layer
        function = getattr(layer, "activation", None)
        name = getattr(function, "__name__", type(function if function is not None else layer).__name__).lower()
        if name in (SOFTMAX, SIGMOID):
            return name
        moves = isinstance(layer, keras.layers.Reshape | keras.layers.Flatten | keras.layers.Dropout)
        is_linear = name == "linear" and isinstance(layer, keras.layers.Activation)
        if not (moves or is_linear) or not node.inputs:
            return None
        node = node.inputs[0]


def _kind_of(splits: list[Split], shape: tuple[int, ...], ending: str | None) -> str:
    """Return what the targets of a network with outputs of a shape are."""
    y = np.concatenate([targets(split)[:CHECKED_SAMPLES] for split in splits])
    is_whole = y.dtype.kind in "iu" or bool(np.all(y == np.round(y)))
    if shape[-1] > 1 and y.shape[1:] in (shape[:-1], (*shape[:-1], 1)) and is_whole:
        if y.min() < 0 or y.max() >= shape[-1]:
            raise ValueError(
                f"targets must be classes in [0, {shape[-1]}), of which the network has so many. "
                f"Received: {y.min():g} to {y.max():g}"
            )
        return CLASSES
    if y.shape[1:] != shape and (*y.shape[1:], 1) != shape:
        raise ValueError(
            f"targets must be classes or have the shape of the network's outputs, {shape}. Received: {y.shape[1:]}"
        )
    is_binary = is_whole and y.min() >= 0 and y.max() <= 1
    if is_binary and shape[-1] > 1 and np.all(y.sum(axis=-1) == 1):
        return ONE_HOT
    return YES_OR_NO if is_binary and (y.dtype.kind in "iu" or ending == SIGMOID) else NUMBERS
