"""MNIST: Adam, batch 64; the rate of a float network rises linearly, then falls along half a cosine.

Published: 30 epochs up to 0.0015, which stop where 6 bring no better validation accuracy; 10 of fine-tuning. Small: 8
epochs up to 0.0015, which stop where 3 do not; 2 of fine-tuning, strong: 1. A float epoch of 18000 digits takes 1 to 10
seconds of one core.
"""

import dataclasses
from collections.abc import Callable

from po2quant.benchmark import Recipe
from po2quant.training.schedules import cosine, exponential_decay

from ..shared.few_bits import strong

FLOAT_EPOCHS = 8


def warm_up_then_cosine(learning_rate: float, epochs: int, warm_up_epochs: float) -> Callable[[int], float]:
    """Return the schedule of a rate that rises linearly from 0 and then falls along half a cosine to 0.

    Args:
        learning_rate: the highest.
        epochs: in all; an epoch has the rate of its middle, later ones that of the last.
        warm_up_epochs: epochs in which it rises.
    """
    factor = cosine(warm_up_epochs / epochs)
    return lambda epoch: learning_rate * factor((min(epoch, epochs - 1) + 0.5) / epochs)


RECIPE = Recipe(
    loss="sparse_categorical_crossentropy",
    epochs=10,
    float_epochs=30,
    batch_size=64,
    learning_rate=exponential_decay(0.001, 0.8),
    metrics=("accuracy",),
    patience=6,
    float_learning_rate=warm_up_then_cosine(0.0015, epochs=30, warm_up_epochs=2),
)


def small(float_epochs: int = FLOAT_EPOCHS) -> Recipe:
    """Return the recipe of a short training, whose float rate falls to 0 within so many epochs."""
    return dataclasses.replace(
        RECIPE,
        epochs=2,
        float_epochs=float_epochs,
        patience=3,
        learning_rate=exponential_decay(0.0005, 0.4),
        float_learning_rate=warm_up_then_cosine(0.0015, float_epochs, warm_up_epochs=1),
    )


SMALL = small()
STRONG = strong(SMALL, epochs=1, batch_size=100, learning_rate=lambda epoch: 0.001)
