"""Anomaly detection: Adam, batch 100, mean squared error.

Published: 0.001 for 100 epochs.
"""

import dataclasses

from po2quant.benchmark import Recipe
from po2quant.training.schedules import constant

RECIPE = Recipe(
    loss="mean_squared_error",
    epochs=100,
    float_epochs=100,
    batch_size=100,
    learning_rate=constant(0.001),
)
SMALL = dataclasses.replace(RECIPE, epochs=5, float_epochs=20)
