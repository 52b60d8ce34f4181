"""Anomaly detection: a fully connected auto-encoder on the sounds of toy cars."""

from benchmarks.anomaly_detection.recipe import RECIPE, SMALL, STRONG
from benchmarks.shared.published import mpq_config
from po2quant.benchmark import Benchmark, NetworkSpec, deferred, inverse_loss
from po2quant.placement import Placement

BENCHMARK = Benchmark(
    "anomaly_detection",
    {
        "autoencoder": NetworkSpec(
            deferred("benchmarks.anomaly_detection.model:autoencoder"),
            Placement(),
            mpq_config("anomaly_detection-autoencoder"),
            {"small": SMALL, "strong": STRONG},
        )
    },
    deferred("benchmarks.anomaly_detection.data:load"),
    RECIPE,
    deferred("benchmarks.anomaly_detection.score:auc_score"),
    inverse_loss,
    download=deferred("benchmarks.anomaly_detection.data:download"),
    synthesize=deferred("benchmarks.anomaly_detection.synthetic:synthesize"),
    needs_data_dir=True,
)
