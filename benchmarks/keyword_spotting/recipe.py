"""Keyword spotting: Adam, batch 100.

Published: 0.00025 for 70 epochs (50 for flat configurations: ``--epochs 50``).

Small: ``po2quant finetune --benchmark keyword_spotting --weights kws_ds_cnn.h5 --preset small --config mpq --data-dir
speech_commands_v2_subset.zip`` takes 15 s of training on 2 cores and reaches 93.7 % on 1028 test clips (float 93.4 %).
"""

import dataclasses

from po2quant.benchmark import Recipe
from po2quant.training.schedules import constant, exponential_decay

from ..shared.few_bits import strong

RECIPE = Recipe(
    loss="sparse_categorical_crossentropy",
    epochs=70,
    float_epochs=70,
    batch_size=100,
    learning_rate=constant(0.00025),
    metrics=("accuracy",),
)
SMALL = dataclasses.replace(RECIPE, epochs=5, float_epochs=40, float_learning_rate=exponential_decay(0.003, 0.93))
STRONG = strong(SMALL, epochs=12, learning_rate=constant(0.001))
