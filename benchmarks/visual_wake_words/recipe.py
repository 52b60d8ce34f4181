"""Visual wake words as published: Adam 0.001 for 20 epochs, 0.0005 for 10, then 0.00025; batch 32.

``po2quant finetune --benchmark visual_wake_words --model mobilenet_v1 --weights F --config mpq
--alpha auto_po2 --data-dir D``. The study trained MobileNetV1 for 90 epochs, the others for 100.
"""

from po2quant.benchmark import Recipe
from po2quant.training.schedules import piecewise

RECIPE = Recipe(
    loss="sparse_categorical_crossentropy",
    epochs=100,
    float_epochs=100,
    batch_size=32,
    learning_rate=piecewise(((0, 0.001), (20, 0.0005), (30, 0.00025))),
    metrics=("accuracy",),
)
