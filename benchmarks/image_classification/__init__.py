"""Image classification: ResNet8 on CIFAR-10."""

from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.bundled import best_config
from po2quant.placement import Placement

from .recipe import RECIPE, SMALL, STRONG

BENCHMARK = Benchmark(
    "image_classification",
    {
        "resnet8": NetworkSpec(
            deferred(f"{__name__}.model:resnet8"),
            Placement(signed_input=False),
            best_config("image_classification-resnet8"),
            {"small": SMALL, "strong": STRONG},
        )
    },
    deferred(f"{__name__}.data:load"),
    RECIPE,
    accuracy_score,
    validation_accuracy,
    download=deferred(f"{__name__}.data:download"),
    synthesize=deferred(f"{__name__}.synthetic:synthesize"),
    needs_data_dir=True,
)
