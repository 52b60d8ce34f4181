"""Image classification: Adam.

Published: 0.001 * 0.99**epoch, batch 30, 500 epochs. The small preset fine-tunes at a fiftieth of that: the inputs are
raw pixels, and once BatchNorm is folded, a step of 0.0005 in every weight moves a first unit by 27 * 128 * 0.0005 =
1.7. The network then falls to 30 % in an epoch.

Small: ``po2quant finetune --benchmark image_classification --weights ic_resnet8.h5 --preset small --config flat16
--data-dir cifar10_jpeg.zip`` takes half a minute of training on 2 cores: 78.7 % of 5000 test pictures (float 75.6 %).

Strong trains centred, which bears fifteen times the rate of the small preset (``docs/low-bits.md``). Five epochs of
27000 pictures take ten minutes of one thread.
"""

import dataclasses

from po2quant.benchmark import Recipe
from po2quant.training.schedules import constant, exponential_decay

from ..shared.few_bits import strong

RECIPE = Recipe(
    loss="sparse_categorical_crossentropy",
    epochs=500,
    float_epochs=500,
    batch_size=30,
    learning_rate=exponential_decay(0.001, 0.99),
    metrics=("accuracy",),
)
SMALL = dataclasses.replace(
    RECIPE,
    epochs=1,
    float_epochs=30,
    batch_size=100,
    learning_rate=constant(0.00002),
    float_learning_rate=exponential_decay(0.002, 0.9),
)
STRONG = strong(SMALL, epochs=5, learning_rate=constant(0.0003), averaging=0.0, centred=True)
