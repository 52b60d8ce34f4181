"""Visual wake words: is a person in the picture? MobileNetV1, MobileNetV2 and EfficientNet-B0."""

from po2quant.benchmark import Benchmark, NetworkSpec, accuracy_score, deferred, validation_accuracy
from po2quant.bundled import best_config
from po2quant.placement import Placement

from . import recipe

BENCHMARK = Benchmark(
    "visual_wake_words",
    {
        "mobilenet_v1": NetworkSpec(
            deferred(f"{__name__}.model:mobilenet_v1"),
            Placement(signed_input=False),
            best_config("visual_wake_words-mobilenet_v1"),
            {
                "published": recipe.PUBLISHED_MOBILENET_V1,
                "small": recipe.SMALL_MOBILENET_V1,
                "strong": recipe.STRONG_MOBILENET_V1,
            },
        ),
        "mobilenet_v2": NetworkSpec(
            deferred(f"{__name__}.model:mobilenet_v2"),
            Placement(signed_input=False, requantize_shortcuts=True),
            best_config("visual_wake_words-mobilenet_v2"),
            {"small": recipe.SMALL_MOBILENET_V2, "strong": recipe.STRONG_MOBILENET_V2},
        ),
        "efficientnet_b0": NetworkSpec(
            deferred(f"{__name__}.model:efficientnet_b0"),
            Placement(signed_input=False),
            best_config("visual_wake_words-efficientnet_b0"),
            {"small": recipe.SMALL_EFFICIENTNET_B0, "strong": recipe.STRONG_EFFICIENTNET_B0},
        ),
    },
    deferred(f"{__name__}.data:load"),
    recipe.RECIPE,
    accuracy_score,
    validation_accuracy,
    deferred(f"{__name__}.data:download"),
    deferred(f"{__name__}.synthetic:synthesize"),
    needs_data_dir=True,
)
