"""Exponents of weights that are searched every so many training steps and kept between."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import keras
import tensorflow as tf

from po2quant.bit_config import AUTO_PO2
from po2quant.network import weight_quantizers

_searches: weakref.WeakKeyDictionary[keras.Model, Callable[[], None]] = weakref.WeakKeyDictionary()
"""The compiled search of each model."""


def keep_exponents(model: keras.Model, interval: int) -> None:
    """Choose whether training steps that are traced from now on keep exponents; :class:`ExponentSearch` must be used.

    Args:
        model: network; one without quantizers has nothing to choose.
        interval: training steps from one search to the next; 1 searches within every step.

    Raises:
        ValueError: for an interval below 1.
    """
    if interval < 1:
        raise ValueError(f"exponent_interval must be 1 or more. Received: {interval}")
    for weight in weight_quantizers(model):
        weight.quantizer.keeps_exponents = interval > 1


def keeps_exponents(model: keras.Model) -> bool:
    """Return whether training steps keep exponents."""
    return any(weight.quantizer.keeps_exponents for weight in weight_quantizers(model))


def search_exponents(model: keras.Model) -> None:
    """Store the exponents of the present weights of a network that keeps them."""
    if model not in _searches:
        weights = [weight for weight in weight_quantizers(model) if weight.quantizer.alpha == AUTO_PO2]

        @tf.function(autograph=False)
        def search() -> None:
            for weight in weights:
                weight.quantizer.search_exponents(tf.convert_to_tensor(weight.variable))

        _searches[model] = search
    _searches[model]()


class ExponentSearch(keras.callbacks.Callback):
    """Searches exponents before the first step of each epoch and then before every ``interval``-th one.

    An epoch so depends on nothing but the weights that it starts from.
    """

    def __init__(self, interval: int) -> None:
        super().__init__()
        self._interval = interval

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Search where a search is due."""
        if batch % self._interval == 0:
            search_exponents(self.model)
