"""Keyword spotting: DS-CNN on 12 classes of Speech Commands V2."""

from benchmarks.keyword_spotting.data import load
from benchmarks.keyword_spotting.model import ds_cnn
from benchmarks.keyword_spotting.official import download
from benchmarks.keyword_spotting.recipe import RECIPE, SMALL
from benchmarks.keyword_spotting.synthetic import synthesize
from benchmarks.published import mpq_config
from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, validation_accuracy
from po2quant.network import Placement

BENCHMARK = Benchmark(
    "keyword_spotting",
    {"ds_cnn": NetworkSpec(ds_cnn, Placement(), mpq_config("keyword_spotting-ds_cnn"), {"small": SMALL})},
    load,
    RECIPE,
    accuracy_score,
    validation_accuracy,
    download,
    synthesize,
)
