"""MNIST: twelve families of convolutional networks on handwritten digits."""

from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.placement import Placement

from .recipe import RECIPE, SMALL, STRONG

MODELS = (
    "lenet",
    "alexnet",
    "vgg11",
    "googlenet",
    "resnet18",
    "squeezenet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "shufflenet_v2",
    "efficientnet_b0",
    "mnasnet",
)

BENCHMARK = Benchmark(
    "mnist",
    {
        model: NetworkSpec(
            deferred(f"{__name__}.models:{model}"),
            Placement(signed_input=False),
            recipes={"small": SMALL, "strong": STRONG},
        )
        for model in MODELS
    },
    deferred(f"{__name__}.data:load"),
    RECIPE,
    accuracy_score,
    validation_accuracy,
    download=deferred(f"{__name__}.data:download"),
    npz_files=("mnist.npz",),
)
