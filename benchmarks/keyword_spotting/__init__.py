"""Keyword spotting: DS-CNN on 12 classes of Speech Commands V2."""

from benchmarks.keyword_spotting.recipe import RECIPE, SMALL, STRONG
from benchmarks.shared.published import mpq_config
from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.placement import Placement

BENCHMARK = Benchmark(
    "keyword_spotting",
    {
        "ds_cnn": NetworkSpec(
            deferred("benchmarks.keyword_spotting.model:ds_cnn"),
            Placement(),
            mpq_config("keyword_spotting-ds_cnn"),
            {"small": SMALL, "strong": STRONG},
        )
    },
    deferred("benchmarks.keyword_spotting.data:load"),
    RECIPE,
    accuracy_score,
    validation_accuracy,
    deferred("benchmarks.keyword_spotting.official:download"),
    deferred("benchmarks.keyword_spotting.synthetic:synthesize"),
    needs_data_dir=True,
)
