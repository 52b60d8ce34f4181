"""Anomaly detection: a fully connected auto-encoder on the sounds of toy cars."""

from po2quant.benchmark import Benchmark, NetworkSpec, deferred, inverse_loss
from po2quant.bundled import best_config
from po2quant.placement import Placement

from .recipe import RECIPE, SMALL, STRONG

BENCHMARK = Benchmark(
    "anomaly_detection",
    {
        "autoencoder": NetworkSpec(
            deferred(f"{__name__}.model:autoencoder"),
            Placement(),
            best_config("anomaly_detection-autoencoder"),
            {"small": SMALL, "strong": STRONG},
        )
    },
    deferred(f"{__name__}.data:load"),
    RECIPE,
    deferred(f"{__name__}.score:auc_score"),
    inverse_loss,
    download=deferred(f"{__name__}.data:download"),
    synthesize=deferred(f"{__name__}.synthetic:synthesize"),
    needs_data_dir=True,
)
