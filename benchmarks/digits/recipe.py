"""Digits: ``scripts/finetune.sh`` without arguments.

The float network reaches 98.1 % on the 360 test samples (seed 0) in half a minute on 2 cores.
"""

from po2quant.benchmark import Recipe
from po2quant.training.schedules import exponential_decay

RECIPE = Recipe(
    loss="sparse_categorical_crossentropy",
    epochs=15,
    float_epochs=60,
    batch_size=32,
    learning_rate=exponential_decay(0.002, 0.8),
    metrics=("accuracy",),
    float_learning_rate=exponential_decay(0.004, 0.95),
)
