"""Image classification: ResNet8 on CIFAR-10."""

from benchmarks.image_classification.data import download, load
from benchmarks.image_classification.model import resnet8
from benchmarks.image_classification.recipe import RECIPE, SMALL
from benchmarks.image_classification.synthetic import synthesize
from benchmarks.published import mpq_config
from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, validation_accuracy
from po2quant.network import Placement

BENCHMARK = Benchmark(
    "image_classification",
    {
        "resnet8": NetworkSpec(
            resnet8, Placement(signed_input=False), mpq_config("image_classification-resnet8"), {"small": SMALL}
        )
    },
    load,
    RECIPE,
    accuracy_score,
    validation_accuracy,
    download=download,
    synthesize=synthesize,
)
