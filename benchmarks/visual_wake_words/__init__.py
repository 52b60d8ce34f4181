"""Visual wake words: is a person in the picture? MobileNetV1, MobileNetV2 and EfficientNet-B0."""

from benchmarks.shared.published import mpq_config
from benchmarks.visual_wake_words import recipe
from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.placement import Placement

BENCHMARK = Benchmark(
    "visual_wake_words",
    {
        "mobilenet_v1": NetworkSpec(
            deferred("benchmarks.visual_wake_words.model:mobilenet_v1"),
            Placement(signed_input=False),
            mpq_config("visual_wake_words-mobilenet_v1"),
            {
                "published": recipe.PUBLISHED_MOBILENET_V1,
                "small": recipe.SMALL_MOBILENET_V1,
                "strong": recipe.STRONG_MOBILENET_V1,
            },
        ),
        "mobilenet_v2": NetworkSpec(
            deferred("benchmarks.visual_wake_words.model:mobilenet_v2"),
            Placement(signed_input=False, requantize_shortcuts=True),
            mpq_config("visual_wake_words-mobilenet_v2"),
            {"small": recipe.SMALL_MOBILENET_V2},
        ),
        "efficientnet_b0": NetworkSpec(
            deferred("benchmarks.visual_wake_words.model:efficientnet_b0"),
            Placement(signed_input=False),
            mpq_config("visual_wake_words-efficientnet_b0"),
            {"small": recipe.SMALL_EFFICIENTNET_B0},
        ),
    },
    deferred("benchmarks.visual_wake_words.data:load"),
    recipe.RECIPE,
    accuracy_score,
    validation_accuracy,
    deferred("benchmarks.visual_wake_words.data:download"),
    deferred("benchmarks.visual_wake_words.synthetic:synthesize"),
    needs_data_dir=True,
)
