"""Training steps that also learn what the float network gives: distillation."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

SPARSE, DENSE = "sparse_categorical_crossentropy", "categorical_crossentropy"


def distill(model: keras.Model, teacher: keras.Model, loss: Any, share: float) -> None:
    """Make the training steps of a network learn the outputs of another one, beside the targets of the data.

    Equation:
        L = (1 - share) * loss(y, f(x)) + share * loss(t(x), f(x)), with t the teacher.
        Where the targets are classes, its probabilities stand for them: the cross-entropy of two softmax layers is the
        Kullback-Leibler divergence of their logits, but for a constant.

    Validation has the loss of the data alone.

    Args:
        model: network whose training step has not been traced yet.
        teacher: network of the same inputs and outputs, which stays as it is.
        loss: what the model is compiled with: the name of a Keras loss of one output, or such a loss.
        share: weight of the teacher, in [0, 1].

    Raises:
        ValueError: for a loss that cannot take outputs as targets.

    Reference:
        Hinton et al., arXiv 1503.02531; for quantized networks Mishra and Marr, arXiv 1711.05852.
    """
    of_teacher, of_data = _soft(loss), type(model).compute_loss

    def compute_loss(
        x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        hard = of_data(model, x, y, y_pred, sample_weight, training)
        if not training:
            return hard
        return (1.0 - share) * hard + share * tf.reduce_mean(of_teacher(teacher(x, training=False), y_pred))

    object.__setattr__(model, "compute_loss", compute_loss)  # Keras would look for layers in it


def _soft(loss: Any) -> Any:
    """Return the loss whose targets are a network's outputs."""
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        if not loss.get_config()["from_logits"]:
            return keras.losses.get(DENSE)
        return lambda target, output: keras.losses.categorical_crossentropy(
            tf.nn.softmax(target), output, from_logits=True
        )
    if isinstance(loss, keras.losses.CategoricalCrossentropy | keras.losses.BinaryCrossentropy):
        if loss.get_config()["from_logits"]:
            function = tf.nn.softmax if isinstance(loss, keras.losses.CategoricalCrossentropy) else tf.nn.sigmoid
            return lambda target, output: loss(function(target), output)
        return loss
    try:
        return keras.losses.get(DENSE if loss == SPARSE else loss)
    except (TypeError, ValueError):
        raise ValueError(f"distillation needs a Keras loss or the name of one. Received: loss={loss!r}") from None
