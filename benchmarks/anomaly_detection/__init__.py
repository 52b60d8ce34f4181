"""Anomaly detection: a fully connected auto-encoder on the sounds of toy cars."""

from benchmarks.anomaly_detection.data import download, load
from benchmarks.anomaly_detection.model import autoencoder
from benchmarks.anomaly_detection.recipe import RECIPE, SMALL
from benchmarks.anomaly_detection.score import auc_score
from benchmarks.anomaly_detection.synthetic import synthesize
from benchmarks.published import mpq_config
from po2quant.benchmark import Benchmark, NetworkSpec, inverse_loss
from po2quant.network import Placement

BENCHMARK = Benchmark(
    "anomaly_detection",
    {
        "autoencoder": NetworkSpec(
            autoencoder, Placement(), mpq_config("anomaly_detection-autoencoder"), {"small": SMALL}
        )
    },
    load,
    RECIPE,
    auc_score,
    inverse_loss,
    download=download,
    synthesize=synthesize,
)
