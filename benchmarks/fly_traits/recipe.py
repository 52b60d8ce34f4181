"""The classifier of traits: Adam along a cosine. ``staged`` trains the float network better, in stages."""

from po2quant.benchmark import Recipe
from po2quant.training.schedules import constant, cosine, exponential_decay

from .score import loss, trait_accuracy

RECIPE = Recipe(
    loss=loss,
    epochs=3,
    float_epochs=16,
    batch_size=64,
    learning_rate=constant(5e-4),
    metrics=(trait_accuracy,),
    float_learning_rate=exponential_decay(2e-3, 0.85),
    annealing=cosine(warm_up=0.1),
)
