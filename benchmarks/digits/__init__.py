"""Handwritten digits: the embedded default, real data that come with scikit-learn."""

from benchmarks.digits.recipe import RECIPE
from benchmarks.shared.published import mpq_config
from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.placement import Placement

BENCHMARK = Benchmark(
    "digits",
    {
        "ds_cnn": NetworkSpec(
            deferred("benchmarks.digits.model:ds_cnn"),
            Placement(signed_input=False),
            mpq_config("digits-ds_cnn"),
            {"small": RECIPE},
        )
    },
    deferred("benchmarks.digits.data:load"),
    RECIPE,
    accuracy_score,
    validation_accuracy,
)
