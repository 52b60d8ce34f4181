"""Handwritten digits: the embedded default, real data that come with scikit-learn."""

from benchmarks.digits.data import load
from benchmarks.digits.model import ds_cnn
from benchmarks.digits.recipe import RECIPE
from benchmarks.published import mpq_config
from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, validation_accuracy
from po2quant.network import Placement

BENCHMARK = Benchmark(
    "digits",
    {"ds_cnn": NetworkSpec(ds_cnn, Placement(signed_input=False), mpq_config("digits-ds_cnn"), {"small": RECIPE})},
    load,
    RECIPE,
    accuracy_score,
    validation_accuracy,
)
