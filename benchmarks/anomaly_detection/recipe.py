"""Anomaly detection as published: Adam at its default rate, batch 100, 100 epochs, mean squared error.

``po2quant finetune --benchmark anomaly_detection --weights F --config mpq --alpha auto_po2 --data-dir D``
"""

from po2quant.benchmark import Recipe
from po2quant.training.schedules import constant

RECIPE = Recipe(
    loss="mean_squared_error",
    epochs=100,
    float_epochs=100,
    batch_size=100,
    learning_rate=constant(0.001),
)
