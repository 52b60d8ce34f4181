"""Anomaly detection: Adam, batch 100, mean squared error.

Published: 0.001 for 100 epochs. The small preset fine-tunes at a hundredth of that: the inputs are raw decibels around
-50, and once BatchNorm is folded, a step of 0.001 in every weight moves a hidden unit by 640 * 50 * 0.001 = 32. The
network then stays at the mean spectrum (AUC 0.67).

Small: ``po2quant finetune --benchmark anomaly_detection --weights ad_autoencoder.h5 --preset small --config flat16
--data-dir D`` with the .npz subset takes 1 minute of training on 2 cores: AUC 0.866 (float 0.865).

Strong trains centred, which bears a hundred times the rate of the small preset, on the float network's outputs. An
epoch of the subset takes 10 seconds of one thread.
"""

import dataclasses

from po2quant.benchmark import Recipe
from po2quant.training.schedules import constant, exponential_decay

from ..shared.few_bits import strong

RECIPE = Recipe(
    loss="mean_squared_error",
    epochs=100,
    float_epochs=100,
    batch_size=100,
    learning_rate=constant(0.001),
)
SMALL = dataclasses.replace(
    RECIPE,
    epochs=5,
    float_epochs=20,
    learning_rate=exponential_decay(0.00001, 0.7),
    float_learning_rate=constant(0.001),
)
STRONG = strong(
    SMALL,
    epochs=10,
    batch_size=256,
    learning_rate=constant(0.001),
    averaging=0.0,
    activation_alpha=None,
    centred=True,
    distillation=1.0,
    exponent_interval=8,
)
