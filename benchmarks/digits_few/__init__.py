"""Handwritten digits with few labels: real data that come with scikit-learn, 1080 of 1797 for the test."""

from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred
from po2quant.placement import Placement

from .recipe import RECIPE, mean_probability

SHARED = f"{__name__.rpartition('.')[0]}.shared"

BENCHMARK = Benchmark(
    "digits_few",
    {
        "ds_cnn": NetworkSpec(
            deferred(f"{SHARED}.digits.model:ds_cnn"), Placement(signed_input=False), recipes={"small": RECIPE}
        )
    },
    deferred(f"{__name__}.data:load"),
    RECIPE,
    accuracy_score,
    mean_probability,
)
