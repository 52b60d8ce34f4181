"""What this project needs of Keras and TensorFlow that they keep private."""

from __future__ import annotations

import keras


def build_loss_and_metrics(model: keras.Model, y_shape: tuple[int | None, ...], y_dtype: str) -> None:
    """Make the variables of a compiled model's loss and metrics, which Keras else makes within its first step.

    A step in whose trace variables are made is traced a second time.

    Args:
        model: compiled Sequential or functional model.
        y_shape: shape of a batch of targets.
        y_dtype: their type.
    """
    y = keras.KerasTensor(y_shape, y_dtype)
    predictions = model.outputs if len(model.outputs) > 1 else model.outputs[0]
    for part in (model._compile_loss, model._compile_metrics):
        if part is not None and not part.built:
            part.build(y, predictions)
