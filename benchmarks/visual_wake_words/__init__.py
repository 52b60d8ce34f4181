"""Visual wake words: is a person in the picture? MobileNetV1, MobileNetV2 and EfficientNet-B0."""

from benchmarks.published import mpq_config
from benchmarks.visual_wake_words import recipe
from benchmarks.visual_wake_words.data import download, load
from benchmarks.visual_wake_words.model import efficientnet_b0, mobilenet_v1, mobilenet_v2
from benchmarks.visual_wake_words.synthetic import synthesize
from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, validation_accuracy
from po2quant.network import Placement

BENCHMARK = Benchmark(
    "visual_wake_words",
    {
        "mobilenet_v1": NetworkSpec(
            mobilenet_v1,
            Placement(signed_input=False),
            mpq_config("visual_wake_words-mobilenet_v1"),
            {"published": recipe.PUBLISHED_MOBILENET_V1, "small": recipe.SMALL_MOBILENET_V1},
        ),
        "mobilenet_v2": NetworkSpec(
            mobilenet_v2,
            Placement(signed_input=False, requantize_shortcuts=True),
            mpq_config("visual_wake_words-mobilenet_v2"),
            {"small": recipe.SMALL_MOBILENET_V2},
        ),
        "efficientnet_b0": NetworkSpec(
            efficientnet_b0,
            Placement(signed_input=False),
            mpq_config("visual_wake_words-efficientnet_b0"),
            {"small": recipe.SMALL_EFFICIENTNET_B0},
        ),
    },
    load,
    recipe.RECIPE,
    accuracy_score,
    validation_accuracy,
    download,
    synthesize,
)
