"""Keyword spotting: DS-CNN on 12 classes of Speech Commands V2."""

from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.bundled import best_config
from po2quant.placement import Placement

from .recipe import RECIPE, SMALL, STRONG

BENCHMARK = Benchmark(
    "keyword_spotting",
    {
        "ds_cnn": NetworkSpec(
            deferred(f"{__name__}.model:ds_cnn"),
            Placement(),
            best_config("keyword_spotting-ds_cnn"),
            {"small": SMALL, "strong": STRONG},
        )
    },
    deferred(f"{__name__}.data:load"),
    RECIPE,
    accuracy_score,
    validation_accuracy,
    deferred(f"{__name__}.official:download"),
    deferred(f"{__name__}.synthetic:synthesize"),
    needs_data_dir=True,
)
