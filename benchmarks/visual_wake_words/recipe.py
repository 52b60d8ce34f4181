"""Visual wake words: Adam, batch 32.

Published: 0.001 for 20 epochs, 0.0005 for 10, then 0.00025; 90 epochs for MobileNetV1, 100 for the others.

Small: ``po2quant finetune --benchmark visual_wake_words --weights vww_mobilenet_v1.h5 --preset small --config flat16
--data-dir person_96.zip`` takes 2 minutes of training on 2 cores: 99.0 % of 1255 test pictures (float 81.3 %, which has
not seen this source of pictures). MobileNetV2 and EfficientNet-B0 get one epoch, 1.5 and 2.5 minutes.
"""

import dataclasses

from po2quant.benchmark import Recipe
from po2quant.training.schedules import constant, exponential_decay, piecewise

from ..shared.few_bits import strong

RECIPE = Recipe(
    loss="sparse_categorical_crossentropy",
    epochs=100,
    float_epochs=100,
    batch_size=32,
    learning_rate=piecewise(((0, 0.001), (20, 0.0005), (30, 0.00025))),
    metrics=("accuracy",),
)
PUBLISHED_MOBILENET_V1 = dataclasses.replace(RECIPE, epochs=90, float_epochs=90)
SMALL_MOBILENET_V1 = dataclasses.replace(
    RECIPE,
    epochs=5,
    float_epochs=20,
    learning_rate=exponential_decay(0.0005, 0.7),
    float_learning_rate=exponential_decay(0.001, 0.85),
)
STRONG_MOBILENET_V1 = strong(SMALL_MOBILENET_V1, learning_rate=constant(0.0005))
SMALL_MOBILENET_V2 = dataclasses.replace(
    RECIPE,
    epochs=1,
    float_epochs=11,
    learning_rate=constant(0.00005),
    float_learning_rate=exponential_decay(0.001, 0.8),
)
STRONG_MOBILENET_V2 = strong(SMALL_MOBILENET_V2, epochs=5, learning_rate=constant(0.0005))
SMALL_EFFICIENTNET_B0 = dataclasses.replace(
    SMALL_MOBILENET_V2, float_epochs=4, float_learning_rate=exponential_decay(0.001, 0.7)
)
STRONG_EFFICIENTNET_B0 = strong(SMALL_EFFICIENTNET_B0, epochs=5, learning_rate=constant(0.0005))
