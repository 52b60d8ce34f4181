"""Image classification as published: Adam 0.001 * 0.99**epoch, batch 30, 500 epochs.

``po2quant finetune --benchmark image_classification --weights F --config mpq --alpha auto_po2 --data-dir D``
"""

from po2quant.benchmark import Recipe
from po2quant.training.schedules import exponential_decay

RECIPE = Recipe(
    loss="sparse_categorical_crossentropy",
    epochs=500,
    float_epochs=500,
    batch_size=30,
    learning_rate=exponential_decay(0.001, 0.99),
    metrics=("accuracy",),
)
