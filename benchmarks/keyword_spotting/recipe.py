"""Keyword spotting as published: Adam 0.00025, batch 100, 70 epochs (50 for flat configurations).

``po2quant finetune --benchmark keyword_spotting --weights F --config mpq --alpha auto_po2 --data-dir D``
"""

from po2quant.benchmark import Recipe
from po2quant.training.schedules import constant

RECIPE = Recipe(
    loss="sparse_categorical_crossentropy",
    epochs=70,
    float_epochs=70,
    batch_size=100,
    learning_rate=constant(0.00025),
    metrics=("accuracy",),
)
