"""Pseudo-labels: a larger network, trained on the flies that have labels, says the traits of those that have none.

Source: Lee 2013, "Pseudo-Label: The simple and efficient semi-supervised learning method for deep neural networks".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from po2quant.benchmark import Split

from .anatomy import TRAITS
from .classifier import FORMS, TRAITS_HEAD, traits_network
from .score import TRAIT_COUNT

Predict = Callable[[np.ndarray], np.ndarray]
CONFIDENCE = 0.9
"""Probability from which a trait is taken for known."""


def _resnet50v2() -> keras.Model:
    base = keras.applications.ResNet50V2(include_top=False, weights=None, input_shape=(None, None, 3), pooling="avg")
    x = keras.layers.Rescaling(2.0, offset=-1.0)(base.input)  # what it was designed for
    x = keras.layers.Dropout(0.2, name=f"{TRAITS_HEAD}_dropout")(base(x))
    outputs = keras.layers.Dense(len(TRAITS), activation="sigmoid", name=TRAITS_HEAD)(x)
    return keras.Model(base.input, outputs, name="resnet50v2")


TEACHERS: dict[str, Callable[[], keras.Model]] = {
    "resnet50v2": _resnet50v2,
    "mobilenet_v3_large": lambda: traits_network(FORMS["large"], with_key_points=False, width=1.0, size=None),
}
"""Networks without key points for pictures of any size, larger than what is deployed; the document's is the first."""


def with_hidden_labels(split: Split, labelled: int) -> Split:
    """Return a split in which the first ``labelled`` flies alone keep their traits and key points.

    Raises:
        ValueError: for none, or more than there are.
    """
    if not 1 <= labelled <= len(split):
        raise ValueError(f"labelled must be in [1, {len(split)}]. Received: labelled={labelled}")
    y = split.y.copy()
    y[labelled:] = np.nan
    return dataclasses.replace(split, y=y)


def with_pseudo_labels(
    split: Split, predict: Callable[[np.ndarray], np.ndarray], confidence: float = CONFIDENCE
) -> Split:
    """Return a split with what a teacher says of traits that are not known, where it is sure of it.

    Args:
        split: pictures and targets, NaN where something is not known.
        predict: of the teacher, from pictures ``(flies, size, size, 3)`` to probabilities, ``(flies, 3 or more)``.
        confidence: what it gives to one of a trait's two values at least, in (0.5, 1].

    Raises:
        ValueError: for a confidence out of range.
    """
    if not 0.5 < confidence <= 1.0:
        raise ValueError(f"confidence must be in (0.5, 1]. Received: confidence={confidence}")
    y, said = split.y.copy(), predict(split.inputs())[:, :TRAIT_COUNT]
    taken = np.isnan(y[:, :TRAIT_COUNT]) & (np.maximum(said, 1 - said) >= confidence)
    y[:, :TRAIT_COUNT][taken] = np.rint(said[taken])
    return dataclasses.replace(split, y=y)
