"""Handwritten digits: the embedded default, real data that come with scikit-learn."""

from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.bundled import best_config
from po2quant.placement import Placement

from .recipe import RECIPE

SHARED = f"{__name__.rpartition('.')[0]}.shared"

BENCHMARK = Benchmark(
    "digits",
    {
        "ds_cnn": NetworkSpec(
            deferred(f"{SHARED}.digits.model:ds_cnn"),
            Placement(signed_input=False),
            best_config("digits-ds_cnn"),
            {"small": RECIPE},
        )
    },
    deferred(f"{__name__}.data:load"),
    RECIPE,
    accuracy_score,
    validation_accuracy,
)
