"""What networks in files are trained for and scored by: a row a loss, a row a metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from po2quant.benchmark import Score, Split, accuracy_score, validation_accuracy

SPARSE, CATEGORICAL, BINARY = "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"
FROM_LOGITS = "_from_logits"
SQUARED, ABSOLUTE, HUBER = "mean_squared_error", "mean_absolute_error", "huber"
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    SPARSE: ("SparseCategoricalCrossentropy", {}),
    SPARSE + FROM_LOGITS: ("SparseCategoricalCrossentropy", {"from_logits": True}),
    CATEGORICAL: ("CategoricalCrossentropy", {}),
    CATEGORICAL + FROM_LOGITS: ("CategoricalCrossentropy", {"from_logits": True}),
    BINARY: ("BinaryCrossentropy", {}),
    BINARY + FROM_LOGITS: ("BinaryCrossentropy", {"from_logits": True}),
    SQUARED: ("MeanSquaredError", {}),
    ABSOLUTE: ("MeanAbsoluteError", {}),
    HUBER: ("Huber", {}),
}
"""What training minimises: the name of a Keras loss and its arguments, by its name in a request."""


def keras_loss(name: str) -> Any:
    """Return a new Keras loss of :data:`LOSSES`."""
    import keras

    class_name, options = LOSSES[name]
    return getattr(keras.losses, class_name)(**options)


@dataclasses.dataclass(frozen=True)
class Metric:
    """How networks are scored; larger is better.

    Args:
        name: in a request.
        logged: Keras metrics of the validation logs, for a loss.
        score: given a function from inputs to outputs, a split and the loss, returns the score.
        selection: given the validation logs and targets, returns the value in [0, 1] that training and search maximise.
    """

    name: str
    logged: Callable[[str], tuple[Any, ...]]
    score: Callable[[Callable[[np.ndarray], np.ndarray], Split, str], Score]
    selection: Callable[[Mapping[str, float], np.ndarray], float]


def _threshold(loss: str) -> float:
    """Return the output above which a binary network says yes."""
    return 0.0 if loss.endswith(FROM_LOGITS) else 0.5


def _accuracy(predict: Callable[[np.ndarray], np.ndarray], split: Split, loss: str) -> Score:
    y = targets(split)
    y = np.argmax(y, axis=-1) if loss.startswith(CATEGORICAL) else y.astype(np.int64)
    return accuracy_score(predict, dataclasses.replace(split, y=y))


def _logged_binary(loss: str) -> tuple[Any, ...]:
    import keras

    threshold = _threshold(loss)

    def binary_accuracy(y: Any, outputs: Any) -> Any:
        y = keras.ops.cast(keras.ops.reshape(y, keras.ops.shape(outputs)), outputs.dtype) > 0.5
        return keras.ops.cast(keras.ops.equal(y, outputs > threshold), "float32")

    return (binary_accuracy,)


def _binary_accuracy(predict: Callable[[np.ndarray], np.ndarray], split: Split, loss: str) -> Score:
    outputs = predict(split.inputs()) > _threshold(loss)
    y = targets(split).reshape(outputs.shape) > 0.5
    counts = np.bincount(2 * y.ravel() + outputs.ravel(), minlength=4).reshape(2, 2)
    confusion = tuple(tuple(row) for row in counts.tolist())
    return Score("binary_accuracy", float(np.mean(outputs == y)), len(split), confusion=confusion)


def _explained(squared_error: float, y: np.ndarray) -> float:
    variance = float(np.mean(np.var(y, axis=0, dtype=np.float64)))
    return 1.0 - squared_error / max(variance, np.finfo(np.float64).tiny)


def _r2(predict: Callable[[np.ndarray], np.ndarray], split: Split, loss: str) -> Score:
    y, outputs = targets(split), predict(split.inputs())
    error = float(np.mean(np.square(outputs.reshape(y.shape) - y, dtype=np.float64)))
    return Score("r2", _explained(error, y), len(split), {SQUARED: error})


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", lambda loss: ("accuracy",), _accuracy, lambda logs, y: validation_accuracy(logs)),
        Metric("binary_accuracy", _logged_binary, _binary_accuracy, lambda logs, y: logs["binary_accuracy"]),
        Metric("r2", lambda loss: (SQUARED,), _r2, lambda logs, y: max(_explained(logs[SQUARED], y), 0.0)),
    )
}
"""The share of samples whose largest output is their class, the share of outputs on the right side of one half, and the
share of the targets' variance that the outputs explain."""


def targets(split: Split) -> np.ndarray:
    """Return the targets of a split, which are its inputs where it has none of its own."""
    return split.inputs() if split.y is None else split.y
