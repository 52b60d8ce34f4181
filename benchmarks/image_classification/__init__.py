"""Image classification: ResNet8 on CIFAR-10."""

from benchmarks.image_classification.recipe import RECIPE, SMALL, STRONG
from benchmarks.shared.published import mpq_config
from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.placement import Placement

BENCHMARK = Benchmark(
    "image_classification",
    {
        "resnet8": NetworkSpec(
            deferred("benchmarks.image_classification.model:resnet8"),
            Placement(signed_input=False),
            mpq_config("image_classification-resnet8"),
            {"small": SMALL, "strong": STRONG},
        )
    },
    deferred("benchmarks.image_classification.data:load"),
    RECIPE,
    accuracy_score,
    validation_accuracy,
    download=deferred("benchmarks.image_classification.data:download"),
    synthesize=deferred("benchmarks.image_classification.synthetic:synthesize"),
    needs_data_dir=True,
)
